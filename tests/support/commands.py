# SPDX-License-Identifier: MIT
"""Commands of ``python -m freewire``, run in this process."""

from __future__ import annotations

import json

import pytest

from freewire import cli


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    try:
        code = cli.main(arguments)
    except SystemExit as end:  # argparse's way
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    assert "Traceback" not in err
    return code, out, err


def run_json(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    """The object that a command prints with ``--json``."""
    code, out, err = run(capsys, *arguments, "--json")
    assert (code, err) == (0, "")
    return json.loads(out, parse_constant=pytest.fail)  # no NaN, which other readers refuse

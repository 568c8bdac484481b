# SPDX-License-Identifier: MIT
"""The example that tells three learning rates apart, in a small form."""

from __future__ import annotations

import re

import matplotlib.image
import pytest
from matplotlib.figure import Figure

import freewire as fw
from tests.support.examples import imported

pytestmark = pytest.mark.usefixtures("one_thread")


def test_three_learning_rates(tmp_path, capsys, monkeypatch):
    with imported("diagnostics") as example:
        monkeypatch.setattr(example, "HIDDEN", 60)
        monkeypatch.setattr(example, "EVERY", 5)
        monkeypatch.setattr(fw.studies.Diagnostics, "plot", lambda self: Figure(figsize=(2, 1)))  # tested elsewhere
        example.main(["--epochs", "2", "--out", str(tmp_path / "made")])
        printed = capsys.readouterr().out
        with pytest.raises(SystemExit):
            example.main(["--epochs", "0", "--out", str(tmp_path)])
        assert "--epochs: expected at least 1, got 0." in capsys.readouterr().err
    lines = re.findall(r"^(\S+) +(too small|right|too large) +(-?\d+\.\d+) ", printed, re.MULTILINE)
    lengths = {name: float(length) for _, name, length in lines}
    assert list(lengths) == ["too small", "right", "too large"]
    assert lengths["too small"] < -0.98 < lengths["right"] < lengths["too large"]
    assert "the learning rate could be larger." in printed
    assert {path.name for path in (tmp_path / "made").iterdir()} == {
        "diagnostics.png",
        *(f"{name}.{kind}" for name in ("too-small", "right", "too-large") for kind in ("png", "jsonl")),
    }
    assert matplotlib.image.imread(tmp_path / "made" / "diagnostics.png").shape[1] > 1000
    steps = [record["step"] for record in fw.studies.read_diagnostics(tmp_path / "made" / "right.jsonl")]
    assert steps == list(range(0, 46, 5))

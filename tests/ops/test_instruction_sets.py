# SPDX-License-Identifier: MIT
"""The CPU kernels for narrower instruction sets than this processor's best: the operators' tests of values, once more.

One process for each set runs the tests of all operators, since a process takes seconds to start.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

#: Of each file, a ``-k`` expression that selects what depends on the instruction set.
CHOSEN = {
    "test_ops.py": "TestForward and not opcheck or TestBackward and (every_row_width or matches or bits)",
    "test_special_values.py": "cpu",
    "test_gated_sum.py": "matches or bits or nan",
    "test_gated_depthwise.py": "matches or bit or nan",
    "test_stage.py": "matches or bit or nan or padding",
}


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["base", "avx2"])
def test_values_and_gradients(isa: str) -> None:
    """A set that the processor does not have changes nothing."""
    here = Path(__file__).parent
    devices = "(cpu or not (simt or streamed or cuda))"
    chosen = " or ".join(f"{Path(name).stem} and ({which})" for name, which in CHOSEN.items())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--override-ini=addopts="]
    done = subprocess.run(
        [*command, "-k", f"{devices} and ({chosen})", *(str(here / name) for name in CHOSEN)],
        env={**os.environ, "FREEWIRE_ISA": isa},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout[-3000:]

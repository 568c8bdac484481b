# SPDX-License-Identifier: MIT
"""Damaged files of every format are read or refused, within limits of time and memory.

A failure prints its seed: ``FREEWIRE_MUTATIONS_SEED=... pytest -m nightly tests/nn/test_mutated_files.py`` repeats it.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest

from tests.support.native import ROOT


@pytest.mark.nightly
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_damaged_files_are_read_or_refused(tmp_path):
    seed = os.environ.get("FREEWIRE_MUTATIONS_SEED") or str(random.SystemRandom().randrange(10**9))
    command = [sys.executable, "-m", "tests.support.mutated", str(tmp_path), seed, "2000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, f"seed {seed}\n{done.stdout[-5000:]}\n{done.stderr[-2000:]}"

# SPDX-License-Identifier: MIT
"""The system is asked for huge pages where a result on the CPU is large, and only there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import freewire as fw
from tests.support.native import ROOT


def flags(address: int) -> list[str]:
    """The system's flags of the mapping that an address is in."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first, *rest = line.split()
        if not first.endswith(":"):
            begin, end = (int(bound, 16) for bound in first.split("-"))
            inside = begin <= address < end
        elif inside and first == "VmFlags:":
            return rest
    raise AssertionError(f"no mapping has {address:#x}")


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
@pytest.mark.parametrize("megabytes", [8, 80])
def test_of_a_tape(megabytes: int) -> None:
    # In a process of its own: memory that a library once asked huge pages for stays so when it is used again.
    program = f"from tests.ops import test_huge_pages; test_huge_pages.check_tape({megabytes})"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120, cwd=ROOT)


def check_tape(megabytes: int) -> None:
    """Whether huge pages are asked for the tape, which is so from 32 MB on."""
    net = fw.Network(fw.generators.mlp([7, 8, 1]))
    x = torch.zeros(megabytes * 2**20 // (4 * net.plan.tape_rows), 7)
    weight, bias, words = net.weight.detach(), net.bias.detach(), net._placed.words
    _, tape = torch.ops.freewire.forward(x, weight, bias, words, None, 1, net.plan.tape_rows)
    assert tape.nbytes == pytest.approx(megabytes * 2**20, rel=0.01)
    assert ("hg" in flags(tape.data_ptr() + tape.nbytes // 2)) == (megabytes == 80)

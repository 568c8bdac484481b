# SPDX-License-Identifier: MIT
"""The system is asked for huge pages where a result on the CPU is large, and only there."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import freewire as fw


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
    net = fw.Network(fw.generators.mlp([7, 8, 1]))
    x = torch.zeros(megabytes * 2**20 // (4 * net.plan.tape_rows), 7)
    weight, bias, words = net.weight.detach(), net.bias.detach(), net._placed.words
    _, tape = torch.ops.freewire.forward(x, weight, bias, words, None, 1, net.plan.tape_rows)
    assert tape.nbytes == pytest.approx(megabytes * 2**20, rel=0.01)
    assert ("hg" in flags(tape.data_ptr() + tape.nbytes // 2)) == (megabytes == 80)

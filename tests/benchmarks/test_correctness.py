# SPDX-License-Identifier: MIT
"""benchmarks/harness: `check` rejects wrong results, `interleave` alternates the tasks, `peak_bytes` counts memory."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

import freewire as fw
from benchmarks.harness.correctness import WrongResultError, Yardstick, check
from benchmarks.harness.memory import peak_bytes
from benchmarks.harness.timing import interleave
from tests.support.benchmark_networks import BATCH, mixed_network


class TestCheck:
    """The candidate is freewire itself, broken in one way at a time."""

    @pytest.fixture
    def yardstick(self) -> Yardstick:
        return Yardstick.of(mixed_network(), BATCH)

    @staticmethod
    def gradients(net: fw.Network) -> tuple[Tensor, Tensor]:
        assert net.weight.grad is not None
        assert net.bias is not None
        assert net.bias.grad is not None
        return net.weight.grad, net.bias.grad

    def test_network_itself_passes(self, yardstick: Yardstick) -> None:
        check("freewire", lambda net: net, self.gradients, yardstick)

    @pytest.mark.parametrize("which", [0, 1])
    @pytest.mark.parametrize("value", [0.0, math.nan])
    def test_wrong_gradient_is_caught(self, yardstick: Yardstick, which: int, value: float) -> None:
        def gradients(net: fw.Network) -> tuple[Tensor, Tensor]:
            got = self.gradients(net)
            got[which][0] = value
            return got

        what = ("weight", "bias")[which]
        with pytest.raises(WrongResultError, match=f"the reference's gradient of {what}"):
            check("broken", lambda net: net, gradients, yardstick)

    def test_missing_gradient_of_x_is_caught(self, yardstick: Yardstick) -> None:
        class Detached(nn.Module):
            def __init__(self, net: fw.Network) -> None:
                super().__init__()
                self.net = net

            def forward(self, x: Tensor) -> Tensor:
                y: Tensor = self.net(x.detach()) + 0 * x.sum()
                return y

        with pytest.raises(WrongResultError, match="the reference's gradient of x"):
            check("broken", Detached, lambda peer: self.gradients(peer.net), yardstick)

    def test_samples_that_affect_one_another_are_caught(self) -> None:
        class Leaking(nn.Module):
            def __init__(self, net: fw.Network) -> None:
                super().__init__()
                self.net = net

            def forward(self, x: Tensor) -> Tensor:
                y: Tensor = self.net(x) + 1e-14 * x.mean(0, keepdim=True)
                return y

        with pytest.raises(WrongResultError, match="expected zero gradients of samples that the loss does not read"):
            check("broken", Leaking, lambda peer: self.gradients(peer.net), Yardstick.of(mixed_network(), 100))

    def test_wrong_float32_is_caught(self, yardstick: Yardstick) -> None:
        def rounded(net: fw.Network) -> fw.Network:
            if net.weight.dtype == torch.float32:
                with torch.no_grad():
                    net.weight.copy_(net.weight.bfloat16())
            return net

        with pytest.raises(WrongResultError, match=r"outputs within .* in torch.float32"):
            check("broken", rounded, self.gradients, yardstick)


def test_tasks_alternate() -> None:
    turns: list[str] = []
    timings = interleave(
        {"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, rounds=6, threads=1, block=1e-4
    )
    assert [timing.runs for timing in timings.values()] == [6, 6]
    for timing in timings.values():
        assert 0 < timing.fastest <= timing.median
        assert timing.iqr >= 0
    changes = sum(one != other for one, other in itertools.pairwise(turns))
    assert changes >= 6


def test_peak_memory_counts_simultaneous_tensors() -> None:
    a = torch.zeros(1000)
    once, twice = peak_bytes(lambda: a * a), peak_bytes(lambda: (a * a) * (a * a))
    assert 4000 <= once < 4500
    assert 12000 <= twice < 12500

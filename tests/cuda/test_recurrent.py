# SPDX-License-Identifier: MIT
"""`fw.Recurrent` by the CUDA operators of sequences, against those of the CPU; on the CPU shim, and on a GPU.

csrc/cuda/network/sequence.h has the operators.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

import freewire as fw
from freewire.ops.sequence import sequence_reference
from tests.support import simt_torch
from tests.support.graphs import RECURRENT, recurrent_graph
from tests.support.tensors import DTYPES, NARROW, assert_same_bits, assert_within

anywhere = pytest.mark.parametrize("device", ["simt", "cuda"], indirect=True)
#: Steps and samples.
CALLS = ((5, 33), (1, 70), (0, 3), (5, 1), (3, 0))

GRAPHS = {
    "stored": RECURRENT,
    "drawn": recurrent_graph(0),
    "chains": recurrent_graph(1, num_nodes=12, num_edges=20),
    "dense": recurrent_graph(2, num_nodes=20, num_edges=600, longest=1),
    # No states at all, and no results besides what the next step reads.
    "no_delays": fw.Graph.from_edges([0, 0, 1], [1, 2, 2], outputs=[2], delay=0, activation="tanh"),
    "loop": fw.Graph.from_edges([0, 1, 1], [1, 1, 2], outputs=[1, 2], delay=[0, 1, 1], activation="tanh"),
}


class Call(NamedTuple):
    """A network, and the arguments of a forward and a backward."""

    net: fw.Recurrent
    x: Tensor
    h: Tensor
    grad_y: Tensor
    grad_h: Tensor

    def to(self, target: torch.device | torch.dtype | str) -> Call:
        return Call(copy.deepcopy(self.net).to(target), *(tensor.to(target) for tensor in self[1:]))


def call_of(
    graph: str, dtype: torch.dtype, steps: int, batch: int, every: int | None = None, learn_leak: bool = True
) -> Call:
    torch.manual_seed(0)
    g = GRAPHS[graph]
    net = fw.Recurrent(g, learn_leak=learn_leak and g.leak is not None, checkpoint_every=every, dtype=torch.float64)
    if g.weight is None:
        with torch.no_grad():
            net.weight.normal_()
            net.bias.normal_(std=0.5)  # type: ignore[union-attr]
    net.to(dtype)
    generator = torch.Generator().manual_seed(1)
    shapes = (
        (steps, batch, len(g.inputs)),
        (batch, net.num_states),
        (steps, batch, len(g.outputs)),
        (batch, net.num_states),
    )
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    return Call(net, *tensors)


def results(call: Call) -> dict[str, Tensor]:
    """y and h without gradients, the same with them, and all gradients."""
    net, x, h, grad_y, grad_h = call
    with torch.no_grad():
        plain_y, plain_h = net(x, h)
    x, h = x.detach().requires_grad_(), h.detach().requires_grad_()
    y, last = net(x, h)
    leaves = {"x": x, "h": h, **dict(net.named_parameters())}
    grads = torch.autograd.grad((y, last), list(leaves.values()), (grad_y, grad_h), allow_unused=True)
    found = {"inference y": plain_y, "inference h": plain_h, "y": y.detach(), "last h": last.detach()}
    return found | {
        f"grad of {name}": torch.zeros_like(leaf) if grad is None else grad
        for (name, leaf), grad in zip(leaves.items(), grads, strict=True)
    }


@cache
def wanted(graph: str, dtype: torch.dtype, steps: int, batch: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The results of the CPU's operators: exactly, and in a type. 16 bits round each value, so there they are one."""
    call = call_of(graph, dtype, steps, batch)
    rough = results(call)
    if dtype in NARROW:
        return {name: value.double() for name, value in rough.items()}, rough
    return results(call.to(torch.float64)), rough


def assert_right(found: dict[str, Tensor], graph: str, dtype: torch.dtype, steps: int, batch: int) -> None:
    exact, rough = wanted(graph, dtype, steps, batch)
    assert found.keys() == exact.keys()
    for name, got in found.items():
        assert_within(got.cpu(), exact[name], rough[name], f"{graph}, {steps} steps of {batch}: {name}")


@pytest.fixture(scope="module", autouse=True)
def _expected(one_thread: None) -> Iterator[None]:
    """The CPU's results, before the CUDA operators take their place on the shim."""
    for graph in GRAPHS:
        for dtype in DTYPES:
            for steps, batch in CALLS:
                wanted(graph, dtype, steps, batch)
    wanted("stored", torch.float32, 2, 2100)
    wanted("drawn", torch.bfloat16, 2, 2100)
    yield
    wanted.cache_clear()


@anywhere
class TestResults:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize(
        ("tile", "every"), [("0", None), ("0", 3), ("2", 1), ("8", None), ("8", 3), ("32", None), ("32", 1)]
    )
    def test_they_are_the_cpus(
        self, device: str, dtype: torch.dtype, tile: str, every: int | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)
        for graph in GRAPHS if dtype == torch.float32 else ("stored", "drawn"):
            for steps, batch in CALLS:
                found = results(call_of(graph, dtype, steps, batch, every).to(device))
                assert_right(found, graph, dtype, steps, batch)

    @pytest.mark.parametrize("tile", ["0", "16"])
    @pytest.mark.parametrize(("graph", "dtype"), [("stored", torch.float32), ("drawn", torch.bfloat16)], ids=str)
    def test_a_second_slice_of_weight_gradients(
        self, device: str, graph: str, dtype: torch.dtype, tile: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)
        assert_right(results(call_of(graph, dtype, 2, 2100).to(device)), graph, dtype, 2, 2100)

    @pytest.mark.parametrize("tile", ["0", "8"])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_gradients_that_are_not_wanted_change_no_other(
        self, device: str, dtype: torch.dtype, tile: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)
        net, x, h, grad_y, grad_h = call_of("drawn", dtype, 4, 33, every=3).to(device)
        leaves = {"x": x.requires_grad_(), "h": h.requires_grad_(), "weight": net.weight, "bias": net.bias}

        def gradients(names: tuple[str, ...]) -> list[Tensor]:
            for name, leaf in leaves.items():
                leaf.requires_grad_(name in names)
            return list(torch.autograd.grad(net(x, h), [leaves[name] for name in names], (grad_y, grad_h)))

        every = dict(zip(leaves, gradients(tuple(leaves)), strict=True))
        for names in (("x",), ("h",), ("weight", "bias"), ("bias",), ("x", "bias")):
            assert_same_bits(gradients(names), [every[name] for name in names])

    def test_without_a_bias(self, device: str) -> None:
        net = fw.Recurrent(GRAPHS["loop"], bias=False).to(device)
        x = torch.randn(4, 9, 1, device=device, requires_grad=True)
        words = net._placed.words.to(device)
        want, _ = sequence_reference(words, 2)(x, x.new_zeros(9, net.num_states), net.weight)
        y, _ = net(x)
        torch.testing.assert_close(y, want)
        y.sum().backward()
        assert net.weight.grad.isfinite().all()

    def test_the_last_bias_entry_serves_many_nodes(self, device: str) -> None:
        """It is no parameter: a zero that the parts of leaky nodes add. Its gradient is the sum over them."""
        net = fw.Recurrent(GRAPHS["drawn"], dtype=torch.float64)
        plan = net.plan
        served = np.bincount(plan.bias_index, minlength=plan.num_biases)
        assert (served[:-1] <= 1).all()
        assert served[-1] > 2
        generator = torch.Generator().manual_seed(0)
        shapes = ((3, 40, plan.num_features), (40, plan.num_states))
        x, states = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
        parameters = net.step_parameters(net.weight, net.bias)
        leaves = [tensor.detach().requires_grad_() for tensor in (x, states, *parameters)]
        packed = plan.pack()
        words = torch.from_numpy(packed.words)
        y, last = sequence_reference(words, plan.num_results)(*leaves)
        grad_y, grad_last = torch.ones_like(y), torch.ones_like(last)
        want = torch.autograd.grad((y, last), leaves, (grad_y, grad_last))
        x, states, weight, bias, words, grad_y, grad_last = (
            tensor.detach().to(device) for tensor in (*leaves, words, grad_y, grad_last)
        )
        call = (x, states, weight, bias, words, packed.header)
        *_, kept = torch.ops.freewire.sequence(*call, plan.num_results, plan.tape_rows, 0, True)
        found = torch.ops.freewire.sequence_backward(grad_y, grad_last, kept, *call, 0, True, True, True)
        for got, other in zip(found, want, strict=True):
            torch.testing.assert_close(got.cpu(), other)


@anywhere
class TestMemory:
    """What the operators read and write."""

    @pytest.mark.parametrize("tile", ["0", "8"])
    @pytest.mark.parametrize("every", [None, 3])
    def test_what_nothing_wrote_is_not_read(
        self, device: str, every: int | None, tile: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Torch's deterministic mode fills fresh memory with NaN, or with the largest integer."""
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)
        for graph in ("stored", "drawn", "no_delays"):
            for dtype in (torch.float32, torch.bfloat16):
                for steps, batch in ((5, 33), (0, 3), (3, 0)):
                    call = call_of(graph, dtype, steps, batch, every).to(device)
                    want = list(results(call).values())
                    torch.use_deterministic_algorithms(True)
                    try:
                        assert_same_bits(list(results(call).values()), want)
                    finally:
                        torch.use_deterministic_algorithms(False)

    @pytest.mark.parametrize("every", [0, 3])
    def test_all_that_is_kept_is_written(self, device: str, every: int) -> None:
        net, x, h, *_ = call_of("drawn", torch.float32, 5, 33)
        packed, plan = net.plan.pack(), net.plan
        weight, bias = (p.detach().to(device) for p in net.step_parameters(net.weight, net.bias))
        words = torch.from_numpy(packed.words).to(device)
        call = (x.to(device), h.to(device), weight, bias, words, packed.header, plan.num_results, plan.tape_rows)
        torch.use_deterministic_algorithms(True)
        try:
            *_, kept = torch.ops.freewire.sequence(*call, every, True)
        finally:
            torch.use_deterministic_algorithms(False)
        assert kept.shape == (64 * (2 * plan.num_states if every else 5 * plan.tape_rows),)
        assert kept.isfinite().all()

    @pytest.mark.parametrize("tile", ["0", "8"])
    def test_tensors_that_are_not_contiguous(self, device: str, tile: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)
        net, x, h, grad_y, grad_h = call_of("drawn", torch.float32, 5, 33).to(device)
        want = list(results(Call(net, x, h, grad_y, grad_h)).values())

        def odd(tensor: Tensor) -> Tensor:
            return torch.stack((tensor, tensor), -1)[..., 1]

        found = results(Call(net, odd(x), odd(h), odd(grad_y), odd(grad_h)))
        assert_same_bits(list(found.values()), want)


class TestLaunches:
    """On the shim, which counts them."""

    @pytest.fixture
    def count(self) -> Iterator[Callable[[Call], dict[str, int]]]:
        def started(call: Call) -> dict[str, int]:
            before = simt_torch.launches()
            results(call)
            return {name: times - before.get(name, 0) for name, times in simt_torch.launches().items()}

        with simt_torch.played():
            yield started

    @pytest.mark.compiler
    def test_weights_are_packed_once(self, count: Callable[[Call], dict[str, int]]) -> None:
        started = count(call_of("drawn", torch.float32, 5, 33))
        assert started["pack_forward_kernel"] == 2  # without gradients, and with them
        assert started["pack_backward_kernel"] == 1
        assert started["resident_forward_kernel"] == 2 * 5
        assert started["resident_backward_kernel"] == started["edge_gradient_kernel"] == 5
        assert started["pass_states_kernel"] == 2 * 6
        assert started["pass_gradients_kernel"] == 6

    @pytest.mark.compiler
    def test_chunks_run_once_more(self, count: Callable[[Call], dict[str, int]]) -> None:
        started = count(call_of("drawn", torch.float32, 5, 33, every=3))
        assert started["pack_forward_kernel"] == 3
        assert started["resident_forward_kernel"] == 3 * 5

    @pytest.mark.compiler
    @pytest.mark.parametrize("tile", ["0", "8"])
    def test_the_order_of_threads_changes_no_bit(self, tile: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)
        call = call_of("drawn", torch.float32, 5, 70)
        with simt_torch.played():
            want = list(results(call).values())
            with simt_torch.device(seed=7):
                assert_same_bits(list(results(call).values()), want)

# SPDX-License-Identifier: MIT
"""The operators of recurrent networks: checks of torch's own, number of calls, threads, and raw refusals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import freewire as fw
from freewire.ops.sequence import run_sequence, sequence_reference
from tests.support.recurrent import (
    SUMS,
    every_kind,
    own_gradients,
    recurrent,
    sequence_of,
    state_of,
    wired,
)
from tests.support.tensors import DTYPES, assert_same_bits, assert_threads_change_no_bit, op_calls

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = wired(2, num_nodes=9, num_edges=12)
KINDS = every_kind()
TINY = fw.Graph.from_edges(
    [0, 0, 1, 2, 2, 3, 1],
    [1, 2, 2, 1, 3, 3, 3],
    outputs=[2, 3],
    delay=[0, 1, 0, 1, 2, 1, 0],
    leak=[1, 0.5, 1, 0.25],
    activation=["linear", "tanh", "gelu", "sin"],
)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def arguments(net: fw.Recurrent, steps: int, batch: int, every: int = 0) -> tuple[Any, ...]:
    """Of `run_sequence`, detached."""
    placed = net._placed
    with torch.no_grad():
        weight, bias = net.step_parameters(net.weight, net.bias)
    return (
        sequence_of(net, steps, batch),
        state_of(net, batch),
        weight.detach(),
        None if bias is None else bias.detach(),
        placed.words,
        placed.header,
        net.plan.num_results,
        net.plan.tape_rows,
        every,
    )


def backward_arguments(net: fw.Recurrent, steps: int, batch: int, every: int = 0, needs: Sequence[bool] = (True,) * 3):
    x, states, weight, bias, words, _, num_results, tape_rows, _ = arguments(net, steps, batch, every)
    call = (x, states, weight, bias, words, None, num_results, tape_rows, every, True)
    y, last, kept = torch.ops.freewire.sequence(*call)
    return torch.ones_like(y), torch.ones_like(last), kept, x, states, weight, bias, words, None, every, *needs


class TestDerivatives:
    @pytest.mark.parametrize(("every", "learn_leak"), [(None, False), (None, True), (2, True)])
    def test_gradcheck(self, every: int | None, learn_leak: bool) -> None:
        net = recurrent(TINY, learn_leak=learn_leak, checkpoint_every=every)
        names = [name for name, _ in net.named_parameters()]
        if net.leak is not None:
            with torch.no_grad():
                net.leak.clamp_(0.1, 0.9)  # at 1 it has a kink

        def run(x: Tensor, h: Tensor, *given: Tensor) -> Any:
            return torch.func.functional_call(net, dict(zip(names, given, strict=True)), (x, h))

        inputs = [t.detach().requires_grad_() for t in (sequence_of(net, 3, 2), state_of(net, 2), *net.parameters())]
        assert torch.autograd.gradcheck(run, inputs, check_forward_ad=True, check_batched_grad=True)
        if not every:
            assert torch.autograd.gradgradcheck(run, inputs)

    @pytest.mark.parametrize("aggregation", ["max", "min", "maxabs", "product", "mean"])
    def test_gradcheck_of_every_aggregation(self, aggregation: str) -> None:
        net = recurrent(wired(3, num_nodes=9, num_edges=14, aggregation=[aggregation]))
        x, h = sequence_of(net, 3, 2).requires_grad_(), state_of(net, 2).requires_grad_()
        assert torch.autograd.gradcheck(net, (x, h))

    @pytest.mark.parametrize("learn_leak", [False, True])
    def test_the_backward_of_a_backward(self, learn_leak: bool) -> None:
        """Through the operator with ``create_graph``, against the reference."""
        net = recurrent(wired(4), learn_leak=learn_leak)
        x, h = sequence_of(net, 3, 2), state_of(net, 2)
        results = []
        for run in (net, lambda x, h: fw.reference(net, x, h)):
            leaf = x.clone().requires_grad_()
            y, last = run(leaf, h)
            loss = y.square().sum() + last.sin().sum()
            grads = torch.autograd.grad(loss, [leaf, *net.parameters()], create_graph=True)
            results.append(torch.autograd.grad(sum(g.square().sum() for g in grads), [leaf, *net.parameters()]))
        for got, want in zip(*results, strict=True):
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)

    @dtypes
    def test_the_operators_reference_rounds_as_the_kernels_do(self, dtype: torch.dtype) -> None:
        net = recurrent(wired(4), dtype)
        x, states, weight, bias, words, _, num_results, *_ = arguments(net, 5, 3)
        found = sequence_reference(words, num_results)(x, states, weight, bias)
        for got, want in zip(found, net(x, states), strict=True):
            few = 4 * torch.finfo(dtype).eps * (1 + want.abs().max())
            assert (got - want).abs().max() <= few


class TestOpcheck:
    @pytest.mark.parametrize("graph", [SMALL, KINDS], ids=["small", "kinds"])
    @pytest.mark.parametrize(("steps", "batch", "every"), [(3, 5, 0), (3, 5, 2), (1, 1, 0), (2, 17, 1), (0, 3, 0)])
    def test_forward_and_backward(self, graph: fw.Graph, steps: int, batch: int, every: int) -> None:
        net = recurrent(graph)
        x, states, weight, bias, words, _, num_results, tape_rows, _ = arguments(net, steps, batch, every)
        for keep in (False, True):
            call = (x, states, weight, bias, words, None, num_results, tape_rows, every, keep)
            torch.library.opcheck(torch.ops.freewire.sequence.default, call)
        torch.library.opcheck(
            torch.ops.freewire.sequence_backward.default, backward_arguments(net, steps, batch, every)
        )

    @pytest.mark.parametrize("needs", [(True, False, False), (False, True, False), (False, False, True), (False,) * 3])
    def test_what_is_not_needed_is_empty(self, needs: tuple[bool, ...]) -> None:
        net = recurrent(SMALL)
        torch.library.opcheck(torch.ops.freewire.sequence_backward.default, backward_arguments(net, 3, 5, needs=needs))

    @pytest.mark.parametrize("every", [0, 2])
    def test_the_recorded_operator(self, every: int) -> None:
        net = recurrent(SMALL)
        x, states, weight, bias, *rest = arguments(net, 3, 5, every)
        leaves = [t.requires_grad_() for t in (x, states, weight, bias)]
        op = torch.ops.freewire.recurrent.default
        assert_same_bits(op(*leaves, *rest), run_sequence(*leaves, *rest))
        torch.library.opcheck(op, (*leaves, *rest))

    def test_without_bias(self) -> None:
        net = recurrent(SMALL, bias=False)
        torch.library.opcheck(torch.ops.freewire.sequence_backward.default, backward_arguments(net, 3, 5))

    @pytest.mark.parametrize(("op", "first"), [("sequence", "x"), ("recurrent", "x"), ("sequence_backward", "grad_y")])
    def test_a_fake_kernel_refuses_real_tensors(self, op: str, first: str) -> None:
        """One tensor on meta among real ones would return empty memory for results."""
        net = recurrent(SMALL)
        x, states, weight, bias, words, header, *sizes = arguments(net, 2, 3)
        backward = list(backward_arguments(net, 2, 3))
        backward[7] = words.to("meta")
        given = {
            "sequence": (x, states, weight, bias, words.to("meta"), None, *sizes, True),
            "recurrent": (x, states, weight, bias, words.to("meta"), header, *sizes),
            "sequence_backward": backward,
        }
        with torch.no_grad(), pytest.raises(fw.InputError, match=rf"plan: expected device cpu, that of {first}, got m"):
            getattr(torch.ops.freewire, op)(*given[op])


class TestOneCall:
    """One operator call forward and one backward, whatever the number of steps; no path goes step by step."""

    @pytest.mark.parametrize("steps", [1, 4, 200])
    @pytest.mark.parametrize("mode", ["train", "checkpoint", "no_grad", "inference", "nothing_requires_grad"])
    def test_op_calls(self, steps: int, mode: str) -> None:
        net = recurrent(SMALL, torch.float32, checkpoint_every=3 if mode == "checkpoint" else None)
        backward = mode in ("train", "checkpoint")
        x = sequence_of(net, steps, 5).requires_grad_(backward)
        if mode == "nothing_requires_grad":
            net.requires_grad_(False)

        def body() -> None:
            guard = {"no_grad": torch.no_grad, "inference": torch.inference_mode}.get(mode, torch.enable_grad)
            with guard():
                y, _ = net(x)
            if backward:
                y.sum().backward()

        body()
        calls = op_calls(body)
        ours = {name: count for name, count in calls.items() if name.startswith("freewire::")}
        assert ours == {"freewire::sequence": 1} | ({"freewire::sequence_backward": 1} if backward else {})
        assert calls["_Sequence"] == int(backward)
        assert calls.total() < 100, "as many as there are steps"

    def test_compiled(self) -> None:
        torch._dynamo.reset()
        net = recurrent(SMALL, torch.float32)
        x = sequence_of(net, 6, 5).requires_grad_()
        run = torch.compile(net, fullgraph=True, backend="aot_eager")
        run(x)[0].sum().backward()
        calls = op_calls(lambda: run(x)[0].sum().backward())
        assert calls["freewire::sequence"] == calls["freewire::sequence_backward"] == 1

    def test_a_backward_keeps_one_tape(self) -> None:
        net = recurrent(SMALL, torch.float32)
        x, states, weight, bias, words, _, num_results, tape_rows, _ = arguments(net, 6, 5)
        call = torch.ops.freewire.sequence
        *_, none = call(x, states, weight, bias, words, None, num_results, tape_rows, 0, False)
        *_, tapes = call(x, states, weight, bias, words, None, num_results, tape_rows, 0, True)
        *_, lean = call(x, states, weight, bias, words, None, num_results, tape_rows, 4, True)
        assert none.numel() == 0
        assert tapes.numel() == 6 * 8 * tape_rows
        assert lean.numel() == 2 * 8 * net.num_states
        assert tapes.isfinite().all()


# ---------------------------------------------------------------------------------- threads


def results(net: fw.Recurrent, steps: int, batch: int) -> list[Tensor]:
    x, h = sequence_of(net, steps, batch), state_of(net, batch)
    with torch.no_grad():
        quiet = net(x, h)
    grads = torch.ones_like(quiet[0]), torch.ones_like(quiet[1])
    return [*quiet, *own_gradients(net, x, h, *grads)]


@pytest.mark.parametrize("threads", [2, 3, 16])
@pytest.mark.parametrize("batch", [1, 8, 17, 300])
def test_threads_change_no_bit(batch: int, threads: int) -> None:
    for dtype in DTYPES:
        for every in (None, 2):
            net = recurrent(KINDS, dtype, checkpoint_every=every)
            assert_threads_change_no_bit(threads, lambda net=net: results(net, 3, batch))


@pytest.fixture(scope="module")
def wide() -> fw.Graph:
    """5 levels of 4,000 nodes, and delays: so much work per level that threads share a single tile."""
    rng = np.random.default_rng(0)
    dst = np.repeat(np.arange(4000, 24_000), 28)
    src = rng.integers(0, dst // 4000 * 4000)
    delay = rng.integers(0, 2, len(src))
    return fw.Graph.from_edges(
        src,
        dst,
        num_nodes=24_000,
        inputs=range(4000),
        outputs=range(20_000, 24_000),
        delay=delay,
        leak=np.where(np.arange(24_000) % 3, 1, 0.5),
        activation="tanh",
    )


@pytest.mark.slow
@pytest.mark.parametrize("every", [None, 2])
def test_threads_share_a_sample(wide: fw.Graph, every: int | None) -> None:
    net = recurrent(wide, torch.float32, checkpoint_every=every)
    assert net.plan.num_live_edges > 500_000
    for batch in (1, 8):
        x, h = sequence_of(net, 3, batch), state_of(net, batch)
        grads = torch.ones(3, batch, 4000), torch.ones(batch, net.num_states)
        for threads in (2, 3):
            assert_threads_change_no_bit(threads, lambda: own_gradients(net, x, h, *grads))  # noqa: B023
        torch.set_num_threads(2)
        try:
            found = own_gradients(net, x, h, *grads)
        finally:
            torch.set_num_threads(1)
        own = [value.detach().requires_grad_() for value in (x, h)]
        y, last = fw.reference(net, *own)
        wanted = torch.autograd.grad((y, last), [*own, *net.parameters()], grads)
        for got, want in zip(found, [y, last, *wanted], strict=True):
            torch.testing.assert_close(got, want, rtol=1e-3, atol=1e-3 * (1 + want.abs().max().item()))


@pytest.mark.parametrize("aggregations", [SUMS, ("max",)], ids=["linear", "not_linear"])
@pytest.mark.parametrize("batch", [3, 40])
def test_a_second_run_gives_the_same_bits(batch: int, aggregations: Sequence[str]) -> None:
    net = recurrent(wired(1, aggregation=aggregations), torch.float32)
    assert_same_bits(results(net, 5, batch), results(net, 5, batch))


def test_samples_do_not_meet() -> None:
    """A NaN in one sample reaches no other, neither in values nor in grad_x."""
    net = recurrent(KINDS, torch.float32)
    for batch in (5, 20):
        x, h = sequence_of(net, 4, batch), state_of(net, batch)
        grads = torch.ones(4, batch, 30), torch.ones(batch, net.num_states)
        clean = own_gradients(net, x, h, *grads)[:4]
        x[1, 2], h[2] = float("nan"), float("inf")
        spoilt = own_gradients(net, x, h, *grads)[:4]
        rest = torch.arange(batch) != 2
        for got, want in zip(spoilt, clean, strict=True):
            dim = got.dim() - 2
            assert torch.equal(got.movedim(dim, 0)[rest], want.movedim(dim, 0)[rest])
        assert not spoilt[0][1:, 2].isfinite().all()


# ---------------------------------------------------------------------------------- refused

NET = recurrent(SMALL, torch.float32)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, torch.zeros(2, 3), "x"),
        (0, torch.zeros(2, 3, 4), "x"),
        (0, torch.zeros(2, 3, 3, dtype=torch.float64), "expected"),
        (0, torch.zeros(2, 3, 3, dtype=torch.int32), "expected"),
        (1, torch.zeros(2, NET.num_states), "states"),
        (1, torch.zeros(3, NET.num_states + 1), "states"),
        (2, torch.zeros(5), "weight"),
        (3, torch.zeros(5), "bias"),
        (4, torch.zeros(5, dtype=torch.int64), "plan"),
        (4, torch.zeros(5), "plan"),
        (6, 7, "num_results: expected 4, got 7"),
        (7, 7, "tape_rows: expected"),
        (8, -1, "every"),
    ],
)
def test_raw_calls(place: int, value: Any, message: str) -> None:
    given = list(arguments(NET, 2, 3))
    given[place], given[5] = value, None
    with pytest.raises(RuntimeError, match=message):
        torch.ops.freewire.sequence(*given, True)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (0, torch.zeros(2, 3, 5), "grad_y"),
        (0, torch.zeros(3, 3, 4), "grad_y"),
        (0, torch.zeros(2, 3, 4, dtype=torch.float64), "grad_y, grad_last: expected the element type"),
        (1, torch.zeros(2, NET.num_states), "grad_last: expected 3 rows, got 2"),
        (1, torch.zeros(3, 1), "grad_last"),
        (2, torch.zeros(7), "kept"),
        (9, 3, "kept"),
        (9, -1, "every"),
    ],
)
def test_raw_backward_calls(place: int, value: Any, message: str) -> None:
    given = list(backward_arguments(NET, 2, 3))
    given[place] = value
    with pytest.raises(RuntimeError, match=message):
        torch.ops.freewire.sequence_backward(*given)


def test_the_plan_of_a_network_has_no_states() -> None:
    """And a recurrent one is no plan for ``freewire::forward``: x would have too few columns."""
    x, _, weight, bias, words, _, num_results, tape_rows, _ = arguments(NET, 2, 3)
    with pytest.raises(RuntimeError, match="x"):
        torch.ops.freewire.forward(x[0], weight, bias, words, None, num_results, tape_rows)

# SPDX-License-Identifier: MIT
"""The autograd that operator families share: what runs when, and derivatives that no family tests by itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from threading import Thread

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad

import freewire as fw
from freewire.ops.autograd import (
    called_plainly,
    forward_mode_active,
    gradients,
    per_sample,
    requires_gradient,
    transforms_active,
)
from freewire.ops.gated_depthwise import gated_depthwise
from freewire.ops.gated_sum import gated_sum
from tests.support.graphs import CASES
from tests.support.tensors import network, op_calls

NET = network(CASES["diamond"])


def maps(seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    return drawn.to(memory_format=torch.channels_last)


WEIGHT = torch.tensor([0.3, -0.7], dtype=torch.float64)
KERNEL = torch.randn(3, 1, 3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

#: A function of one tensor per family, and its argument.
FAMILIES: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "network": (NET, torch.randn(4, len(NET.graph.inputs), dtype=torch.float64)),
    "gated_sum": (lambda x: gated_sum([x, x * x], WEIGHT, True), maps()),
    "mean": (lambda x: gated_sum([x, x * x], None, True), maps()),
    "gated_depthwise": (lambda x: gated_depthwise([x, x * x], WEIGHT, True, KERNEL), maps()),
}
OPERATORS = {"network": "backward", "mean": "gated_sum_backward"}
families = pytest.mark.parametrize("family", FAMILIES)


@families
@pytest.mark.parametrize("create_graph", [False, True])
def test_the_backward_is_one_operator_call(family: str, create_graph: bool) -> None:
    """An ordinary backward does not pay for a second Function."""
    function, x = FAMILIES[family]
    x = x.clone().requires_grad_()
    y = function(x).sum()
    calls = op_calls(lambda: torch.autograd.grad(y, x, create_graph=create_graph))
    assert calls[f"freewire::{OPERATORS.get(family, f'{family}_backward')}"] == 1
    assert calls["_Backward"] == int(create_graph)


@families
@pytest.mark.parametrize("create_graph", [False, True])
def test_vmap_over_the_backward(family: str, create_graph: bool) -> None:
    """A transform of torch.func outside of autograd.grad: its batched gradient reaches the backward alone."""
    function, x = FAMILIES[family]
    x = x.clone().requires_grad_()
    y = function(x)
    grads = torch.randn(3, *y.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def pull_back(grad_y: Tensor) -> Tensor:
        return torch.autograd.grad(y, x, grad_y, retain_graph=True, create_graph=create_graph)[0]

    found = torch.func.vmap(pull_back)(grads)
    assert found.requires_grad == create_graph
    torch.testing.assert_close(found, torch.stack([pull_back(grad) for grad in grads]))


@families
def test_derivatives_of_the_backward(family: str) -> None:
    function, x = FAMILIES[family]
    assert torch.autograd.gradgradcheck(function, x.clone().requires_grad_())


def test_a_tape_is_not_kept_for_derivatives_of_the_backward() -> None:
    x, tape = torch.ones(2, requires_grad=True), torch.ones(5)
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        found = gradients(lambda grad_y, x, tape: (grad_y * x,), torch.square, [True], torch.ones(2), [x], [tape])
    assert found[0].requires_grad
    assert set(kept) >= {x.data_ptr()}
    assert tape.data_ptr() not in kept


def test_what_is_active() -> None:
    seen: list[tuple[bool, bool]] = []
    plain: list[bool] = []

    def look(x: Tensor) -> Tensor:
        seen.append((transforms_active(), forward_mode_active(None, x)))
        plain.append(called_plainly())
        return x * 2

    x = torch.ones(3)
    look(x)
    torch.func.vmap(look)(x)
    torch.func.grad(lambda x: look(x).sum())(x)
    torch.func.jvp(look, (x,), (x,))
    torch.func.vmap(torch.func.jacfwd(look))(x)
    with forward_ad.dual_level():
        look(x)  # another thread may have opened the level
        look(forward_ad.make_dual(x, x))
    assert seen == [*[(False, False)], *[(True, False)] * 2, *[(True, True)] * 2, (False, False), (False, True)]
    assert plain == [True] + [False] * 6


@pytest.mark.filterwarnings("ignore:.torch.jit.trace. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("around", ["no_grad", "autocast", "trace", "export", "compile"])
def test_a_call_is_plain(around: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plain: list[bool] = []

    def look(x: Tensor) -> Tensor:
        plain.append(called_plainly())
        return x * 2

    run = look
    with ExitStack() as stack:
        if around == "no_grad":
            stack.enter_context(torch.no_grad())
        elif around == "autocast":
            stack.enter_context(torch.autocast("cpu"))
        elif around == "trace":
            run = partial(torch.jit.trace, look, check_trace=False)
        elif around == "export":
            monkeypatch.setattr(torch.compiler, "_is_exporting_flag", True)
        elif around == "compile":
            run = torch.compile(look, backend="eager", fullgraph=True)
        run(example_inputs=torch.ones(2)) if around == "trace" else run(torch.ones(2))
    assert plain[0] == (around == "no_grad")


@families
@pytest.mark.parametrize("other", ["nothing", "dual level", "export"])
def test_what_another_thread_does_changes_nothing(family: str, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's dual level and its mark that a program is exported belong to the process."""
    function, x = FAMILIES[family]
    leaf = x.clone().requires_grad_()
    seen: Counter[str] = Counter()

    def work() -> None:
        seen.update(op_calls(lambda: function(leaf).sum().backward()))

    with ExitStack() as stack:
        if other == "dual level":
            stack.enter_context(forward_ad.dual_level())
        elif other == "export":
            monkeypatch.setattr(torch.compiler, "_is_exporting_flag", True)
            monkeypatch.setattr(torch.compiler, "_is_compiling_flag", True)
        thread = Thread(target=work)
        thread.start()
        thread.join()
    # The operators run, not the reference. Where a program is exported, freewire::network calls freewire::forward.
    ours = {name for name in seen if name.startswith("freewire::")} - {"freewire::network"}
    assert len(ours) == 2, ours
    want = torch.autograd.grad(function(leaf).sum(), leaf)[0]
    torch.testing.assert_close(leaf.grad, want)


def test_a_gradient_is_required() -> None:
    x, leaf = torch.ones(1), torch.ones(1, requires_grad=True)
    assert requires_gradient(None, x, leaf)
    assert not requires_gradient(None, x)
    with torch.no_grad():
        assert not requires_gradient(leaf)


def test_arguments_of_each_sample() -> None:
    a, b = torch.arange(6).reshape(2, 3), torch.arange(2)
    samples = per_sample(3, (1, None, None), (a, b, "constant"))
    assert [sample[0].tolist() for sample in samples] == [[0, 3], [1, 4], [2, 5]]
    assert all(sample[1] is b and sample[2] == "constant" for sample in samples)


class TestFakeKernels:
    """One tensor on meta among real ones would return empty memory for results."""

    def test_gated_sum(self) -> None:
        with pytest.raises(fw.InputError, match=r"weight: expected device cpu, that of xs, got meta\. Move the module"):
            gated_sum([torch.ones(2), torch.ones(2)], torch.zeros(2, device="meta"))

    def test_gated_depthwise(self) -> None:
        with pytest.raises(fw.InputError, match=r"kernel: expected device cpu, that of xs, got meta\. Move the module"):
            gated_depthwise([maps()], WEIGHT[:1], True, KERNEL.to("meta"))

# SPDX-License-Identifier: MIT
"""`gated_sum` and its operators, over device x type x layout: values, gradients, opcheck, bits, messages."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import freewire as fw
from freewire.models import gated_sum
from freewire.ops.gated_sum import plain_gated_sum
from tests.support.tensors import (
    DTYPES,
    NARROW,
    assert_same_bits,
    assert_threads_change_no_bit,
    assert_within,
)

#: The longest is longer than a CPU's span.
SHAPES = {"maps": (2, 5, 7, 3), "vector": (1,), "empty": (0, 4), "long": (3, 8, 23, 31)}
#: These operators run no network, so there is nothing to stream.
devices = pytest.mark.parametrize("device", ["cpu", "simt", "cuda"], indirect=True)


def draw(
    shape: tuple[int, ...], count: int, dtype: torch.dtype, device: str = "cpu", seed: int = 0
) -> tuple[list[Tensor], Tensor, Tensor]:
    """xs and weight, which require gradients, and grad_y; maps are channels_last."""
    generator = torch.Generator().manual_seed(seed)
    drawn = [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count + 1)]
    if len(shape) == 4:
        drawn = [x.contiguous(memory_format=torch.channels_last) for x in drawn]
    weight = torch.randn(count, generator=generator, dtype=torch.float64)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    *xs, grad_y = (x.to(device, dtype) for x in drawn)
    return [x.requires_grad_() for x in xs], weight.to(device, wide).requires_grad_(), grad_y


def run(function: Any, xs: list[Tensor], weight: Tensor | None, grad_y: Tensor, relu: bool) -> list[Tensor]:
    """y and all gradients."""
    y = function(xs, weight, relu)
    leaves = [*xs, *([] if weight is None else [weight])]
    return [y.detach(), *torch.autograd.grad(y, leaves, grad_y.to(y.dtype))]


def wider(tensors: list[Tensor]) -> list[Tensor]:
    return [t.detach().double().requires_grad_() for t in tensors]


@devices
class TestGatedSum:
    @pytest.mark.parametrize("relu", [False, True])
    @pytest.mark.parametrize("gated", [False, True])
    @pytest.mark.parametrize("count", [1, 5])
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_matches_plain_torch(
        self, device: str, dtype: torch.dtype, shape: str, count: int, gated: bool, relu: bool
    ) -> None:
        xs, weight, grad_y = draw(SHAPES[shape], count, dtype, device)
        gates = weight if gated else None
        exact_xs, exact_gates = wider(xs), None if gates is None else wider([gates])[0]
        if relu:  # next to the kink rounding decides
            grad_y = grad_y * (plain_gated_sum(exact_xs, exact_gates).abs() > 1e-4).to(grad_y)
        found = run(gated_sum, xs, gates, grad_y, relu)
        want = run(plain_gated_sum, exact_xs, exact_gates, grad_y.double(), relu)
        plain = run(plain_gated_sum, xs, gates, grad_y, relu) if dtype not in NARROW else want
        assert found[0].stride() == xs[0].stride()
        for i, (got, exact, rough) in enumerate(zip(found, want, plain, strict=True)):
            assert got.dtype == (xs[0].dtype if i <= count else weight.dtype)
            if i > count and dtype in NARROW:  # a float32 sum of products of 16-bit numbers
                torch.testing.assert_close(got.double(), exact, rtol=1e-4, atol=1e-4)
            else:
                assert_within(got, exact, rough, f"result {i}")

    @pytest.mark.parametrize("relu", [False, True])
    def test_more_than_one_launch_accepts(self, device: str, relu: bool) -> None:
        xs, weight, grad_y = draw((5, 7), 150, torch.float64, device)
        for gates in (weight, None):
            for got, want in zip(
                run(gated_sum, xs, gates, grad_y, relu), run(plain_gated_sum, xs, gates, grad_y, relu), strict=True
            ):
                torch.testing.assert_close(got, want)

    def test_a_second_run_gives_the_same_bits(self, device: str) -> None:
        xs, weight, grad_y = draw(SHAPES["long"], 3, torch.float32, device)
        assert_same_bits(*(run(gated_sum, xs, weight, grad_y, True) for _ in range(2)))

    def test_nan_and_infinity_pass_as_in_torch(self, device: str) -> None:
        values = [float("nan"), float("inf"), float("-inf"), 1.0, -1.0, 0.0, -0.0] * 3
        xs = [torch.tensor(values, device=device), torch.ones(21, device=device)]
        weight, grad_y = torch.zeros(2, device=device), torch.ones(21, device=device)
        for relu in (False, True):
            leaves = [x.requires_grad_() for x in xs]
            got = run(gated_sum, leaves, None, grad_y, relu)
            want = run(plain_gated_sum, leaves, None, grad_y, relu)
            for a, b in zip(got, want, strict=True):
                torch.testing.assert_close(a, b, equal_nan=True)
            torch.testing.assert_close(gated_sum(xs, weight, relu), plain_gated_sum(xs, weight, relu), equal_nan=True)

    def test_gradients_where_only_some_are_wanted(self, device: str) -> None:
        xs, weight, grad_y = draw((4, 3), 2, torch.float64, device)
        want = run(plain_gated_sum, xs, weight, grad_y, True)[1:]
        (grad,) = torch.autograd.grad(gated_sum([xs[0].detach(), xs[1]], weight.detach(), True), xs[1], grad_y)
        torch.testing.assert_close(grad, want[1])
        (grad,) = torch.autograd.grad(gated_sum([x.detach() for x in xs], weight, True), weight, grad_y)
        torch.testing.assert_close(grad, want[2])

    def test_opcheck(self, device: str) -> None:
        xs, weight, grad_y = draw((2, 3), 2, torch.float32, device)
        ops = torch.ops.freewire
        torch.library.opcheck(ops.gated_sum.default, (xs, weight, True))  # with its gradients
        xs, weight = [x.detach() for x in xs], weight.detach()
        for gates in (weight, None):
            torch.library.opcheck(ops.gated_sum.default, (xs, gates, True))
            torch.library.opcheck(ops.gated_sum_backward.default, (grad_y, xs, gates, True, gates is not None))


@pytest.mark.parametrize("relu", [False, True])
def test_gradcheck_twice(relu: bool) -> None:
    xs, weight, _ = draw((3, 2), 3, torch.float64)
    for gates in ((weight,), ()):

        def function(*leaves: Tensor, gated: bool = bool(gates)) -> Tensor:
            return gated_sum(leaves[:3], leaves[3] if gated else None, relu)

        assert torch.autograd.gradcheck(function, (*xs, *gates))
        assert torch.autograd.gradgradcheck(function, (*xs, *gates))


class TestTransforms:
    def test_torch_func(self) -> None:
        xs, weight, _ = draw((3, 2), 2, torch.float64)
        xs, weight = [x.detach() for x in xs], weight.detach()

        def loss(weight: Tensor, first: Tensor) -> Tensor:
            return gated_sum([first, xs[1]], weight, True).square().sum()

        def plain(weight: Tensor, first: Tensor) -> Tensor:
            return plain_gated_sum([first, xs[1]], weight, True).square().sum()

        for transform in (torch.func.grad, torch.func.jacfwd, torch.func.hessian):
            torch.testing.assert_close(transform(loss)(weight, xs[0]), transform(plain)(weight, xs[0]))
        many = torch.stack([xs[0], xs[0] * 2])
        mapped = torch.func.vmap(torch.func.grad(loss), (None, 0))(weight, many)
        torch.testing.assert_close(mapped, torch.func.vmap(torch.func.grad(plain), (None, 0))(weight, many))

    def test_layouts_that_differ_inside_vmap(self) -> None:
        a, b = torch.rand(5, 4, 3), torch.rand(3, 4)
        mapped = torch.func.vmap(lambda one: gated_sum([b, one.t()]))(a)
        torch.testing.assert_close(mapped, (b + a.transpose(1, 2)) / 2)

    @pytest.mark.parametrize("gated", [False, True])
    def test_a_batch_of_gradients_at_once(self, gated: bool) -> None:
        xs, weight, _ = draw((3, 2), 2, torch.float64)
        leaves = [*xs, *([weight] if gated else [])]
        grads = torch.randn(4, 3, 2, dtype=torch.float64)
        y = gated_sum(xs, weight if gated else None, True)
        found = torch.autograd.grad(y, leaves, grads, is_grads_batched=True, retain_graph=True)
        for i, grad in enumerate(grads):
            for got, want in zip(found, torch.autograd.grad(y, leaves, grad, retain_graph=True), strict=True):
                torch.testing.assert_close(got[i], want)

    def test_forward_mode(self) -> None:
        xs, weight, _ = draw((3, 2), 2, torch.float64)
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(xs[0].detach(), torch.ones(3, 2, dtype=torch.float64))
            y = gated_sum([dual, xs[1].detach()], weight.detach())
            tangent = torch.autograd.forward_ad.unpack_dual(y).tangent
        torch.testing.assert_close(tangent, weight[0].detach().sigmoid().expand(3, 2))

    @pytest.mark.slow
    @pytest.mark.compiler
    def test_compile(self) -> None:
        xs, weight, grad_y = draw((2, 5, 4, 3), 3, torch.float32)
        compiled = torch.compile(gated_sum, fullgraph=True)
        for got, want in zip(
            run(compiled, xs, weight, grad_y, True), run(gated_sum, xs, weight, grad_y, True), strict=True
        ):
            torch.testing.assert_close(got, want)

    def test_meta(self) -> None:
        xs = [torch.empty(2, 3, 8, 8, device="meta").to(memory_format=torch.channels_last) for _ in range(2)]
        y = gated_sum(xs, torch.zeros(2, device="meta"), True)
        assert (y.device.type, y.shape, y.stride()) == ("meta", xs[0].shape, xs[0].stride())


@devices
class TestLayouts:
    @pytest.mark.parametrize("case", ["mixed", "strided", "expanded", "expanded gradient", "odd storage", "5d"])
    def test_any(self, device: str, case: str) -> None:
        (a, b), weight, grad_y = draw((2, 4, 3, 6), 2, torch.float64, device)
        a, b = a.detach(), b.detach()
        if case == "mixed":
            a = a.contiguous()
        elif case == "strided":
            a, b, grad_y = a[..., ::2], b[..., 1::2], grad_y[..., ::2]
        elif case == "expanded":
            a = a[:, :1].expand(2, 4, 3, 6)
        elif case == "expanded gradient":
            grad_y = torch.ones((), dtype=torch.float64, device=device).expand(2, 4, 3, 6)
        elif case == "odd storage":
            a = torch.zeros(a.numel() + 1, dtype=a.dtype, device=device)[1:].view(2, 4, 3, 6).copy_(a)
        else:
            a, b, grad_y = (x.unsqueeze(2).to(memory_format=torch.channels_last_3d) for x in (a, b, grad_y))
        xs = [a.requires_grad_(), b.requires_grad_()]
        for got, want in zip(
            run(gated_sum, xs, weight, grad_y, True), run(plain_gated_sum, xs, weight, grad_y, True), strict=True
        ):
            torch.testing.assert_close(got, want)

    def test_types_are_promoted(self, device: str) -> None:
        (a, b), weight, _ = draw((3, 4), 2, torch.float32, device)
        y = gated_sum([a.bfloat16(), b], weight)
        assert y.dtype == torch.float32
        y.sum().backward()
        assert a.grad is not None
        assert b.grad is not None
        assert gated_sum([a.bfloat16(), b.bfloat16()], weight.bfloat16()).dtype == torch.bfloat16


class TestMessages:
    def test_of_the_function(self) -> None:
        with pytest.raises(fw.InputError, match=r"xs: expected at least one tensor, got none\. Skip the call"):
            gated_sum([])
        with pytest.raises(fw.InputError, match=r"xs: expected a list of tensors, got one tensor\. Put"):
            gated_sum(torch.zeros(2, 3))  # type: ignore[arg-type]
        with pytest.raises(fw.InputError, match=r"xs: expected tensors of one shape, got \[2\] and \[3\]\. Give"):
            gated_sum([torch.zeros(2), torch.zeros(3)])
        with pytest.raises(fw.InputError, match=r"xs: expected tensors on one device, got cpu and meta\. Move"):
            gated_sum([torch.zeros(2), torch.zeros(2, device="meta")])
        with pytest.raises(fw.InputError, match=r"weight: expected shape \[2\], one number per tensor, got \[3\]\."):
            gated_sum([torch.zeros(2), torch.zeros(2)], torch.zeros(3))

    @devices
    def test_of_the_operators(self, device: str) -> None:
        forward, backward = torch.ops.freewire.gated_sum.default, torch.ops.freewire.gated_sum_backward.default
        x = torch.zeros(2, 3, device=device)
        refused = [
            (lambda: forward([], x[0], True), r"xs: expected at least one tensor, got none\."),
            (
                lambda: forward([x[:, :2]], None, True),
                r"xs: expected tensors without gaps in memory, got one with gaps\.",
            ),
            (lambda: forward([x, x.T], None, True), r"xs: expected the shape and the strides of the first"),
            (lambda: forward([x, x.double()], None, True), r"xs: expected the element type and the device"),
            (lambda: forward([x.long()], None, True), r"x: expected one of float32, float64, bfloat16, float16, got"),
            (lambda: forward([x], x[0], True), r"weight: expected one number for each of 1 tensors, got 3\."),
            (lambda: forward([x], x[0, :1].double(), True), r"weight: expected float32, or float64 for float64"),
            (lambda: backward(x[0], [x], None, True, False), r"grad_y: expected the shape and the strides"),
            (lambda: backward(x, [x], None, True, True), r"need_weight: expected a weight to compute the gradient of"),
        ]
        for call, message in refused:
            with pytest.raises(RuntimeError, match=message):
                call()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_changes_no_bit(threads: int) -> None:
    xs, weight, grad_y = draw((3, 8, 41, 67), 3, torch.float32)
    assert_threads_change_no_bit(threads, lambda: run(gated_sum, xs, weight, grad_y, True))


def test_nothing_but_the_arguments_is_kept() -> None:
    xs, weight, _ = draw((4, 4), 2, torch.float32)
    kept: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        gated_sum(xs, weight, True)
    assert {t.data_ptr() for t in kept} == {t.data_ptr() for t in (*xs, weight)}

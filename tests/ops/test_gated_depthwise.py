# SPDX-License-Identifier: MIT
"""The gated depthwise operators against torch's convolution of a gated sum, and where they do not apply."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from freewire.models import SeparableConv
from freewire.ops.gated_depthwise import can_fuse, gated_depthwise
from freewire.ops.gated_sum import gated_sum, plain_gated_sum
from tests.support.tensors import DTYPES, NARROW, assert_threads_change_no_bit, assert_within

#: Batch, channels, height, width: registers that are not full or overlap, rows shorter than a step, several bands.
SHAPES = {"one": (1, 1, 1, 1), "thin": (2, 3, 5, 1), "row": (1, 8, 1, 9), "many": (17, 5, 3, 4), "wide": (3, 78, 9, 7)}
SHAPES |= {"bands": (1, 21, 33, 6), "empty": (0, 4, 3, 3)}


def draw(
    shape: tuple[int, ...], count: int, dtype: torch.dtype, seed: int = 0
) -> tuple[list[Tensor], Tensor, Tensor, Tensor]:
    """xs, weight and kernel, which require gradients, and grad_y; maps are channels_last."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    maps = [normal(*shape).to(dtype, memory_format=torch.channels_last) for _ in range(count + 1)]
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    weight, kernel = normal(count).to(wide), (normal(shape[1], 1, 3, 3) / 3).to(dtype)
    *xs, grad_y = maps
    return [x.requires_grad_() for x in xs], weight.requires_grad_(), kernel.requires_grad_(), grad_y


def plain(xs: list[Tensor], weight: Tensor, relu: bool, kernel: Tensor) -> Tensor:
    return functional.conv2d(plain_gated_sum(xs, weight, relu), kernel, padding=1, groups=len(kernel))


def run(
    function: Callable[..., Tensor], xs: list[Tensor], weight: Tensor, relu: bool, kernel: Tensor, grad_y: Tensor
) -> list[Tensor]:
    """y and all gradients."""
    y = function(xs, weight, relu, kernel)
    return [y.detach(), *torch.autograd.grad(y, [*xs, weight, kernel], grad_y)]


def wider(tensor: Tensor) -> Tensor:
    return tensor.detach().double().requires_grad_()


class TestOperator:
    @pytest.mark.parametrize("relu", [False, True])
    @pytest.mark.parametrize("count", [1, 3])
    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_matches_plain_torch(self, dtype: torch.dtype, shape: str, count: int, relu: bool) -> None:
        xs, weight, kernel, grad_y = draw(SHAPES[shape], count, dtype)
        if relu:  # next to the kink rounding decides
            with torch.no_grad():
                for x in xs:
                    x[(plain_gated_sum([x.double() for x in xs], weight.double()).abs() < 1e-2)] += 1
        found = run(gated_depthwise, xs, weight, relu, kernel, grad_y)
        exact = [wider(x) for x in xs], wider(weight), relu, wider(kernel), grad_y.double()
        want = run(plain, *exact)
        rough = want if dtype in NARROW else run(plain, xs, weight, relu, kernel, grad_y)
        assert found[0].stride() == xs[0].stride()
        for i, (got, exact_one, rough_one) in enumerate(zip(found, want, rough, strict=True)):
            if dtype in NARROW:  # the sum, and its gradient, are rounded before they are used
                error = (got.double() - exact_one).norm() / exact_one.norm().clamp(min=1e-3)
                assert error < 4 * torch.finfo(dtype).eps, f"result {i}: {error:.2g}"
            else:
                assert_within(got, exact_one, rough_one, f"result {i}")

    def test_narrow_sums_are_those_of_gated_sum(self) -> None:
        """Rounded to 16 bits where a tensor of them would be."""
        xs, weight, kernel, _ = draw(SHAPES["wide"], 3, torch.bfloat16)
        y = gated_depthwise(xs, weight, True, kernel)
        want = functional.conv2d(gated_sum(xs, weight, True).double(), kernel.double(), padding=1, groups=len(kernel))
        torch.testing.assert_close(y.double(), want, rtol=2**-8, atol=1e-6)

    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_the_number_of_threads_changes_no_bit(self, threads: int) -> None:
        xs, weight, kernel, grad_y = draw((3, 19, 23, 5), 3, torch.float32)
        assert_threads_change_no_bit(threads, lambda: run(gated_depthwise, xs, weight, True, kernel, grad_y))

    def test_nan_and_infinity_pass_as_in_torch(self) -> None:
        xs, weight, kernel, grad_y = draw((1, 8, 6, 6), 2, torch.float32)
        with torch.no_grad():
            xs[0][0, 2, 1, 1], xs[1][0, 3, 5, 5], xs[0][0, 4, 0, 3] = float("nan"), float("inf"), float("-inf")
        for relu in (False, True):
            found, want = (run(f, xs, weight, relu, kernel, grad_y) for f in (gated_depthwise, plain))
            for got, wanted in zip(found, want, strict=True):
                torch.testing.assert_close(got, wanted, equal_nan=True)

    def test_gradients_where_only_some_are_wanted(self) -> None:
        xs, weight, kernel, grad_y = draw((2, 5, 4, 3), 2, torch.float64)
        want = run(plain, xs, weight, True, kernel, grad_y)[1:]
        leaves = [*xs, weight, kernel]
        for wanted in range(len(leaves)):
            given = [leaf if i == wanted else leaf.detach() for i, leaf in enumerate(leaves)]
            y = gated_depthwise(given[:2], given[2], True, given[3])
            torch.testing.assert_close(torch.autograd.grad(y, leaves[wanted], grad_y)[0], want[wanted])

    def test_any_layout_of_the_gradient(self) -> None:
        xs, weight, kernel, grad_y = draw((2, 5, 4, 3), 2, torch.float64)
        for grad in (grad_y.contiguous(), grad_y[:, :1].expand(2, 5, 4, 3)):
            found, want = (run(f, xs, weight, True, kernel, grad) for f in (gated_depthwise, plain))
            for got, wanted in zip(found, want, strict=True):
                torch.testing.assert_close(got, wanted)

    @pytest.mark.parametrize("relu", [False, True])
    def test_gradcheck_twice(self, relu: bool) -> None:
        xs, weight, kernel, _ = draw((2, 2, 3, 2), 2, torch.float64)

        def function(*leaves: Tensor) -> Tensor:
            return gated_depthwise(leaves[:2], leaves[2], relu, leaves[3])

        assert torch.autograd.gradcheck(function, (*xs, weight, kernel))
        assert torch.autograd.gradgradcheck(function, (*xs, weight, kernel))

    def test_inputs_may_be_computed_from_each_other(self) -> None:
        """As in every stage. A gradient that is differentiated again must not be counted twice."""
        (x,), weight, kernel, grad_y = draw((2, 3, 4, 3), 1, torch.float64)
        weight = torch.cat([weight, -weight]).detach().requires_grad_()

        def function(x: Tensor, weight: Tensor, kernel: Tensor) -> Tensor:
            return gated_depthwise([x, x * x], weight, True, kernel)

        want = torch.autograd.grad(plain([x, x * x], weight, True, kernel), [x, weight, kernel], grad_y)
        for create_graph in (False, True):
            found = torch.autograd.grad(
                function(x, weight, kernel), [x, weight, kernel], grad_y, create_graph=create_graph
            )
            for got, wanted in zip(found, want, strict=True):
                torch.testing.assert_close(got, wanted)
        assert torch.autograd.gradgradcheck(function, (x, weight, kernel))

    def test_a_batch_of_gradients_at_once(self) -> None:
        (x,), weight, kernel, _ = draw((2, 3, 3, 2), 1, torch.float64)
        weight = torch.cat([weight, -weight]).detach().requires_grad_()
        leaves = [x, weight, kernel]
        y = gated_depthwise([x, x * x], weight, True, kernel)
        grads = torch.randn(3, *y.shape, dtype=torch.float64)
        found = torch.autograd.grad(y, leaves, grads, is_grads_batched=True, retain_graph=True)
        for i, grad in enumerate(grads):
            for got, want in zip(found, torch.autograd.grad(y, leaves, grad, retain_graph=True), strict=True):
                torch.testing.assert_close(got[i], want)

    def test_operations_are_counted(self) -> None:
        """As the convolution's; its backward has twice as many (torch counts a grouped one's without groups)."""
        xs, weight, kernel, grad_y = draw((2, 3, 4, 5), 2, torch.float32)
        counts = []
        for call in (
            lambda: plain(xs, weight, True, kernel),
            lambda: gated_depthwise(xs, weight, True, kernel),
            lambda: run(gated_depthwise, xs, weight, True, kernel, grad_y),
        ):
            with FlopCounterMode(display=False) as counter:
                call()
            counts.append(counter.get_total_flops())
        assert counts == [2160, 2160, 3 * 2160]

    def test_opcheck(self) -> None:
        xs, weight, kernel, grad_y = draw((2, 3, 4, 5), 2, torch.float32)
        xs, weight, kernel = [x.detach() for x in xs], weight.detach(), kernel.detach()
        ops = torch.ops.freewire
        torch.library.opcheck(ops.gated_depthwise.default, (xs, weight, True, kernel))
        for need in (True, False):
            arguments = (grad_y, xs, weight, True, kernel, need, need)
            torch.library.opcheck(ops.gated_depthwise_backward.default, arguments)

    def test_nothing_but_the_arguments_is_kept(self) -> None:
        xs, weight, kernel, _ = draw((2, 3, 4, 5), 2, torch.float32)
        kept: list[Tensor] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
            gated_depthwise(xs, weight, True, kernel)
        assert {t.data_ptr() for t in kept} == {t.data_ptr() for t in (*xs, weight, kernel)}

    def test_messages(self) -> None:
        forward = torch.ops.freewire.gated_depthwise.default
        backward = torch.ops.freewire.gated_depthwise_backward.default
        xs, weight, kernel, grad_y = draw((2, 3, 4, 5), 2, torch.float32)
        xs, weight, kernel = [x.detach() for x in xs], weight.detach(), kernel.detach()
        refused = [
            (lambda: forward([x.contiguous() for x in xs], weight, True, kernel), "xs: expected channels_last tensors"),
            (lambda: forward([x[0] for x in xs], weight, True, kernel), "xs: expected "),
            (lambda: forward(xs, weight[:1], True, kernel), "weight: expected one number for each of 2 tensors, got 1"),
            (lambda: forward(xs, weight, True, kernel[:2]), r"kernel: expected shape \[3, 1, 3, 3\]"),
            (lambda: forward(xs, weight, True, kernel.double()), "kernel: expected the element type and the device"),
            (
                lambda: backward(grad_y[:1], xs, weight, True, kernel, True, True),
                "grad_y: expected the shape and the strides",
            ),
        ]
        for call, message in refused:
            with pytest.raises(RuntimeError, match=message):
                call()


class TestCanFuse:
    """`can_fuse`: true only for equal values, and where no hook sees what is between the two calls."""

    def test_separable_convolutions(self) -> None:
        xs, *_ = draw((2, 3, 4, 5), 2, torch.float32)
        assert can_fuse(xs, SeparableConv(3, 3).depthwise)

    @pytest.mark.parametrize(
        "convolution",
        [
            lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3),
            lambda: nn.Conv2d(3, 3, 3, padding=1, bias=False),
            lambda: nn.Conv2d(3, 6, 3, padding=1, groups=3, bias=False),
            lambda: nn.Conv2d(3, 3, 3, stride=2, padding=1, groups=3, bias=False),
            lambda: nn.Conv2d(3, 3, 3, groups=3, bias=False),
            lambda: nn.Conv2d(3, 3, 3, padding=2, dilation=2, groups=3, bias=False),
            lambda: nn.Conv2d(3, 3, 3, padding="same", groups=3, bias=False),
            lambda: nn.Conv2d(3, 3, 5, padding=2, groups=3, bias=False),
            lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False, padding_mode="circular"),
            lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False).double(),
            lambda: nn.utils.parametrizations.weight_norm(SeparableConv(3, 3).depthwise),
            lambda: nn.Identity(),
        ],
    )
    def test_no_other_module(self, convolution: Callable[[], nn.Module]) -> None:
        xs, *_ = draw((2, 3, 4, 5), 2, torch.float32)
        assert not can_fuse(xs, convolution())

    def test_no_other_tensors(self) -> None:
        xs, *_ = draw((2, 3, 4, 5), 2, torch.float32)
        convolution = SeparableConv(3, 3).depthwise
        assert not can_fuse([x.contiguous() for x in xs], convolution)
        assert not can_fuse([xs[0], xs[1][:1]], convolution)
        assert not can_fuse([x.double() for x in xs], convolution)
        assert not can_fuse([x.to("meta") for x in xs], convolution.to("meta"))
        assert not can_fuse([nn.Parameter(x) for x in xs], SeparableConv(3, 3).depthwise)

    def test_not_under_autocast_and_transforms(self) -> None:
        xs, *_ = draw((2, 3, 4, 5), 2, torch.float32)
        convolution = SeparableConv(3, 3).depthwise
        with torch.autocast("cpu"):
            assert not can_fuse(xs, convolution)
        seen = []
        torch.func.vmap(lambda x: seen.append(can_fuse([x], convolution)) or x)(torch.zeros(2, *xs[0].shape))
        assert seen == [False]

    @pytest.mark.parametrize("which", ["xs", "weight", "kernel"])
    def test_forward_mode(self, which: str) -> None:
        xs, weight, kernel, _ = draw((2, 3, 4, 5), 2, torch.float64)

        def tangent(function: Callable[..., Tensor]) -> Tensor:
            def dual(tensor: Tensor, name: str) -> Tensor:
                return forward_ad.make_dual(tensor, torch.ones_like(tensor)) if name == which else tensor

            with forward_ad.dual_level():
                y = function([dual(x, "xs") for x in xs], dual(weight, "weight"), True, dual(kernel, "kernel"))
                return forward_ad.unpack_dual(y).tangent

        torch.testing.assert_close(tangent(gated_depthwise), tangent(plain))

    def test_not_where_hooks_would_notice(self) -> None:
        xs, *_ = draw((2, 3, 4, 5), 2, torch.float32)
        convolution = SeparableConv(3, 3).depthwise
        convolution.forward = convolution.forward  # as libraries do that offload weights
        assert not can_fuse(xs, convolution)
        del convolution.forward
        for register in ("register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook"):
            handle = getattr(convolution, register)(lambda *_: None)
            assert not can_fuse(xs, convolution)
            handle.remove()
            assert can_fuse(xs, convolution)

    def test_not_in_a_trace(self) -> None:
        xs, *_ = draw((2, 3, 4, 5), 1, torch.float32)
        seen = []
        convolution = SeparableConv(3, 3).depthwise
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch.jit.trace is deprecated
            torch.jit.trace(
                lambda x: seen.append(can_fuse([x], convolution)) or x + 1, (xs[0].detach(),), check_trace=False
            )
        assert seen == [False]

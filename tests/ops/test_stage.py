# SPDX-License-Identifier: MIT
"""The operators of a whole stage, called directly, against the same computation in plain torch operations.

Their autograd is tested through the modules that use it, in tests/models/test_whole_stage.py; their messages in
test_stage_messages.py.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tests.support.stage_cases import EDGES, FULL, NODES, OPS, Case, draw, plain, plain_training
from tests.support.tensors import DTYPES, NARROW, assert_same_bits, assert_threads_change_no_bit, assert_within

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_agree(found: list[Tensor], want: list[Tensor], rough: list[Tensor], dtype: torch.dtype) -> None:
    for i, (got, exact_one, rough_one) in enumerate(zip(found, want, rough, strict=True)):
        if dtype in NARROW:  # gradients of maps are rounded as well, which happens on the way to all others
            assert got.shape == exact_one.shape
            # An edge's weight has as many terms as there are entries in a map, of order one, which cancel.
            least = want[2].numel() ** 0.5 / 4 if i == EDGES else 1e-3
            error = (got.double() - exact_one).norm() / exact_one.norm().clamp(min=least)
            assert error < 8 * torch.finfo(dtype).eps, f"result {i}: {error:.2g}"
        else:
            assert_within(got, exact_one, rough_one, f"result {i}")


class TestValues:
    @pytest.mark.parametrize("relu", [False, True])
    @pytest.mark.parametrize("shape", FULL)
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_inference_matches_plain_torch(self, dtype: torch.dtype, shape: str, relu: bool) -> None:
        case = draw(shape, dtype, relu)
        y = case.inference()
        assert y.dtype == dtype
        assert y.is_contiguous(memory_format=torch.channels_last)
        want = plain(case.wider(), dtype, norms=False)[0]
        rough = want if dtype in NARROW else plain(case, dtype, norms=False)[0]
        assert_agree([y], [want], [rough], dtype)

    @pytest.mark.parametrize("fixed", [False, True], ids=["batch", "fixed"])
    @pytest.mark.parametrize("relu", [False, True])
    @pytest.mark.parametrize("shape", FULL)
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_training_matches_plain_torch(self, dtype: torch.dtype, shape: str, relu: bool, fixed: bool) -> None:
        case = draw(shape, dtype, relu, fixed)
        found = case.training()
        assert found[2].is_contiguous(memory_format=torch.channels_last)
        want = plain_training(case.wider(), dtype)
        rough = want if dtype in NARROW else plain_training(case, dtype)
        assert_agree(found, want, rough, dtype)

    def test_a_scale_of_one_may_be_omitted(self) -> None:
        case = draw("wide", torch.float64)
        case.gamma = torch.ones_like(case.gamma)
        x, weight, depthwise, pointwise, _, *rest = case.inference_arguments()
        y = OPS.stage_inference(x, weight, depthwise, pointwise, None, *rest)
        torch.testing.assert_close(y, case.inference())

    def test_what_is_kept(self) -> None:
        """The results of the convolutions, in channels that are padded with zeros."""
        case = draw("wide", torch.float64)
        _, kept, *_ = case.forward()
        for got, want in zip(kept, plain(case, torch.float64, norms=True)[1], strict=True):
            assert got.shape == (3, 5, 4, 80)
            torch.testing.assert_close(got[..., :78].permute(0, 3, 1, 2), want)
            assert not got[..., 78:].any()

    @pytest.mark.parametrize("shape", ["wide", "bands", "many"])
    def test_statistics_of_numbers_far_from_zero(self, shape: str) -> None:
        """Where a mean of squares would lose all digits of the variance."""
        case = draw(shape, torch.float32, relu=False)
        case.x += 1e4
        _, kept, mean, variance = case.forward()
        exact = [z[..., : mean.shape[1]].double().flatten(0, 2) for z in kept]
        torch.testing.assert_close(mean.double(), torch.stack([z.mean(0) for z in exact]), rtol=1e-6, atol=1e-6)
        wanted = torch.stack([z.var(0, correction=0) for z in exact])
        torch.testing.assert_close(variance.double(), wanted, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("shape", ["empty", "no rows"])
    def test_nothing(self, shape: str) -> None:
        case = draw(shape, torch.float32, fixed=True)
        assert case.inference().shape == case.grad_y.shape
        mean, variance, y, *grads = case.training()
        assert_same_bits([mean, variance], [case.mean, case.variance])
        assert y.shape == case.grad_y.shape
        assert not any(grad.any() for grad in grads)

    def test_other_layouts_of_kernels(self) -> None:
        case = draw("wide", torch.float64)
        want = case.training()
        strided = [torch.stack([kernel, kernel], -1)[..., 0] for kernel in (*case.depthwise, *case.pointwise)]
        assert not any(kernel.is_contiguous() for kernel in strided)
        case.depthwise, case.pointwise = strided[:NODES], strided[NODES:]
        assert_same_bits(case.training(), want)

    def test_the_gradient_of_x_may_be_omitted(self) -> None:
        case = draw("wide", torch.float64)
        grad_x, *others, depthwise, pointwise = OPS.stage_backward(*case.backward_arguments(need_x=False))
        assert grad_x.shape == (0,)
        assert_same_bits([*others, *depthwise, *pointwise], case.training()[4:])


class TestBits:
    @pytest.mark.parametrize("threads", [1, 2, 3])
    @pytest.mark.parametrize("batch", [1, 3, 17])
    def test_the_number_of_threads_changes_no_bit_of_inference(self, batch: int, threads: int) -> None:
        """Small images are divided by image."""
        case = draw((batch, 5, 19, 23, 9, 2), torch.float32)
        assert_threads_change_no_bit(threads, lambda: [case.inference()])

    @pytest.mark.parametrize("threads", [2, 3, 5])
    @pytest.mark.parametrize("batch", [1, 2, 3])
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_nor_where_images_are_divided_by_rows(self, dtype: torch.dtype, batch: int, threads: int) -> None:
        """Few large images on several threads; the values are those of one thread, which are tested above."""
        case = draw((batch, 20, 70, 77, 90, 2), dtype)  # a node has more than a million products per thread
        assert_threads_change_no_bit(threads, lambda: [case.inference()])

    @pytest.mark.parametrize("threads", [1, 2, 3])
    @pytest.mark.parametrize("batch", [1, 3, 17])
    def test_nor_of_training(self, batch: int, threads: int) -> None:
        case = draw((batch, 5, 19, 23, 9, 2), torch.float32)
        assert_threads_change_no_bit(threads, case.training)

    def test_nor_does_the_batch(self) -> None:
        """An image's result does not depend on those beside it."""
        case = draw((17, 5, 19, 23, 9, 2), torch.float32)
        y = case.inference()
        for n in (0, 16):
            alone = replace(case, x=case.x[n : n + 1])
            assert_same_bits([alone.inference()], [y[n : n + 1]])


class TestSpecialValues:
    @staticmethod
    def wild(dtype: torch.dtype, relu: bool, fixed: bool) -> Case:
        case = draw((2, 5, 5, 9, 9, 1), dtype, relu, fixed)
        case.x[0, 2, 1, 1], case.x[1, 3, 8, 8], case.x[1, 4, 0, 3] = float("nan"), float("inf"), float("-inf")
        return case

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize("relu", [False, True])
    def test_nan_and_infinity_pass_as_in_torch(self, relu: bool, dtype: torch.dtype) -> None:
        for fixed in (False, True):
            case = self.wild(dtype, relu, fixed)
            found, want = case.training(), plain_training(case, dtype)
            assert fixed == found[2].isfinite().any()
            for got, wanted in zip(found, want, strict=True):
                torch.testing.assert_close(got, wanted, equal_nan=True, rtol=1e-4, atol=1e-4)
        y, want_y = case.inference(), plain(case, dtype, norms=False)[0]
        assert y.isfinite().any()
        assert not y.isfinite().all()
        torch.testing.assert_close(y, want_y, equal_nan=True, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_padding_stays_zero(self, dtype: torch.dtype) -> None:
        """Whatever the other channels are: a NaN there would reach sums over all channels."""
        for kept in self.wild(dtype, True, True).forward()[1]:
            assert not kept[..., :5].isfinite().all()
            assert torch.equal(kept[..., 5:], torch.zeros_like(kept[..., 5:]))

    def test_an_edge_whose_gate_is_zero(self) -> None:
        """As `GraphStage` removes edges."""
        case = draw("wide", torch.float64)
        case.weight[[0, 4]] = -torch.inf
        found = case.training()
        for got, want in zip(found, plain_training(case, torch.float64), strict=True):
            torch.testing.assert_close(got, want)
        assert not found[4][[0, 4]].any()


class TestRegistered:
    @pytest.mark.parametrize(
        ("shape", "fixed"), [((2, 3, 5, 4, 5, 2), False), ((1, 2, 16, 1, 3, 1), True), ((0, 3, 5, 4, 5, 1), True)]
    )
    def test_opcheck(self, shape: tuple[int, ...], fixed: bool) -> None:
        case = draw(shape, torch.float32, fixed=fixed)
        torch.library.opcheck(OPS.stage_forward.default, case.forward_arguments())
        torch.library.opcheck(OPS.stage_backward.default, case.backward_arguments(need_x=fixed))
        torch.library.opcheck(OPS.stage_inference.default, case.inference_arguments())

    def test_operations_are_counted(self) -> None:
        """As the convolutions'; the backward has twice as many."""
        case = draw((2, 3, 5, 4, 6, 2), torch.float32)
        arguments = case.backward_arguments()
        counts = []
        for call in (
            lambda: plain(case, torch.float32, norms=True),
            case.inference,
            case.forward,
            lambda: OPS.stage_backward(*arguments),
        ):
            with FlopCounterMode(display=False) as counter:
                call()
            counts.append(counter.get_total_flops())
        pixels = 2 * 2 * 3
        count = 2 * pixels * (2 * (9 * 3 + 3 * 5) + 3 * (9 * 5 + 5 * 5))
        assert counts == [count, count, count, 2 * count]

# SPDX-License-Identifier: MIT
"""What the operators of a whole stage say about arguments that do not fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from tests.support.stage_cases import EPSILON, OPS, draw


class TestMessages:
    CASE = draw((2, 3, 4, 4, 5, 2), torch.float32, fixed=True)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"x": CASE.x[0]}, r"x: expected \[batch, channels, height, width\], got 3 dimension\(s\)"),
            ({"x": CASE.x.contiguous()}, "x: expected a channels_last tensor, got another layout"),
            ({"x": CASE.x[:, :0]}, "x: expected at least one channel, got none"),
            ({"x": CASE.x[:, :2]}, "x: expected a channels_last tensor"),
            ({"stride": 0}, "stride: expected at least 1, got 0"),
            ({"pointwise": []}, r"pointwise: expected kernels \[out_channels, channels, 1, 1\]"),
            ({"pointwise": [k.flatten() for k in CASE.pointwise]}, r"pointwise: expected kernels \[out_channels"),
            ({"pointwise": [k[:0] for k in CASE.pointwise]}, r"pointwise: expected kernels \[out_channels"),
            ({"pointwise": CASE.pointwise[:4]}, "expected a kernel of each for 5 nodes, got 5 and 4"),
            ({"depthwise": CASE.depthwise[:4]}, "expected a kernel of each for 5 nodes, got 4 and 5"),
            ({"depthwise": CASE.depthwise[::-1]}, r"depthwise: expected a kernel \[3, 1, 3, 3\] of the element type"),
            ({"pointwise": CASE.pointwise[::-1]}, r"pointwise: expected a kernel \[4, 3, 1, 1\] of the element type"),
            ({"depthwise": [k.double() for k in CASE.depthwise]}, r"depthwise: expected a kernel \[3, 1, 3, 3\]"),
            ({"weight": CASE.weight[:5]}, r"weight: expected shape \[6\], a number per edge, got \[5\]\."),
            ({"weight": CASE.weight[:, None]}, r"weight: expected shape \[6\], a number per edge, got \[6, 1\]\."),
            ({"weight": CASE.weight.double()}, "weight: expected a contiguous tensor of float32, or float64 for"),
            ({"weight": torch.zeros(12)[::2]}, "weight: expected a contiguous tensor"),
        ],
    )
    def test_of_all_operators(self, changes: dict[str, Any], message: str) -> None:
        arguments = self.CASE.backward_arguments()
        given = replace(self.CASE, **changes)
        with pytest.raises(RuntimeError, match=message):
            given.inference()
        with pytest.raises(RuntimeError, match=message):
            given.forward()
        names = {"x": 1, "weight": 5, "depthwise": 6, "pointwise": 7, "stride": 13}
        changed = [changes.get(next((n for n, at in names.items() if at == i), ""), a) for i, a in enumerate(arguments)]
        with pytest.raises(RuntimeError, match=message):
            OPS.stage_backward(*changed)

    @pytest.mark.parametrize(
        ("in_ptr", "in_src"),
        [
            ([], []),
            ([0], []),
            ([1, 1], [0]),
            ([0, 0, 2], [0]),
            ([0, 1], [0]),
            ([0, 0, 1, 1], [0]),  # a node without in-edges after one that has any
            ([0, 0, 2, 1, 3], [0, 1, 1]),
            ([0, 0, 1], [1]),
            ([0, 0, 1], [-1]),
        ],
    )
    def test_of_wirings(self, in_ptr: list[int], in_src: list[int]) -> None:
        case = self.CASE
        with pytest.raises(RuntimeError, match="in_ptr, in_src: expected the in-edges of nodes that come after their"):
            OPS.stage_inference(*case.inference_arguments()[:6], in_ptr, in_src, 2, True)

    def test_of_inference(self) -> None:
        for name in ("gamma", "beta"):
            called = {"gamma": "scale", "beta": "shift"}[name]
            given = getattr(self.CASE, name)
            for change, message in (
                (given[:4], rf"{called}: expected shape \[5, 4\], a number per node and channel, got \[4, 4\]\."),
                (given[0], rf"{called}: expected shape \[5, 4\]"),
                (given.T.contiguous(), rf"{called}: expected shape \[5, 4\]"),
                (given.double(), f"{called}: expected a contiguous tensor of float32"),
                (given.T.contiguous().T, f"{called}: expected a contiguous tensor of float32"),
            ):
                with pytest.raises(RuntimeError, match=message):
                    replace(self.CASE, **{name: change}).inference()

    @pytest.mark.parametrize("name", ["gamma", "beta", "mean", "variance"])
    def test_of_norms(self, name: str) -> None:
        given = getattr(self.CASE, name)
        arguments = list(self.CASE.backward_arguments())
        place = {"mean": 3, "variance": 4, "gamma": 8, "beta": 9}[name]
        for change, message in (
            (given[:4], rf"{name}: expected shape \[5, 4\]"),
            (given.double(), f"{name}: expected a contiguous tensor of float32"),
        ):
            with pytest.raises(RuntimeError, match=message):
                replace(self.CASE, **{name: change}).forward()
            with pytest.raises(RuntimeError, match=message):
                OPS.stage_backward(*arguments[:place], change, *arguments[place + 1 :])

    def test_of_training(self) -> None:
        for changes, message in (
            ({"mean": None}, "mean, variance: expected both or neither, got one of the two"),
            ({"variance": None}, "mean, variance: expected both or neither, got one of the two"),
            ({"epsilon": EPSILON[:3]}, "epsilon: expected one number for each of 5 nodes, got 3"),
        ):
            with pytest.raises(RuntimeError, match=message):
                replace(self.CASE, **changes).forward()
        for shape in ("empty", "no rows"):
            case = replace(draw(shape, torch.float32, fixed=True), mean=None, variance=None)
            with pytest.raises(RuntimeError, match="x: expected at least one pixel, whose statistics the norms use"):
                case.forward()

    def test_of_the_backward(self) -> None:
        arguments = list(self.CASE.backward_arguments())
        kept = arguments[2]
        for place, change, message in (
            (0, self.CASE.grad_y.contiguous(), "grad_y: expected a gradient of the shape and the strides of y"),
            (0, self.CASE.grad_y[:1], "grad_y: expected a gradient of the shape and the strides of y"),
            (0, self.CASE.grad_y.double(), "grad_y: expected a gradient of the shape and the strides of y"),
            (2, kept[:4], r"results: expected what stage_forward has kept, got 4 other tensor\(s\)\."),
            (2, [k.double() for k in kept], "results: expected what stage_forward has kept"),
            (2, [k[..., :4] for k in kept], "results: expected what stage_forward has kept"),
            (2, [k[:1] for k in kept], "results: expected what stage_forward has kept"),
            (2, [k[0] for k in kept], "results: expected what stage_forward has kept"),
            (10, EPSILON[:3], "epsilon: expected one number for each of 5 nodes, got 3"),
        ):
            with pytest.raises(RuntimeError, match=message):
                OPS.stage_backward(*arguments[:place], change, *arguments[place + 1 :])

    def test_of_types(self) -> None:
        with pytest.raises(RuntimeError, match="x: expected one of "):
            replace(
                self.CASE,
                x=self.CASE.x.int(),
                depthwise=[k.int() for k in self.CASE.depthwise],
                pointwise=[k.int() for k in self.CASE.pointwise],
            ).inference()

# SPDX-License-Identifier: MIT
"""A stage's inference in bfloat16, by each of the processor's matrix units, beside the same operator in float64.

Where a unit multiplies pairs of bfloat16 numbers, a node rounds three times: the result of its depthwise convolution,
the weights of its 1x1 convolution (with a batch norm's scale folded in), and its result. A rounding is wrong by at most
2^-9 of the number, and errors of many terms partly cancel, so that 2^-8 per level of the graph bounds the error of a
whole result, relative to its size. A single entry's error is measured against the result's root mean square; it may be
six times as large, since entries are sums of terms larger than themselves.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from freewire.ops import library

UNITS = ("none", "avx512bf16", "amx")  # slowest first, as csrc/cpu/isa/matrix_unit.cpp lists them
IN_PTR, IN_SRC = [0, 0, 0, 1, 3, 6, 7], [0, 0, 1, 1, 2, 3, 2]  # two nodes read the stage's input, two are its sinks
LEVELS = 3
EPSILON = 2.0**-8


class Case(NamedTuple):
    """The arguments of `stage_inference`, its numbers representable in bfloat16."""

    x: Tensor
    weight: Tensor
    depthwise: list[Tensor]
    pointwise: list[Tensor]
    scale: Tensor | None
    shift: Tensor
    stride: int

    def run(self, dtype: torch.dtype) -> Tensor:
        """The result of the operator, with x and kernels of this type."""
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        result: Tensor = torch.ops.freewire.stage_inference(
            self.x.to(dtype).contiguous(memory_format=torch.channels_last),
            self.weight.to(wide),
            [each.to(dtype) for each in self.depthwise],
            [each.to(dtype) for each in self.pointwise],
            None if self.scale is None else self.scale.to(wide),
            self.shift.to(wide),
            IN_PTR,
            IN_SRC,
            self.stride,
            True,
        )
        return result


def case(
    channels: tuple[int, int], size: tuple[int, int], stride: int = 1, batch: int = 1, scaled: bool = True
) -> Case:
    """Numbers of order one, also in the result of every node."""
    generator = torch.Generator().manual_seed(channels[0] * size[1] + channels[1])

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).bfloat16().double()

    into = [channels[0] if IN_PTR[node] == IN_PTR[node + 1] else channels[1] for node in range(len(IN_PTR) - 1)]
    return Case(
        x=normal(batch, channels[0], *size),
        weight=normal(len(IN_SRC)),
        depthwise=[normal(c, 1, 3, 3) / 2 for c in into],
        pointwise=[(normal(channels[1], c, 1, 1) / c**0.5).bfloat16().double() for c in into],
        scale=normal(len(into), channels[1]) if scaled else None,
        shift=normal(len(into), channels[1]),
        stride=stride,
    )


def abs_of(argument: Any) -> Any:
    if isinstance(argument, list):
        return [each.abs() for each in argument]
    return abs(argument)


def assert_close(result: Tensor, expected: Tensor) -> None:
    """As the head of this file says."""
    error, size = result.double() - expected, expected.square().mean().sqrt()
    assert error.square().mean().sqrt() <= LEVELS * EPSILON * size
    assert error.abs().max() <= 6 * LEVELS * EPSILON * size


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


class TestValues:
    @pytest.mark.parametrize("channels", [(1, 1), (3, 5), (16, 16), (17, 33), (40, 80), (64, 32), (100, 109)], ids=str)
    def test_every_number_of_channels(self, channels: tuple[int, int]) -> None:
        given = case(channels, (6, 9))
        assert_close(given.run(torch.bfloat16), given.run(torch.float64))

    @pytest.mark.parametrize("width", [1, 2, 3, 6, 7, 8, 13, 14, 29, 60, 120])
    @pytest.mark.parametrize("stride", [1, 2, 3])
    def test_every_width_and_stride(self, width: int, stride: int) -> None:
        given = case((20, 40), (7, width), stride)
        assert_close(given.run(torch.bfloat16), given.run(torch.float64))

    @pytest.mark.parametrize("size", [(1, 1), (1, 17), (33, 1), (14, 14)], ids=str)
    @pytest.mark.parametrize("batch", [1, 3, 8])
    def test_every_size_and_batch(self, size: tuple[int, int], batch: int) -> None:
        given = case((24, 80), size, batch=batch, scaled=False)
        assert_close(given.run(torch.bfloat16), given.run(torch.float64))

    def test_empty_batch(self) -> None:
        given = case((3, 40), (8, 8), batch=0)
        assert given.run(torch.bfloat16).shape == (0, 40, 8, 8)

    @pytest.mark.parametrize("positive", [False, True])
    @pytest.mark.parametrize("value", [float("inf"), float("-inf"), float("nan")])
    @pytest.mark.parametrize("channels", [(17, 33), (40, 80), (48, 32), (9, 25), (30, 57)], ids=str)
    def test_infinity_and_nan_reach_the_entries_that_they_reach_in_float64(
        self, channels: tuple[int, int], value: float, positive: bool
    ) -> None:
        """Padding must not be multiplied by them: of positive numbers the products of an infinity are infinite."""
        given = case(channels, (12, 31))
        if positive:
            given = Case(*(abs_of(each) for each in given))
        given.x[0, channels[0] - 1, 3, 5] = given.x[0, 0, 11, 30] = value
        result, expected = given.run(torch.bfloat16), given.run(torch.float64)
        for kind in (torch.isnan, torch.isposinf, torch.isneginf):
            assert torch.equal(kind(result), kind(expected))
        finite = expected.isfinite()
        assert finite.any()
        assert_close(result[finite], expected[finite])

    def test_large_and_small_numbers(self) -> None:
        """Of numbers near the largest one products are finite, where they are; subnormal ones may count as zeros."""
        given = case((40, 80), (5, 6), scaled=False)._replace(shift=torch.zeros(6, 80))
        for scale in (2.0**100, 2.0**-100, 2.0**-128):
            result = given._replace(x=given.x * scale).run(torch.bfloat16)
            expected = given._replace(x=(given.x * scale).bfloat16().double()).run(torch.float64)
            if scale > 2.0**-120:
                assert_close(result / scale, expected / scale)
            else:
                assert result.abs().max() < 2.0**-120


class TestBits:
    @pytest.mark.parametrize("batch", [1, 3, 5])
    @pytest.mark.parametrize("channels", [(40, 80), (33, 17)], ids=str)
    def test_threads_change_no_bit(self, channels: tuple[int, int], batch: int) -> None:
        given = case(channels, (23, 22), stride=2, batch=batch)
        results = []
        for count in (1, 2, 3, 4):
            torch.set_num_threads(count)
            results.append(given.run(torch.bfloat16))
        for other in results[1:]:
            assert torch.equal(results[0].view(torch.int16), other.view(torch.int16))

    def test_images_of_a_batch_do_not_matter_to_each_other(self) -> None:
        given = case((40, 80), (9, 10), batch=3)
        result = given.run(torch.bfloat16)
        for i in range(3):
            assert torch.equal(given._replace(x=given.x[i : i + 1]).run(torch.bfloat16), result[i : i + 1])


class TestUnits:
    def run(self, *command: str, **environment: str) -> str:
        done = subprocess.run(
            [sys.executable, *command],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        return done.stdout

    @pytest.mark.slow
    @pytest.mark.parametrize("unit", UNITS[:-1])
    def test_values_by_a_lower_unit(self, unit: str) -> None:
        """A unit that the processor does not have changes nothing."""
        tests = [f"{__file__}::{group.__name__}" for group in (TestValues, TestBits)]
        self.run(
            "-m", "pytest", "-q", "-p", "no:cacheprovider", "--override-ini=addopts=", *tests, FREEWIRE_MATRIX=unit
        )

    @pytest.mark.slow
    @pytest.mark.parametrize("variable", [*(("FREEWIRE_MATRIX", unit) for unit in UNITS), ("FREEWIRE_ISA", "avx2")])
    def test_variables_lower_the_choice(self, variable: tuple[str, str]) -> None:
        name, value = variable
        printed = self.run("-c", "from freewire.ops import library; print(library.matrix_unit())", **{name: value})
        if name == "FREEWIRE_ISA":
            assert printed == "none\n"
        else:
            assert UNITS.index(printed.strip()) <= UNITS.index(value)

    def test_name(self) -> None:
        assert library.matrix_unit() in UNITS
        if library.instruction_set() != "avx512":
            assert library.matrix_unit() == "none"

# SPDX-License-Identifier: MIT
"""Random networks against the reference: ``python -m tests.support.fuzz [--first N] [--count N]``.

Case n is drawn from the seed n alone: a graph of `tests.support.random_graphs`, a type, a batch of some shape and
layout, a bias or none, checkpointing or not, one thread or two, and in some cases a few zeros, infinities and NaNs.
Outputs and all gradients are compared with `freewire.reference` in float64. A failure prints the command that runs the
one case again. The kernels' instruction set is that of $FREEWIRE_ISA (csrc/cpu/isa/dispatch.cpp).

How much rounding there may be depends on the network, so it is measured: the reference is repeated with every node's
value and gradient changed at random by a few roundings, and a result may differ by some times as much as those results
do. That covers decisions at kinks and ties too. Where the kernels compute in float32, infinities may also be those of
the reference in float32.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

import freewire as fw
from freewire.graph import ACTIVATIONS
from freewire.graph.fields import PREACTIVATION_KEPT
from freewire.ops.network_reference import ACTIVATION_FUNCTIONS
from tests.support.random_graphs import (
    EXACT_ACTIVATIONS,
    EXACT_AGGREGATIONS,
    draw_graph,
    draw_integers,
    draw_parameters,
)
from tests.support.tensors import DTYPES, NARROW, gradients

__all__ = ["Case", "check", "run"]

#: Leading shapes of x.
SHAPES = ((), (0,), (1,), (2,), (7,), (16,), (33,), (65,), (130,), (2, 3), (3, 0, 2), (5, 1, 7))
LAYOUTS = ("contiguous", "transposed", "strided", "expanded")
SPECIAL = (0.0, -0.0, float("inf"), -float("inf"), float("nan"))
NAMES = ("y", "grad_x", "grad_weight", "grad_bias")
ROUNDINGS = 4.0  # by which each value and gradient is changed, in units in the last place
FACTOR = 8.0  # times what those changes did


@dataclass(frozen=True)
class Case:
    """A network and how it is called."""

    seed: int
    net: fw.Network
    x: Tensor
    grad_y: Tensor
    threads: int
    #: Weights and inputs are small integers and functions exact: nothing is rounded, and there are ties.
    exact: bool

    @classmethod
    def draw(cls, seed: int) -> Case:
        rng = np.random.default_rng((20191, seed))
        exact = rng.random() < 0.15
        graph = draw_graph(rng, *((EXACT_ACTIVATIONS, EXACT_AGGREGATIONS) if exact else ()))
        dtype = DTYPES[rng.choice(4, p=(0.4, 0.3, 0.15, 0.15))]
        net = fw.Network(
            graph, bias=bool(rng.random() < 0.7), checkpoint=bool(rng.random() < 0.2), dtype=dtype, init="uniform"
        )
        weight, bias = (draw_integers if exact else draw_parameters)(rng, graph)
        shape = SHAPES[rng.integers(len(SHAPES))]
        x = rng.standard_normal((*shape, len(graph.inputs))) * rng.choice((1.0, 1.0, 1.0, 4.0, 30.0))
        grad_y = rng.standard_normal((*shape, len(graph.outputs)))
        if exact:
            x, grad_y = rng.integers(-2, 3, x.shape) * 1.0, rng.integers(-2, 3, grad_y.shape) * 1.0
        for values, chance in ((x, 0.25), (weight, 0.05), (bias, 0.03), (grad_y, 0.1)):
            if rng.random() < chance:
                values[rng.random(values.shape) < 0.03] = rng.choice(SPECIAL)
        with torch.no_grad():
            net.weight.copy_(torch.from_numpy(weight))
            if net.bias is not None:
                net.bias.copy_(torch.from_numpy(bias))
        x, grad_y = (laid_out(rng, torch.from_numpy(values).to(dtype)) for values in (x, grad_y))
        return cls(seed, net, x, grad_y, int(rng.integers(1, 3)), exact)

    def __str__(self) -> str:
        g = self.net.graph
        return (
            f"case {self.seed} ({g.num_nodes} nodes, {g.num_edges} edges, {str(self.x.dtype)[6:]}, "
            f"x {list(self.x.shape)} of strides {list(self.x.stride())})"
        )


def laid_out(rng: np.random.Generator, values: Tensor) -> Tensor:
    """The same numbers, or of ``"expanded"`` the first sample's, in some layout."""
    layout = LAYOUTS[rng.choice(4, p=(0.55, 0.15, 0.15, 0.15))]
    if layout == "transposed" and values.dim() > 1:
        return values.movedim(-1, 0).contiguous().movedim(0, -1)
    if layout == "strided":
        return values.repeat_interleave(2, -1)[..., ::2]
    if layout == "expanded" and values.dim() > 1 and values.numel():
        return values.flatten(0, -2)[:1].reshape((1,) * (values.dim() - 1) + values.shape[-1:]).expand(values.shape)
    return values


# ---------------------------------------------------------------------------------- the reference, rounded as asked

#: The gradient through activations whose derivative the kernels compute from the value.
FROM_VALUE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear": lambda grad, v: grad,
    "relu": lambda grad, v: grad.masked_fill(v <= 0, 0),
    "leaky_relu": lambda grad, v: torch.where(v > 0, grad, 0.01 * grad),
    "elu": lambda grad, v: torch.where(v <= 0, grad * (v + 1), grad),
    "selu": lambda grad, v: grad * torch.where(v <= 0, v + 1.0507009873554805 * 1.6732632423543772, 1.0507009873554805),
    "sigmoid": lambda grad, v: grad * (v * (1 - v)),
    "tanh": lambda grad, v: grad * (1 - v * v),
    "step": lambda grad, v: torch.zeros_like(grad),
    "hard_tanh": lambda grad, v: grad.masked_fill(v.abs() >= 1, 0),
    "hard_sigmoid": lambda grad, v: torch.where((v > 0) & (v < 1), grad / 6, 0),
}


@dataclass(frozen=True)
class Rounding:
    """What is done to each value and gradient of a run of the reference."""

    #: The type that values are rounded to, and pre-activations where derivatives need them.
    stored: torch.dtype
    #: Random changes; None: no changes.
    generator: torch.Generator | None = None
    #: Whether derivatives change by roundings of 1, even where a function is flat. To a huge gradient that is much.
    absolute: bool = True

    def store(self, values: Tensor) -> Tensor:
        return values.to(self.stored).to(values.dtype) if self.stored in NARROW else values

    def changed(self, values: Tensor, unit: Tensor | float = 0.0) -> Tensor:
        """Values changed by some roundings, or ``unit`` times as much; infinities and NaNs stay unchanged."""
        if self.generator is None:
            return values
        compute = torch.float64 if self.stored == torch.float64 else torch.float32
        signs = torch.randint(0, 2, (2, *values.shape), generator=self.generator).to(values.dtype) * 2 - 1
        move = ROUNDINGS * torch.finfo(compute).eps * (signs[0] * values + signs[1] * unit)
        if self.stored in NARROW:  # now and then, what is stored is the number next to it
            move += torch.where(self._few(values), signs[0] * values * torch.finfo(self.stored).eps, 0)
        return torch.where(move.isfinite(), values + move, values)

    def _few(self, values: Tensor) -> Tensor:
        return torch.rand(values.shape, generator=self.generator) < 0.05


class _Node(torch.autograd.Function):
    """An activation as the kernels compute it: values are rounded, and the derivative is computed from those."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, name: str, rounding: Rounding) -> Tensor:
        # The last digits of 1 + erf(z), and of z + 3, are lost where they cancel.
        unit = z.abs().clamp(max=6) if name in ("gelu", "hard_sigmoid") else 0.0
        exact = FUNCTIONS[name](z)
        value = rounding.store(rounding.changed(exact, unit))
        if name in FROM_VALUE and not rounding.absolute:
            value = torch.where(FROM_VALUE[name](torch.ones_like(exact), exact) == 0, exact, value)
        ctx.name, ctx.rounding = name, rounding
        ctx.save_for_backward(rounding.store(rounding.changed(z)) if name in PREACTIVATION_KEPT else value)
        return value

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (from_,) = ctx.saved_tensors
        if ctx.name in FROM_VALUE:
            found = FROM_VALUE[ctx.name](grad, from_)
        else:
            with torch.enable_grad():
                z = from_.detach().requires_grad_()
                (found,) = torch.autograd.grad(FUNCTIONS[ctx.name](z), z, grad)
        return ctx.rounding.changed(found, grad if ctx.rounding.absolute else 0.0), None, None


FUNCTIONS = dict(ACTIVATION_FUNCTIONS)


@contextmanager
def rounded(rounding: Rounding) -> Iterator[None]:
    """Within it, the reference rounds."""
    functions = {name: lambda z, name=name: _Node.apply(z, name, rounding) for name in ACTIVATIONS}
    with mock.patch.dict(ACTIVATION_FUNCTIONS, functions):
        yield


def reference_results(case: Case, compute: torch.dtype, change: int | None = None) -> list[Tensor]:
    """y and the gradients by the reference, in float64. ``change``: the seed of random changes."""
    generator = None if change is None else torch.Generator().manual_seed(change)
    rounding = Rounding(case.x.dtype, generator, absolute=change is None or change % 4 < 2)
    net = fw.Network(case.net.graph, bias=case.net.bias is not None, dtype=compute, init="uniform")
    with torch.no_grad():
        for to, parameter in zip(net.parameters(), case.net.parameters(), strict=True):
            to.copy_(rounding.changed(parameter.to(compute)))
    with rounded(rounding):
        x, grad_y = rounding.changed(case.x.to(compute)), case.grad_y.to(compute)
        return [values.double() for values in gradients(lambda x: fw.reference(net, x), net, x, grad_y)]


# ---------------------------------------------------------------------------------- the check


def check(case: Case, most: int = 256) -> None:
    """Run a case; AssertionError where a result is wrong. ``most``: runs of the reference to explain a difference."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(case.threads)
        found = gradients(case.net, case.net, case.x, case.grad_y)
        with torch.no_grad():
            alone = case.net(case.x)
    finally:
        torch.set_num_threads(before)
    compute = torch.float64 if case.x.dtype == torch.float64 else torch.float32
    want, rough = reference_results(case, torch.float64), reference_results(case, compute)
    moved: list[list[Tensor]] = []
    for rounds in (0,) if case.exact else (0, 4, 32, 256):  # most cases need none
        if rounds > most:
            break
        for i in range(len(moved), rounds):
            moved += [reference_results(case, torch.float64 if i % 2 == 0 else compute, i)]
        wrong = [
            problem
            for name, got, which in zip(("y without gradients", *NAMES), (alone, *found), (0, 0, 1, 2, 3), strict=False)
            if (problem := compared(name, got, want[which], rough[which], [results[which] for results in moved]))
        ]
        if not wrong:
            return
    raise AssertionError(f"{case}: {'; '.join(wrong)}")


def compared(name: str, got: Tensor, want: Tensor, rough: Tensor, moved: Sequence[Tensor]) -> str | None:
    """What is wrong with a result; None if nothing is."""
    if got.shape != want.shape:
        return f"{name}: expected shape {list(want.shape)}, got {list(got.shape)}"
    info = torch.finfo(got.dtype)
    got, want = got.double(), want.double()
    others = [rough, *moved]
    spread = torch.zeros_like(want)
    for other in others:
        spread = torch.maximum(spread, (other - want).abs().nan_to_num(0, 0, 0))
    units = 1 if info.bits == 16 else ROUNDINGS
    allowed = FACTOR * spread + 2 * units * info.eps * want.abs() + info.smallest_normal
    right = (got - want).abs() <= allowed
    for other in (want, *others):  # the same infinity or NaN; or one that is too large for the type
        stored = other.to(torch.float16 if info.bits == 16 and info.max < 1e5 else torch.float32).double()
        stored = other if info.bits == 64 else stored
        right |= (got == stored) | (got.isnan() & stored.isnan())
        right |= got.isinf() & (got.sign() == other.sign()) & (other.abs() + allowed >= info.max)
        right |= ~want.isfinite() & ((got - other).abs() <= 1e-2 * other.abs())
    if right.all():
        return None
    first = tuple((~right).nonzero()[0].tolist())
    return (
        f"{name}{list(first)}: expected {want[first].item():.6g} within {allowed[first].item():.3g}, "
        f"got {got[first].item():.6g} ({int((~right).sum())} of {right.numel()} wrong)"
    )


def run(first: int, count: int) -> list[str]:
    """The failures of cases ``first`` to ``first + count - 1``, in words."""
    failures = []
    for seed in range(first, first + count):
        try:
            check(Case.draw(seed))
        except AssertionError as error:
            failures.append(str(error))
    return failures


def main() -> int:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.fuzz", description="Random networks.")
    parser.add_argument("--first", type=int, default=0, help="the first case")
    parser.add_argument("--count", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    start = time.perf_counter()
    failures = run(options.first, options.count)
    for failure in failures:
        print(failure)
    if failures:
        isa = f"FREEWIRE_ISA={os.environ['FREEWIRE_ISA']} " if "FREEWIRE_ISA" in os.environ else ""
        print(f"Repeat one by: {isa}python -m tests.support.fuzz --first CASE")
    print(f"{options.count} cases, {len(failures)} wrong ({time.perf_counter() - start:.0f} s)")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())

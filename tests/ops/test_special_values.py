# SPDX-License-Identifier: MIT
"""Zeros, infinities, NaN, subnormal and huge numbers through every activation and aggregation, forward and backward.

Activations are compared with torch's own functions in float64, aggregations with `Spec`, a few lines of plain Python.
The reference must agree too. test_ops.py runs this file on other instruction sets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from tests.support.tensors import DTYPES, gradients

INF, NAN = math.inf, math.nan

#: What each activation computes, by torch's function of that name where there is one.
TORCH: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda z: z * 1,
    "relu": functional.relu,
    "leaky_relu": functional.leaky_relu,
    "elu": functional.elu,
    "selu": functional.selu,
    "gelu": functional.gelu,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "sin": torch.sin,
    "cos": torch.cos,
    "gaussian": lambda z: torch.where(z.abs() > 99, 0, torch.exp(-(torch.where(z.abs() > 99, 0, z) ** 2))),
    "abs": torch.abs,
    "square": lambda z: z * z,
    "step": lambda z: torch.where(z > 0, 1.0, 0.0) + 0 * torch.where(z.isfinite(), z, 0),  # with a gradient
    "hard_tanh": functional.hardtanh,
    "hard_sigmoid": functional.hardsigmoid,
}
#: Where an activation's derivative is 0 by definition, so that even an infinite or missing gradient becomes 0.
FLAT: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda z: z <= 0,
    "gaussian": lambda z: z.isinf(),
    "step": lambda z: torch.ones_like(z, dtype=torch.bool),
    "hard_tanh": lambda z: z.abs() >= 1,
    "hard_sigmoid": lambda z: ~(z.abs() < 3),
}
#: Derivatives at a NaN; NaN where not named.
AT_NAN = dict.fromkeys(("linear", "relu", "elu", "hard_tanh"), 1.0)
AT_NAN |= dict.fromkeys(("abs", "step", "hard_sigmoid"), 0.0) | {"leaky_relu": 0.01, "selu": 1.0507009873554805}
anywhere = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def special(dtype: torch.dtype) -> Tensor:
    """Special numbers of a type, ``[33, 1]``: one past 32, so that registers and tiles have a remainder."""
    info = torch.finfo(dtype)
    sizes = [0, info.smallest_normal * info.eps, info.smallest_normal, 1e-30, 1e-4, 1, 3, 6, 20, 21, 88, 89, 104, 700]
    sizes += [0.9 * info.max, INF]
    both = torch.tensor(sizes, dtype=torch.float64)
    return torch.cat((both, -both, torch.tensor([NAN], dtype=torch.float64))).to(dtype)[:, None]


def huge(dtype: torch.dtype) -> float:
    """A finite number of a type; twice as much is infinite."""
    return torch.tensor(0.9 * torch.finfo(dtype).max, dtype=torch.float64).to(dtype).item()


class TestActivations:
    @anywhere
    @pytest.mark.parametrize("upstream", [1.0, -2.0, 0.0, INF, NAN])
    def test_values_and_gradients(self, device: str, dtype: torch.dtype, upstream: float) -> None:
        self.check(device, dtype, upstream)

    @anywhere
    def test_a_huge_gradient(self, device: str, dtype: torch.dtype) -> None:
        """It is infinite only where its product with the derivative is."""
        self.check(device, dtype, huge(dtype))

    def check(self, device: str, dtype: torch.dtype, upstream: float) -> None:
        count = len(ACTIVATIONS)
        graph = fw.Graph.from_edges(  # an input and an output for each
            range(count), range(count, 2 * count), activation=["linear"] * count + list(ACTIVATIONS)
        )
        net = fw.Network(graph, bias=False, init=lambda w, _: w.fill_(1.0), dtype=dtype).to(device)
        x = special(dtype).expand(-1, count).to(device)
        for run in (net, lambda x: fw.reference(net, x)):
            y, grad, _ = (t.cpu() for t in gradients(run, net, x, torch.full_like(x, upstream)))
            for i, name in enumerate(ACTIVATIONS):
                z = special(dtype)[:, 0]
                exact = z.double().requires_grad_()
                want = TORCH[name](exact)
                direct = abs(upstream) != huge(dtype)  # or torch may overflow before it multiplies by a small factor
                factor = torch.full_like(want, upstream if direct else 1.0)
                (want_grad,) = torch.autograd.grad(want, exact, factor)
                want_grad = want_grad if direct else want_grad * upstream
                assert_near(y[:, i], want.detach(), z, f"{name}: y")
                assert_gradients(grad[:, i], want_grad, upstream, z, name)

    @anywhere
    @pytest.mark.parametrize("name", ACTIVATIONS)
    def test_every_nan_of_a_batch(self, device: str, dtype: torch.dtype, name: str) -> None:
        """Torch's functions may treat the numbers that fill SIMD registers unlike those that are left over."""
        graph = fw.Graph.from_edges([0], [1], output_activation=name)
        net = fw.Network(graph, bias=False, init=lambda w, _: w.fill_(1.0), dtype=dtype).to(device)
        x = torch.full((33, 1), NAN, dtype=dtype, device=device)
        for run in (net, lambda x: fw.reference(net, x)):
            y, grad, _ = (t.cpu().double() for t in gradients(run, net, x, torch.ones_like(x)))
            assert y.eq(0).all() if name == "step" else y.isnan().all()
            assert_same_numbers(grad.to(dtype), torch.full_like(grad, AT_NAN.get(name, NAN)), "grad_x")

    def test_step_of_nan_is_0(self, device: str) -> None:
        net = fw.Network(fw.Graph.from_edges([0], [1], weight=[1.0], output_activation="step")).to(device)
        x = torch.tensor([[NAN]], device=device)
        assert net(x).item() == fw.reference(net, x).item() == 0

    @anywhere
    def test_selu_saturates_where_its_derivative_is_0(self, device: str, dtype: torch.dtype) -> None:
        if dtype.itemsize < 4:
            return  # the value is rounded
        net = fw.Network(fw.Graph.from_edges([0], [1], weight=[1.0], output_activation="selu"), dtype=dtype).to(device)
        x = torch.tensor([[-800.0], [-INF]], dtype=dtype, device=device)
        assert gradients(net, net, x, torch.ones_like(x))[1].tolist() == [[0.0], [0.0]]


def assert_near(got: Tensor, want: Tensor, x: Tensor, name: str) -> None:
    """Of one kind (NaN, an infinity, finite), and finite ones equal up to rounding."""
    want = want.to(got.dtype).double()
    info = torch.finfo(got.dtype)
    finite = want.isfinite()
    unit = want.abs() + (x.double().abs().clamp(max=6) if "gelu" in name else 0)  # 1 + erf(z) loses digits
    # exp(z) may underflow at the end of a type's range, where z multiplies it.
    tiny = max(4 * info.smallest_normal * info.eps, 256 * torch.finfo(torch.float32).smallest_normal)
    close = (got.double() - want).abs() <= 16 * info.eps * unit + (0 if got.dtype == torch.float64 else tiny)
    same = torch.where(finite, close, (got == want) | (got.isnan() & want.isnan()))
    assert same.all(), f"{name} at {x[~same][0].item()}: expected {want[~same][0].item()}, got {got[~same][0].item()}"


def assert_gradients(grad: Tensor, want: Tensor, upstream: float, x: Tensor, name: str) -> None:
    """A gradient is ``upstream`` times the derivative, exactly 0 where the function is flat or ``upstream`` is 0.

    The derivative has an absolute error, since it may be computed from the value; an infinite gradient would show it.
    """
    flat = FLAT.get(name, lambda z: torch.zeros_like(z, dtype=torch.bool))(x)
    eps = max(torch.finfo(grad.dtype).eps, 1e-9 if name == "hard_sigmoid" else 0)  # torch's sixth is a float32
    want = torch.where(flat, 0, want.to(grad.dtype).double())
    if not math.isfinite(upstream):
        exact = x.double().requires_grad_()
        (slope,) = torch.autograd.grad(TORCH[name](exact).sum(), exact)
        seen = flat | slope.isnan() | (slope.abs() > 1e-3)
    else:
        seen = torch.ones_like(flat)
    close = (grad.double() - want).abs() <= 16 * eps * (want.abs() + abs(upstream))
    same = torch.where(want.isfinite() & ~flat, close, (grad == want) | (grad.isnan() & want.isnan())) | ~seen
    if upstream == 0:
        same &= (grad == 0) | grad.isnan()
    assert same.all(), (
        f"{name}: gradient at {x[~same][0].item()} from {upstream}: expected {want[~same][0].item()}, "
        f"got {grad[~same][0].item()}"
    )


class Spec:
    """An aggregation of terms in plain Python, with the gradient of each term."""

    @staticmethod
    def value(aggregation: str, terms: Sequence[float]) -> float:
        if not terms:
            return 0.0
        if aggregation in ("sum", "mean"):
            return sum(terms) / (len(terms) if aggregation == "mean" else 1)
        if aggregation == "product":
            return math.prod(terms)
        return terms[Spec.winner(aggregation, terms)]

    @staticmethod
    def winner(aggregation: str, terms: Sequence[float]) -> int:
        """The first NaN, or else the first of the best."""
        missing = [i for i, term in enumerate(terms) if math.isnan(term)]
        rank = {"max": lambda t: t, "min": lambda t: -t, "maxabs": abs}[aggregation]
        return missing[0] if missing else max(range(len(terms)), key=lambda i: (rank(terms[i]), -i))

    @staticmethod
    def shares(aggregation: str, terms: Sequence[float], upstream: float) -> list[float]:
        """The gradient of each term."""
        if aggregation in ("sum", "mean"):
            return [upstream / (len(terms) if aggregation == "mean" else 1)] * len(terms)
        if aggregation != "product":
            return [upstream if i == Spec.winner(aggregation, terms) else 0.0 for i in range(len(terms))]
        shares = []
        for i in range(len(terms)):  # in the order of autograd: from the last term back, then the product before
            share = upstream
            for term in reversed(terms[i + 1 :]):
                share *= term
            shares.append(share * math.prod(terms[:i]))
        return shares


def plain(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def assert_same_numbers(got: Tensor, want: Tensor, what: str) -> None:
    torch.testing.assert_close(
        got.cpu().double(), want.to(got.dtype).double(), rtol=4 * torch.finfo(got.dtype).eps, atol=0, equal_nan=True,
        msg=lambda text: f"{what}: {text}",
    )  # fmt: skip


class TestAggregations:
    """Weights are 1, so the terms are the inputs, which every type holds exactly."""

    VALUES = (0.0, -0.0, 1.0, 1.0, -2.0, 2.0, 0.5, INF, -INF, NAN, NAN)

    #: Aggregation and fan-in of each output; its inputs begin at PLACE.
    NODES = tuple((aggregation, fan_in) for aggregation in AGGREGATIONS for fan_in in (1, 2, 3, 9))
    PLACE = tuple(np.cumsum([0, *(fan_in for _, fan_in in NODES)]).tolist())

    @anywhere
    def test_values_and_gradients(self, device: str, dtype: torch.dtype) -> None:
        rng = np.random.default_rng(0)
        rows = rng.choice(self.VALUES, (131, self.PLACE[-1]), p=[0.08] * 7 + [0.08, 0.08, 0.14, 0.14])
        rows[:50] = rng.choice(self.VALUES[:7], (50, self.PLACE[-1]))
        upstream = rng.choice([1.0, -2.0, 0.0, INF], (131, len(self.NODES)), p=[0.4, 0.2, 0.3, 0.1])
        self.check(device, dtype, rows, upstream)

    @anywhere
    def test_a_huge_gradient(self, device: str, dtype: torch.dtype) -> None:
        """It is infinite only where its product with the factors is, multiplied in the order of docs/nodes.md."""
        rng = np.random.default_rng(1)
        rows = rng.choice(self.VALUES[:7], (53, self.PLACE[-1]), p=[0.05, 0.05, 0.2, 0.2, 0.15, 0.15, 0.2])
        self.check(device, dtype, rows, rng.choice([huge(dtype), -huge(dtype)], (53, len(self.NODES))))

    def check(self, device: str, dtype: torch.dtype, rows: np.ndarray, upstream: np.ndarray) -> None:
        place = self.PLACE
        graph = fw.Graph.from_edges(
            range(place[-1]),
            np.repeat(np.arange(len(self.NODES)), np.diff(place)) + place[-1],
            aggregation=["sum"] * place[-1] + [aggregation for aggregation, _ in self.NODES],
        )
        net = fw.Network(graph, init=lambda w, _: w.fill_(1.0), dtype=dtype).to(device)
        wide = np.float64 if dtype == torch.float64 else np.float32
        narrow = np.float16 if dtype == torch.float16 else wide  # the reference overflows as its type does
        for run, compute in ((net, wide), (lambda x: fw.reference(net, x), narrow)):
            want, shares = self.expected(rows, upstream, compute)
            x, grad_y = (plain(values).to(net.weight) for values in (rows, upstream))
            y, grad_x, *_ = gradients(run, net, x, grad_y)
            assert_same_numbers(y, plain(want), "y")
            assert_same_numbers(grad_x, plain(shares), "grad_x")
            for i in (0, 1, 2, 50, 51, 52):  # alone, since a sum over the batch would be NaN
                _, _, grad_weight, grad_bias = gradients(run, net, x[i : i + 1], grad_y[i : i + 1])
                assert_same_numbers(grad_weight, plain(shares[i]) * plain(rows[i]), "grad_weight")
                assert_same_numbers(grad_bias, plain(upstream[i]), "grad_bias")

    def expected(self, rows: np.ndarray, upstream: np.ndarray, compute: type) -> tuple[np.ndarray, np.ndarray]:
        """The aggregates and the gradients of all terms, computed in a type."""
        place, want, shares = self.PLACE, np.empty_like(upstream), np.empty_like(rows)
        with np.errstate(all="ignore"):
            for b, row in enumerate(rows.astype(compute)):
                for n, (aggregation, _) in enumerate(self.NODES):
                    terms = list(row[place[n] : place[n + 1]])
                    want[b, n] = Spec.value(aggregation, terms)
                    shares[b, place[n] : place[n + 1]] = Spec.shares(aggregation, terms, compute(upstream[b, n]))
        return want, shares

    @anywhere
    @pytest.mark.parametrize("aggregation", ["max", "min", "maxabs"])
    def test_the_first_nan_takes_the_gradient(self, device: str, dtype: torch.dtype, aggregation: str) -> None:
        graph = fw.Graph.from_edges(range(5), [5] * 5, aggregation=aggregation)
        net = fw.Network(graph, init=lambda w, _: w.fill_(1.0), dtype=dtype).to(device)
        x = torch.tensor([[INF, NAN, -INF, NAN, NAN]], dtype=dtype, device=device)
        for run in (net, lambda x: fw.reference(net, x)):
            assert gradients(run, net, x, torch.ones_like(x[:, :1]))[1].tolist() == [[0.0, 1.0, 0.0, 0.0, 0.0]]

    @anywhere
    @pytest.mark.parametrize("zero", [0, 30])
    def test_a_product_passes_no_gradient_on_from_0(self, device: str, dtype: torch.dtype, zero: int) -> None:
        """The products of the terms before or after an edge overflow, but the node's gradient is 0."""
        graph = fw.Graph.from_edges(range(64), [64] * 64, aggregation="product", output_activation="relu")
        net = fw.Network(graph, init=lambda w, _: w.fill_(1.0), dtype=dtype).to(device)
        x = torch.full((5, 64), 1e12 if dtype == torch.float64 else 100.0, dtype=dtype, device=device)
        x[:, zero] = 0
        x[:, :zero] = 1
        for run in (net, lambda x: fw.reference(net, x)):
            y, *grads = gradients(run, net, x, torch.ones_like(x[:, :1]))
            assert not y.any()
            for grad in grads:
                assert not grad.any()

    @anywhere
    @pytest.mark.parametrize("bias", [True, False])
    def test_of_nothing_is_0(self, device: str, dtype: torch.dtype, bias: bool) -> None:
        """A node without in-edges is ``activation(bias)``, no matter which aggregation it has.

        Other nodes, with in-edges, read it.
        """
        count = len(AGGREGATIONS)
        lone, fed = range(1, 1 + count), range(1 + count, 1 + 2 * count)
        graph = fw.Graph.from_edges(
            [0, *lone] * count,
            np.repeat(fed, 1 + count),
            inputs=[0],
            outputs=[*lone, *fed],
            aggregation=["sum", *AGGREGATIONS, *AGGREGATIONS],
            activation=["linear"] + ["cos"] * count + ["linear"] * count,
        )
        net = fw.Network(graph, bias=bias, init=lambda w, _: w.fill_(1.0), dtype=dtype).to(device)
        if bias:
            with torch.no_grad():
                net.bias[:count] = torch.arange(1, count + 1)
        x = torch.ones(37, 1, dtype=dtype, device=device)
        want = torch.cos(torch.arange(1, count + 1).double()) if bias else torch.ones(count, dtype=torch.float64)
        stored = [1.0, *want.to(dtype).tolist()]
        for run in (net, lambda x: fw.reference(net, x)):
            grad_y = torch.zeros(37, 2 * count, dtype=dtype, device=device)
            grad_y[0, :count] = 1
            y, _, _, *grad_bias = gradients(run, net, x, grad_y)
            eps = torch.finfo(dtype).eps
            torch.testing.assert_close(y[:, :count].cpu().double(), want.expand(37, -1), rtol=4 * eps, atol=4 * eps)
            fed_values = plain([Spec.value(a, stored) for a in AGGREGATIONS])
            torch.testing.assert_close(y[0, count:].cpu().double(), fed_values, rtol=8 * eps, atol=8 * eps)
            for grad in grad_bias:
                slope = -torch.sin(torch.arange(1, count + 1).double())
                torch.testing.assert_close(grad[:count].cpu().double(), slope, rtol=8 * eps, atol=8 * eps)


class TestPadding:
    """Registers and tiles are longer than the batch, and what is computed past its end must not show."""

    @anywhere
    @pytest.mark.parametrize("batch", [1, 3, 65])
    def test_an_infinite_weight(self, device: str, dtype: torch.dtype, batch: int) -> None:
        """0 x infinity would be NaN in the gradients of the weights before it."""
        for aggregation in AGGREGATIONS:
            graph = fw.Graph.from_edges([0, 0, 1, 2], [1, 2, 3, 3], activation="linear", aggregation=aggregation)
            net = fw.Network(graph, bias=False, dtype=dtype).to(device)
            with torch.no_grad():
                net.weight.copy_(torch.tensor([1.0, 2.0, INF, INF]))
            x = torch.ones(batch, 1, dtype=dtype, device=device)
            found = gradients(net, net, x, torch.ones_like(x))
            want = gradients(lambda x, net=net: fw.reference(net, x), net, x, torch.ones_like(x))
            for got, wanted in zip(found, want, strict=True):
                torch.testing.assert_close(got, wanted, equal_nan=True)
            assert found[0].isinf().all()
            if aggregation in ("sum", "mean", "product"):  # the losers' gradient, 0, is multiplied by infinity
                assert not found[2].isnan().any()


def test_the_reference_leaves_out_what_reaches_no_output() -> None:
    """Node 2 is NaN and reaches no output: its derivative times a gradient of 0 would be NaN."""
    graph = fw.Graph.from_edges([0, 0], [1, 2], outputs=[1], activation=["linear", "linear", "cos"])
    net = fw.Network(graph, init=lambda w, _: w.fill_(1.0), dtype=torch.float64)
    x = torch.tensor([[INF]], dtype=torch.float64)
    for run in (net, lambda x: fw.reference(net, x)):
        assert [t.tolist() for t in gradients(run, net, x, torch.ones(1, 1, dtype=torch.float64))] == [
            [[INF]], [[1.0]], [INF, 0.0], [1.0, 0.0],
        ]  # fmt: skip

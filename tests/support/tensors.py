# SPDX-License-Identifier: MIT
"""What the tests of operators and modules share: networks with random parameters, and comparisons with the reference.

Results are compared with the float64 reference. A float32 result may differ from it by a few times as much as the
float32 reference does, since how much rounding there is depends on the graph. Where 16 bits store the numbers, the
float64 reference rounds every node's value too, so that both are on the same side of a kink.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import freewire as fw
from freewire.ops.network_reference import ACTIVATION_FUNCTIONS

NARROW = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, torch.float64, *NARROW)  # in the order of csrc/number.h's list
BATCHES = (0, 1, 33, 1025)

ROUNDING = 8.0  # times the reference's own error
NARROW_ROUNDING = 4.0  # units of 16 bits' rounding: node values agree but for those that fall between two numbers


def network(graph: fw.Graph, dtype: torch.dtype = torch.float64, seed: int = 0, **options: Any) -> fw.Network:
    """A network with random weights and biases, all of them of order one."""
    torch.manual_seed(seed)
    net = fw.Network(graph, dtype=dtype, init="self_normalized", **options)
    if net.bias is not None:
        with torch.no_grad():
            net.bias.normal_(std=0.5)
    return net


def batch_of(net: fw.Network, batch: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """x and grad_y, standard normal, of the network's type and on its device."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (len(net.graph.inputs), len(net.graph.outputs))
    x, grad_y = (torch.randn(batch, n, generator=generator, dtype=torch.float64) for n in shapes)
    return x.to(net.weight), grad_y.to(net.weight)


def x_of(net: fw.Network, *shape: int, seed: int = 0) -> Tensor:
    """x of any leading shape, standard normal, of the network's type and on its device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, len(net.graph.inputs), generator=generator, dtype=torch.float64).to(net.weight)


def op_calls(body: Callable[[], object]) -> Counter[str]:
    """How often each operator and each autograd Function runs."""
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        body()
    return Counter(event.name for event in profiler.events())


def gradients(run: Callable[[Tensor], Tensor], net: fw.Network, x: Tensor, grad_y: Tensor) -> list[Tensor]:
    """y, grad_x, grad_weight and grad_bias of ``run`` at x, detached."""
    x = x.detach().requires_grad_()
    parameters = [x, *net.parameters()]
    y = run(x)
    grads = torch.autograd.grad(y, parameters, grad_y.to(y.dtype), allow_unused=True)
    return [y.detach(), *(torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True))]


class _Rounded(torch.autograd.Function):
    """A value rounded to another type; the gradient passes unchanged."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, dtype: torch.dtype) -> Tensor:
        return value.to(dtype).to(value.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad, None


@contextlib.contextmanager
def stored_as(dtype: torch.dtype) -> Iterator[None]:
    """Inside the context the reference rounds every node's value to a type of 16 bits, as the tape does."""
    functions = ACTIVATION_FUNCTIONS if dtype in NARROW else {}
    rounded = {name: lambda z, f=f: _Rounded.apply(f(z), dtype) for name, f in functions.items()}
    with mock.patch.dict(ACTIVATION_FUNCTIONS, rounded):
        yield


def exact(net: fw.Network, x: Tensor, grad_y: Tensor) -> list[Tensor]:
    """`gradients` of the float64 reference at the parameters of ``net``, with node values rounded to its type."""
    double = fw.Network(net.graph, bias=net.bias is not None, dtype=torch.float64)
    double.load_state_dict({k: v.double() if v.is_floating_point() else v for k, v in net.state_dict().items()})
    with stored_as(net.weight.dtype):
        return gradients(lambda x: fw.reference(double, x), double, x.double(), grad_y.double())


def assert_matches_reference(net: fw.Network, x: Tensor, grad_y: Tensor) -> None:
    """Outputs and all gradients agree with the float64 reference, within rounding of the network's type."""
    found = gradients(net, net, x, grad_y)
    wanted = exact(net, x, grad_y)
    plain = gradients(lambda x: fw.reference(net, x), net, x, grad_y)
    for name, got, want, rough in zip(("y", "grad_x", "grad_weight", "grad_bias"), found, wanted, plain, strict=False):
        assert got.dtype == net.weight.dtype, name
        assert_within(got, want, rough, name)


def assert_within(got: Tensor, want: Tensor, rough: Tensor, name: str) -> None:
    """``got`` differs from ``want`` by at most ROUNDING times as much as ``rough`` does, and some units of rounding.

    In float64 ``rough`` is the same computation as ``want``, so more units are allowed there.
    """
    assert got.shape == want.shape, f"{name}: {list(got.shape)} against {list(want.shape)}"
    if not want.numel():
        return
    units = {torch.float64: 256, torch.float32: ROUNDING}.get(got.dtype, NARROW_ROUNDING) * torch.finfo(got.dtype).eps
    inherent = 0.0 if got.dtype in NARROW else ROUNDING * (rough.double() - want).abs().max().item()
    allowed = inherent + units * (1 + want.abs().max().item())
    worst = (got.double() - want).abs().max().item()
    assert worst <= allowed, f"{name}: off by {worst:.3g}, allowed {allowed:.3g}"


def assert_same_bits(first: Sequence[Tensor], second: Sequence[Tensor]) -> None:
    """The tensors of two runs are equal, bit by bit."""
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        assert torch.equal(a, b), f"result {i} differs, by up to {(a - b).abs().max().item():.3g}"


def assert_threads_change_no_bit(threads: int, run: Callable[[], Sequence[Tensor]]) -> None:
    """Results on some number of threads are those on one, bit by bit."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        want = run()
        torch.set_num_threads(threads)
        assert_same_bits(run(), want)
    finally:
        torch.set_num_threads(before)

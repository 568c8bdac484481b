# SPDX-License-Identifier: MIT
"""Arguments for the operators of a whole stage, and the same computation in plain torch operations."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from freewire.ops.dtypes import compute_dtype
from freewire.ops.stage import StageWiring
from tests.support.tensors import NARROW

OPS = torch.ops.freewire

#: Two nodes read the input, node 2 reads both, the second one twice, and 3 and 4 are the sinks.
IN_PTR, IN_SRC = [0, 0, 0, 3, 5, 6], [0, 1, 1, 2, 0, 1]
NODES, INPUTS = 5, 2
EPSILON = [1e-5, 1e-3, 0.1, 1e-5, 1e-2]
#: Place of the gradient of the edges' weights in `Case.training`.
EDGES = 4

#: Batch, in_channels, out_channels, height, width, stride. Registers that are not full, or one more than full; one row
#: or column; rows wider than a block of pixels; several blocks and bands of rows; rows of x that no convolution reads.
SHAPES = {
    "one": (1, 1, 1, 1, 1, 1),
    "thin": (3, 5, 16, 7, 1, 1),
    "row": (1, 3, 21, 1, 9, 2),
    "many": (17, 5, 5, 3, 4, 3),
    "wide": (3, 33, 78, 9, 7, 2),
    "bands": (1, 16, 21, 70, 6, 1),
    "blocks": (2, 4, 5, 6, 120, 1),
    "unread rows": (2, 3, 5, 33, 130, 4),
    "unread columns": (1, 3, 2, 34, 131, 5),
    "empty": (0, 4, 3, 3, 3, 2),
    "no rows": (2, 4, 3, 0, 3, 1),
}
FULL = [name for name in SHAPES if name not in ("empty", "no rows")]


@dataclass
class Case:
    """The arguments of a stage. Statistics are those of the batch if mean and variance are None."""

    x: Tensor
    weight: Tensor
    depthwise: list[Tensor]
    pointwise: list[Tensor]
    gamma: Tensor
    beta: Tensor
    mean: Tensor | None
    variance: Tensor | None
    grad_y: Tensor
    stride: int
    relu: bool
    epsilon: list[float] = field(default_factory=lambda: list(EPSILON))

    @property
    def wiring(self) -> StageWiring:
        return StageWiring(IN_PTR, IN_SRC, self.stride, self.relu)

    def inference(self) -> Tensor:
        return OPS.stage_inference(*self.inference_arguments())

    def inference_arguments(self) -> tuple[Any, ...]:
        """Gamma and beta are the scale and the shift."""
        return self.x, self.weight, self.depthwise, self.pointwise, self.gamma, self.beta, *self.wiring

    def forward(self) -> tuple[Tensor, list[Tensor], Tensor, Tensor]:
        return OPS.stage_forward(*self.forward_arguments())

    def forward_arguments(self) -> tuple[Any, ...]:
        norms = self.gamma, self.beta, self.epsilon, self.mean, self.variance
        return self.x, self.weight, self.depthwise, self.pointwise, *norms, *self.wiring

    def backward_arguments(self, need_x: bool = True) -> tuple[Any, ...]:
        _, kept, mean, variance = self.forward()
        tensors = self.weight, self.depthwise, self.pointwise, self.gamma, self.beta
        batch_statistics = self.mean is None
        given = self.grad_y, self.x, kept, mean, variance, *tensors, self.epsilon
        return *given, *self.wiring, batch_statistics, need_x

    def training(self) -> list[Tensor]:
        """The statistics, y and all gradients."""
        y, _, mean, variance = self.forward()
        *found, depthwise, pointwise = OPS.stage_backward(*self.backward_arguments())
        return [mean, variance, y, *found, *depthwise, *pointwise]

    def wider(self) -> Case:
        """The same numbers in float64."""

        def wide(value: Any) -> Any:
            if isinstance(value, list):
                return [wide(each) for each in value]
            return value.double() if isinstance(value, Tensor) else value

        return Case(**{name: wide(value) for name, value in vars(self).items()})


def draw(shape: str | tuple[int, ...], dtype: torch.dtype, relu: bool = True, fixed: bool = False) -> Case:
    batch, in_channels, channels, height, width, stride = SHAPES[shape] if isinstance(shape, str) else shape
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    depths = [in_channels] * INPUTS + [channels] * (NODES - INPUTS)
    out = -(-height // stride), -(-width // stride)
    x, grad_y = normal(batch, in_channels, height, width), normal(batch, channels, *out)
    wide, statistics = compute_dtype(dtype), fixed or batch * out[0] * out[1] < 2
    return Case(
        x=x.to(dtype, memory_format=torch.channels_last),
        weight=normal(len(IN_SRC)).to(wide),
        depthwise=[(normal(depth, 1, 3, 3) / 3).to(dtype) for depth in depths],
        pointwise=[(normal(channels, depth, 1, 1) / depth**0.5).to(dtype) for depth in depths],
        gamma=(1 + normal(NODES, channels) / 4).to(wide),
        beta=normal(NODES, channels).to(wide),
        mean=normal(NODES, channels).to(wide) if statistics else None,
        variance=(normal(NODES, channels).square() + 0.5).to(wide) if statistics else None,
        grad_y=grad_y.to(dtype, memory_format=torch.channels_last),
        stride=stride,
        relu=relu,
    )


def rounded(value: Tensor, dtype: torch.dtype) -> Tensor:
    """A value as a tensor of 16 bits stores it; the gradient passes unchanged. Nothing else is rounded."""
    return value + (value.to(dtype).to(value.dtype) - value).detach() if dtype in NARROW else value


def plain(case: Case, stored: torch.dtype, norms: bool) -> tuple[Tensor, list[Tensor]]:
    """Y, and the results of the nodes' convolutions; scale and shift follow these, or batch norms.

    Rounds to the type `stored` where the operators store feature maps: of inference those that the convolutions read,
    and the nodes' results, and in training the results of the convolutions.
    """
    results: list[Tensor] = []
    convolved: list[Tensor] = []
    for node in range(NODES):
        edges = range(IN_PTR[node], IN_PTR[node + 1])
        total = reduce(torch.add, [case.weight[e].sigmoid() * results[IN_SRC[e]] for e in edges]) if edges else case.x
        total = torch.relu(total) if case.relu else total
        total = total if norms else rounded(total, stored)
        stride, kernel = 1 if edges else case.stride, case.depthwise[node]
        total = functional.conv2d(total, kernel, None, stride, 1, groups=len(kernel))
        total = functional.conv2d(total, case.pointwise[node])
        if norms:
            convolved.append(rounded(total, stored))
            fixed = (None, None) if case.mean is None else (case.mean[node], case.variance[node])
            gamma, beta, epsilon = case.gamma[node], case.beta[node], case.epsilon[node]
            results.append(functional.batch_norm(convolved[-1], *fixed, gamma, beta, case.mean is None, 0, epsilon))
        else:
            total = total * case.gamma[node, :, None, None] + case.beta[node, :, None, None]
            results.append(rounded(total, stored))
    return (results[3] + results[4]) / 2, convolved


def plain_training(case: Case, stored: torch.dtype) -> list[Tensor]:
    leaves = [case.x, case.weight, case.gamma, case.beta, *case.depthwise, *case.pointwise]
    for leaf in leaves:
        leaf.requires_grad_()
    y, convolved = plain(case, stored, norms=True)
    grads = torch.autograd.grad(y, leaves, case.grad_y)
    statistics = [case.mean, case.variance]
    if case.mean is None:
        statistics = [torch.stack([f(z.detach()) for z in convolved]) for f in (_mean, _variance)]
    for leaf in leaves:
        leaf.requires_grad_(False)
    return [*statistics, y.detach(), *grads]  # type: ignore[list-item]


def _mean(z: Tensor) -> Tensor:
    return z.mean((0, 2, 3))


def _variance(z: Tensor) -> Tensor:
    return z.var((0, 2, 3), correction=0)

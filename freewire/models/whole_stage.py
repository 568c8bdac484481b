# SPDX-License-Identifier: MIT
"""The step that runs a whole stage of separable convolutions as one operator.

`WholeStageStep` replaces all steps of a stage, where its nodes are plain `SeparableConv` modules and nothing would
notice that they are not called.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from freewire.models.blocks import SeparableConv
from freewire.models.steps import OUTPUT, FusedStep, InputStep, MeanStep, StageCall, Step, SumStep
from freewire.ops.autograd import (
    forward_mode_active,
    program_is_recorded,
    requires_gradient,
    transforms_active,
)
from freewire.ops.dtypes import DTYPES, compute_dtype
from freewire.ops.gated_depthwise import is_changed
from freewire.ops.stage import StageWiring, stage, stage_inference

__all__ = ["WholeStageStep", "fuse_stage"]

_NORMS = (nn.BatchNorm2d, nn.Identity)
_PARAMETERS = {"weight", "bias"}
_PLAIN = (Tensor, nn.Parameter)


@dataclass(frozen=True)
class _Nodes:
    """The parts of a stage's nodes, in the order in which they run; identities where norms have been folded."""

    depthwise: list[nn.Conv2d]
    pointwise: list[nn.Conv2d]
    norms: list[Any]
    of_depthwise: list[Tensor]  # weights
    of_pointwise: list[Tensor]

    @classmethod
    def of(cls, modules: Sequence[nn.Module]) -> _Nodes | None:
        """The parts, or None unless all are `SeparableConv` as built or folded, and calling them does nothing else."""
        found = []
        for module in modules:
            parts: tuple[Any, ...] = tuple(module._modules.values())
            if type(module) is not SeparableConv or len(parts) != 3 or is_changed(module):
                return None
            depthwise, pointwise, norm = parts
            if type(depthwise) is not nn.Conv2d or type(pointwise) is not nn.Conv2d or type(norm) not in _NORMS:
                return None
            if is_changed(depthwise) or is_changed(pointwise) or is_changed(norm):
                return None
            if not all(part._parameters.keys() >= _PARAMETERS for part in parts if type(part) is not nn.Identity):
                return None  # one of them is a plain attribute
            found.append(parts)
        columns: list[Any] = [list(column) for column in zip(*found, strict=True)]
        weights = ([module._parameters["weight"] for module in column] for column in columns[:2])
        return cls(*columns, *weights)

    def fit(self, x: Tensor, num_inputs: int) -> bool:
        """Whether the modules are of the kind, the sizes and the type that the operator computes for an input x."""
        stride, out_channels = self.depthwise[0].stride, self.pointwise[0].out_channels
        kind = x.dtype, x.device
        if not isinstance(stride, tuple) or stride[0] != stride[1]:
            return False
        for i, (module, weight) in enumerate(zip(self.depthwise, self.of_depthwise, strict=True)):
            channels = x.shape[1] if i < num_inputs else out_channels
            settings = module.stride, module.padding, module.dilation, module.groups, module.padding_mode
            if (
                settings != (stride if i < num_inputs else (1, 1), (1, 1), (1, 1), channels, "zeros")
                or type(weight) not in _PLAIN
                or weight.shape != (channels, 1, 3, 3)
                or (weight.dtype, weight.device) != kind
                or module._parameters["bias"] is not None
            ):
                return False
        for module, weight, before in zip(self.pointwise, self.of_pointwise, self.of_depthwise, strict=True):
            settings = module.stride, module.padding, module.dilation, module.groups, module.padding_mode
            if (
                settings != ((1, 1), (0, 0), (1, 1), 1, "zeros")
                or type(weight) not in _PLAIN
                or weight.shape != (out_channels, before.shape[0], 1, 1)
                or (weight.dtype, weight.device) != kind
            ):
                return False
        return all(_fits(norm, kind, out_channels) for norm in self.norms)

    def parameters(self) -> list[Tensor | None]:
        """Everything that may require a gradient."""
        biases = [module._parameters["bias"] for module in self.pointwise]
        of_norms = [each for norm in self.norms for each in norm._parameters.values()]
        return [*self.of_depthwise, *self.of_pointwise, *biases, *of_norms]

    def are_fixed(self) -> bool:
        """Whether no norm uses the statistics of the batch."""
        return not any(_uses_batch(norm) for norm in self.norms)

    def use_batch(self) -> bool:
        """Whether all norms do."""
        return all(_uses_batch(norm) for norm in self.norms)

    def can_train(self, x: Tensor) -> bool:
        """Whether the differentiable operator computes these nodes for an input x."""
        batch, _, height, width = x.shape
        stride = self.depthwise[0].stride[0]
        values = batch * -(-height // stride) * -(-width // stride)
        return (
            all(type(norm) is nn.BatchNorm2d for norm in self.norms)
            and (self.are_fixed() or (self.use_batch() and values > 1))  # torch's own error for a single value
            and all(module.bias is None for module in self.pointwise)
            and len({*map(id, self.norms)}) == len(self.norms)  # a norm in two nodes would be updated twice
            and x.numel() > 0
        )

    def running_statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and variance of all norms, ``[N, out_channels]``."""
        mean, variance = ([getattr(norm, name) for norm in self.norms] for name in ("running_mean", "running_var"))
        return torch.stack(mean), torch.stack(variance)

    def stacked(self, rows: list[Tensor | None], default: float) -> Tensor:
        """``[N, out_channels]``, in the type that is computed in; a constant where a row is None."""
        like = self.of_pointwise[0]
        wide = compute_dtype(like.dtype)
        if all(row is None for row in rows):
            return like.new_full((len(rows), like.shape[0]), default, dtype=wide)
        return torch.stack([like.new_full(like.shape[:1], default) if row is None else row for row in rows]).to(wide)

    def folded(self) -> tuple[Tensor | None, Tensor]:
        """What follows each node's convolutions, as scale and shift ``[N, out_channels]``; scale None for 1."""
        bias = self.stacked([convolution.bias for convolution in self.pointwise], 0.0)
        if not any(isinstance(norm, nn.BatchNorm2d) for norm in self.norms):
            return None, bias

        def of_norms(name: str, default: float) -> Tensor:
            return self.stacked([getattr(norm, name, None) for norm in self.norms], default)

        variance = of_norms("running_var", 1.0)
        epsilon = variance.new_tensor([[getattr(norm, "eps", 0.0)] for norm in self.norms])
        scale = torch.rsqrt(variance + epsilon) * of_norms("weight", 1.0)
        return scale, (bias - of_norms("running_mean", 0.0)) * scale + of_norms("bias", 0.0)


def _fits(norm: nn.Module, kind: tuple[torch.dtype, torch.device], channels: int) -> bool:
    """Whether what a norm holds is of the types that torch accepts for such maps, and complete."""
    if isinstance(norm, nn.Identity):
        return True
    dtype, device = kind
    tensors = [*norm._parameters.values(), norm._buffers.get("running_mean"), norm._buffers.get("running_var")]
    found = [each for each in tensors if each is not None]
    return (
        (tensors[-1] is None) == (tensors[-2] is None)
        and len({each.dtype for each in found}) <= 1
        and all(
            each.dtype in (dtype, compute_dtype(dtype)) and each.device == device and each.shape == (channels,)
            for each in found
        )
    )


def _uses_batch(norm: nn.Module) -> bool:
    """Whether a batch norm, or what is in its place, uses the statistics of the batch, as in torch."""
    return isinstance(norm, nn.BatchNorm2d) and (
        norm.training or (norm.running_mean is None and norm.running_var is None)
    )


@torch.no_grad()
def track(norms: Sequence[nn.BatchNorm2d], mean: Tensor, variance: Tensor, values: int) -> None:
    """Update running statistics as torch's batch norm does.

    Args:
        norms: The norms; those that keep no running statistics, or are not in training mode, stay as they are.
        mean: ``[N, channels]`` of the batch.
        variance: ``[N, channels]`` of the batch, biased.
        values: Number of values per channel.
    """
    tracking = [i for i, norm in enumerate(norms) if norm.training and norm.track_running_stats]
    counters = [norms[i].num_batches_tracked for i in tracking]
    counted = [counter for counter in counters if counter is not None]
    if counted:
        torch._foreach_add_(counted, 1)
    unbiased = variance * (values / (values - 1))
    for i, counter in zip(tracking, counters, strict=True):
        norm = norms[i]
        factor: float | Tensor
        if norm.momentum is not None:
            factor = norm.momentum
        else:
            factor = 0.0 if counter is None else 1.0 / counter.to(mean.dtype)
        for running, new in ((norm.running_mean, mean[i]), (norm.running_var, unbiased[i])):
            if running is not None:
                running.lerp_(new.to(running.dtype), factor)


@dataclass(frozen=True)
class WholeStageStep(FusedStep):
    """A stage whose nodes are all `SeparableConv` modules, as one operator.

    Attributes:
        steps: The steps that it replaces.
        nodes: The nodes in the order of those.
        num_inputs: How many of them are of in-degree 0, the first ones.
        in_ptr: See `StageWiring`.
        in_src: See `StageWiring`.
    """

    steps: tuple[Step, ...]
    nodes: tuple[int, ...]
    num_inputs: int
    in_ptr: tuple[int, ...]
    in_src: tuple[int, ...]

    @property
    def plain(self) -> Sequence[Step]:
        """All steps."""
        return self.steps

    def applies(self, call: StageCall) -> bool:
        """Whether the operator computes this call: its tensors, then its modules."""
        x = call.x
        if type(x) is not Tensor or x.dim() != 4 or x.device.type != "cpu" or x.dtype not in DTYPES:
            return False  # what torch.fx or torch.export has in place of a tensor is not of its type
        if call.removed or program_is_recorded() or transforms_active() or torch.is_autocast_enabled("cpu"):
            return False
        if not x.numel():  # torch's own result, or error
            return False
        nodes = self._nodes(call)
        if nodes is None or not nodes.fit(x, self.num_inputs):
            return False
        parameters = nodes.parameters()
        if not all(each is None or type(each) in _PLAIN for each in (call.weight, *parameters)):
            return False  # a subclass may have operations of its own
        if forward_mode_active(x, call.weight, *parameters):
            return False
        if nodes.are_fixed() and not requires_gradient(x, call.weight, *parameters):
            return True
        return call.recompute_sums and nodes.can_train(x)

    def _nodes(self, call: StageCall) -> _Nodes | None:
        return _Nodes.of([call.nodes[node] for node in self.nodes])

    def run_fused(self, call: StageCall) -> None:
        """Run the operator: without a backward where none follows, the batch norms folded."""
        nodes = self._nodes(call)
        assert nodes is not None
        kernels = nodes.of_depthwise, nodes.of_pointwise
        wiring = StageWiring(list(self.in_ptr), list(self.in_src), nodes.depthwise[0].stride[0], call.relu)
        if nodes.are_fixed() and not requires_gradient(call.x, call.weight, *nodes.parameters()):
            call.results[OUTPUT] = stage_inference(call.x, call.weight, *kernels, *nodes.folded(), wiring)
            return
        statistics = None if nodes.use_batch() else nodes.running_statistics()
        norms = nodes.norms
        gamma = nodes.stacked([norm.weight for norm in norms], 1.0)
        beta = nodes.stacked([norm.bias for norm in norms], 0.0)
        epsilon = [norm.eps for norm in norms]
        maps = call.x, call.weight, *kernels
        y, mean, variance = stage(*maps, gamma, beta, epsilon, statistics, wiring)
        call.results[OUTPUT] = y
        if statistics is None:
            track(norms, mean, variance, y.numel() // y.shape[1])


def fuse_stage(steps: list[Step]) -> list[Step]:
    """Replace all steps with one `WholeStageStep`."""
    nodes: list[int] = []
    in_ptr, sources = [0], list[int]()
    for step in steps[:-1]:
        plain = step.plain[0] if isinstance(step, FusedStep) else step
        assert isinstance(plain, (InputStep, SumStep))
        nodes.append(plain.node)
        sources += plain.sources if isinstance(plain, SumStep) else ()
        in_ptr.append(len(sources))
    assert isinstance(steps[-1], MeanStep)
    position = {node: i for i, node in enumerate(nodes)}
    num_inputs = sum(isinstance(step, InputStep) for step in steps)
    in_src = tuple(position[source] for source in sources)
    return [WholeStageStep(tuple(steps), tuple(nodes), num_inputs, tuple(in_ptr), in_src)]

# SPDX-License-Identifier: MIT
"""One measurement: what the optimizer's step started from, and the batch, become a record.

`Start` is copied before the step. `Measurement` runs the passes at the end of it, adds up by level, and keeps what the
tables of nodes and edges need until the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freewire.nn import Network
from freewire.studies.diagnostics_levels import Levels
from freewire.studies.diagnostics_log import Record
from freewire.studies.diagnostics_measures import NO_STEP, Noise, fit_parabola
from freewire.studies.diagnostics_pass import Batch, LossFunction, Parameters, Passes
from freewire.studies.diagnostics_units import Units, Verdict

__all__ = ["Measurement", "Start", "grads_of"]

#: What is summed by level: "gradient" is that at the start of the step, "gradient_after" that at its end, and "noise"
#: the difference between the latter's values for two parts of the batch.
_ROWS = ("weight", "gradient", "update", "gradient_after", "noise")
_UPDATE = _ROWS.index("update")
_UNIT_SAMPLES = 128  # whose node values are looked at, at least, and less than twice as many: `Units` counts to 255


class Start(NamedTuple):
    """The network right before a step.

    Attributes:
        step: Number of steps before.
        at: Copies of the parameters.
        gradient: Copies of their gradients; None: compute them.
        grads: The tensors that are ``.grad`` of weight and bias; None where the step makes others.
    """

    step: int
    at: Parameters
    gradient: Parameters | None
    grads: tuple[Tensor | None, Tensor | None] | None

    @classmethod
    def of(cls, net: Network, step: int, recompute: bool, has_closure: bool, scale: Tensor | None) -> Start:
        """Copy what is needed.

        Args:
            net: The network.
            step: Number of steps before.
            recompute: Whether to leave the gradients alone.
            has_closure: Whether the step makes its own gradients.
            scale: What the gradients are multiplied by, if anything.
        """
        at = _detached(net).copy()
        if has_closure:
            return cls(step, at, None, None)
        grads = grads_of(net)
        if recompute:
            return cls(step, at, None, grads)
        if not net.weight.is_leaf:  # what computes the weights has the gradients
            return cls(step, at, None, grads)
        bias = None if at.bias is None else _gradient(at.bias, grads[1], scale)
        return cls(step, at, Parameters(_gradient(at.weight, grads[0], scale), bias), grads)


def grads_of(net: Network) -> tuple[Tensor | None, Tensor | None]:
    """The tensors that are ``.grad`` of weight and bias."""
    weight, bias = net.weight, net.bias
    return weight.grad if weight.is_leaf else None, None if bias is None else bias.grad


def _detached(net: Network) -> Parameters:
    bias = net.bias
    return Parameters(net.weight.detach(), None if bias is None else bias.detach())


def _gradient(like: Tensor, grad: Tensor | None, scale: Tensor | None) -> Tensor:
    if grad is None:
        return torch.zeros_like(like)
    return grad.detach().clone() if scale is None else grad.detach() / scale.to(grad.device)


class _Kept(NamedTuple):
    """What `Measurement.nodes` and `Measurement.edges` are computed from."""

    before: Parameters
    after: Parameters
    gradient: Parameters
    verdict: Verdict
    flat: NDArray[np.uint8]  # [S]
    rows: int


class Measurement:
    """Makes records of steps; a call is one measurement.

    Args:
        net: The network.
        device: Where it is.
        before: The measurement on another device that this one continues.
    """

    def __init__(self, net: Network, device: torch.device, before: Measurement | None) -> None:
        self.device = device
        self._net = net
        self._passes = Passes(net, _UNIT_SAMPLES)
        self._levels = Levels(net.graph, len(_ROWS), net.bias is not None, device)
        self._units = Units(net, device)
        self._noise: Noise = Noise() if before is None else before._noise
        self._unit_counts = self._levels.count(self._units.node[self._units.num_inputs :])
        self._kept: _Kept | None = None

    def __call__(self, start: Start, x: Tensor, y: Any, loss_fn: LossFunction, loss: Any) -> Record:
        """Measure; the arguments are those of `Diagnostics.step`."""
        samples = x.shape[0] if x.dim() > 1 else 1
        batch = Batch(x, y, loss_fn, (samples // 2, samples - samples // 2) if samples > 1 else (1,))
        with torch.no_grad():
            at = _detached(self._net)
            after = self._passes.gradients(batch, at)
            gradient = start.gradient
            if gradient is None:
                before = self._passes.gradients(batch._replace(sizes=(samples,)), start.at)
                loss, gradient = before.loss, self._trained(before.parts[0])
            elif loss is None:
                loss = self._passes.loss(batch, start.at)
            first, last = self._trained(after.parts[0]), self._trained(after.parts[-1])
            of_all = (start.at, gradient, at, first, last)
            biases = [each.bias for each in of_all if each.bias is not None]
            combine = _update_mean_and_noise(batch.sizes)
            squares, products = self._levels.sums([each.weight for each in of_all], biases, _UPDATE, combine)
            flat = self._units.count(after.values).cpu().numpy()
            now = at.copy()
        rows = after.values.shape[0]
        verdict = self._units.verdict(flat, rows)
        self._kept = _Kept(start.at, now, gradient, verdict, flat, rows)
        losses = float(loss.detach() if isinstance(loss, Tensor) else loss), float(after.loss)
        return self._record(start.step, batch.sizes, losses, products.tolist(), squares, verdict)

    def _trained(self, gradient: Parameters) -> Parameters:
        """The gradient with zeros for parameters that are not trained."""
        trained = any(each.requires_grad for name, each in self._net.named_parameters() if name != "bias")
        frozen = self._net.graph.frozen
        if frozen is None and trained and (self._net.bias is None or self._net.bias.requires_grad):
            return gradient
        weight = gradient.weight if trained else torch.zeros_like(gradient.weight)
        if frozen is not None:
            weight = weight.masked_fill(torch.tensor(frozen, device=weight.device), 0.0)
        if gradient.bias is None or self._net.bias is None or self._net.bias.requires_grad:
            return Parameters(weight, gradient.bias)
        return Parameters(weight, torch.zeros_like(gradient.bias))

    def _record(
        self,
        step: int,
        sizes: tuple[int, ...],
        losses: tuple[float, float],
        products: list[float],
        squares: NDArray[np.float64],
        verdict: Verdict,
    ) -> Record:
        (loss, loss_after), (_, slope, update_square, slope_after, _) = losses, products
        parabola = fit_parabola(loss, slope, loss_after, slope_after) if update_square else NO_STEP
        norms = np.sqrt(squares[:3])
        weight, gradient, update = norms.tolist()
        totals: list[float] = np.sqrt(squares[:3].sum(1)).tolist()
        dead, saturated = (self._levels.count(self._units.node[each]) for each in verdict)
        variance = signal = scale = None
        scales: list[float | None] = [None] * len(weight)
        if len(sizes) == 2:
            scale_of_noise = (sum(sizes) / sizes[0]) ** 2  # see `_update_mean_and_noise`
            variance, signal = self._noise.add(squares[3], scale_of_noise * squares[4], (sizes[0], sizes[1]))
            scale, scales = self._noise.scales(len(weight))
        return {
            "step": step,
            "samples": sum(sizes),
            "loss": loss,
            "loss_after": loss_after,
            "slope": slope,
            "slope_after": slope_after,
            "step_length": parabola.step_length,
            "misfit": parabola.misfit,
            "gradient_norm": totals[1],
            "weight_norm": totals[0],
            "update_norm": totals[2],
            "update_ratio": totals[2] / totals[0] if totals[0] else None,
            "noise_scale": scale,
            "gradient_variance": variance,
            "gradient_square": signal,
            "units": sum(self._unit_counts),
            "dead": sum(dead),
            "saturated": sum(saturated),
            "levels": {
                "level": self._levels.numbers,
                "units": self._unit_counts,
                "dead": dead,
                "saturated": saturated,
                "gradient_norm": gradient,
                "weight_norm": weight,
                "update_norm": update,
                "update_ratio": [u / w if w else None for u, w in zip(update, weight, strict=True)],
                "noise_scale": scales,
            },
        }

    # ------------------------------------------------------------------ tables of the last measurement

    def nodes(self) -> dict[str, Any]:
        """See `Diagnostics.nodes`."""
        kept, graph = self._kept, self._net.graph
        assert kept is not None
        units = self._units.node[self._units.num_inputs :]

        def of_all(of_plan: NDArray[Any], elsewhere: Any) -> NDArray[Any]:
            values = np.full(graph.num_nodes, elsewhere)
            values[units] = of_plan[self._units.num_inputs :]
            return values

        table: dict[str, Any] = {
            "level": graph.level,
            "used": of_all(np.ones(len(kept.flat), np.bool_), False),
            "dead": of_all(kept.verdict.dead, False),
            "saturated": of_all(kept.verdict.saturated, False),
            "flat_share": of_all(kept.flat / kept.rows, np.nan),
        }
        for name, (weight, bias) in _columns(kept).items():
            squares: NDArray[Any] = np.bincount(graph.edge_index[1], weight**2, minlength=graph.num_nodes)
            if bias is not None:
                squares[graph.computed_index] += bias**2
            squares[graph.input_index] = np.nan
            table[f"{name}_norm"] = np.sqrt(squares)
        return table

    def edges(self) -> dict[str, Any]:
        """See `Diagnostics.edges`."""
        assert self._kept is not None
        source, target = self._net.graph.edge_index
        columns = {name: weight for name, (weight, _) in _columns(self._kept).items()}
        return {"source": source, "target": target, "level": self._net.graph.level[target], **columns}

    # ------------------------------------------------------------------ state

    def noise_state(self) -> dict[str, list[float]]:
        """The averages of the noise; empty before the first measurement."""
        variance, signal = self._noise.variance, self._noise.signal
        if variance is None or signal is None:
            return {}
        return {"variance": variance.tolist(), "signal": signal.tolist()}

    def load_noise_state(self, state: dict[str, list[float]]) -> None:
        """Continue from `noise_state`."""
        self._noise.variance, self._noise.signal = (
            np.array(state[name]) if name in state else None for name in ("variance", "signal")
        )


def _columns(kept: _Kept) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64] | None]]:
    """Name -> numbers of the weights and of the biases."""
    before, after, gradient = (
        (_array(each.weight), None if each.bias is None else _array(each.bias))
        for each in (kept.before, kept.after, kept.gradient)
    )
    bias = None if before[1] is None or after[1] is None else after[1] - before[1]
    return {"weight": before, "gradient": gradient, "update": (after[0] - before[0], bias)}


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.double().cpu().numpy()


def _update_mean_and_noise(sizes: tuple[int, ...]) -> Callable[[Sequence[Tensor]], None]:
    """What turns rows of parameters, in place, into those of `_ROWS`, in few operations.

    The rows are: weight, gradient, weight after the step, and what the first part of the batch and the last part
    contribute to the gradient there. Of a batch in one part both are the whole gradient, and its noise is 0.
    """
    ratio = sizes[0] / sizes[-1]  # the mean gradients of the parts are proportional to first and ratio * last

    def combine(rows: Sequence[Tensor]) -> None:
        weight, _, update, first, last = rows
        update.sub_(weight)
        if len(sizes) == 1:
            last.zero_()
            return
        torch.add(first, last, alpha=-ratio, out=last)
        torch.lerp(last, first, 1 + 1 / ratio, out=first)  # first + last, as that was

    return combine

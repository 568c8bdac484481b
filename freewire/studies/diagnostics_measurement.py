# SPDX-License-Identifier: MIT
"""One measurement: what the optimizer's step started from, and the batch, become a record.

`Start` is copied before the step. `Measurement` runs the passes at the end of it, adds up by level, and keeps what the
tables of nodes and edges need until the next one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freewire.nn import Network
from freewire.ops.dtypes import compute_dtype
from freewire.studies.diagnostics_levels import Levels
from freewire.studies.diagnostics_log import Record
from freewire.studies.diagnostics_measures import Noise, fit_parabola, split_noise
from freewire.studies.diagnostics_pass import LossFunction, Parameters, Passes
from freewire.studies.diagnostics_units import UnitCounts, Units

__all__ = ["Measurement", "Start"]

#: The rows that are summed by level.
_ROWS = ("weight", "gradient", "update", "gradient_after", "noise")
_UPDATE = _ROWS.index("update")


class Start(NamedTuple):
    """The network right before a step.

    Attributes:
        step: Number of steps before.
        at: Copies of the parameters.
        gradient: Copies of their gradients; None: compute them.
        grads_after: The tensors that were ``.grad`` right after the step, one per parameter.
    """

    step: int
    at: Parameters
    gradient: Parameters | None
    grads_after: list[Tensor | None] = []  # noqa: RUF012 (replaced, never changed)

    @classmethod
    def of(cls, net: Network, step: int, recompute: bool, scale: Tensor | None) -> Start:
        """Copy what is needed.

        Args:
            net: The network.
            step: Number of steps before.
            recompute: Whether to leave the gradients alone.
            scale: What the gradients are multiplied by, if anything.
        """
        at = Parameters(net.weight.detach().clone(), None if net.bias is None else net.bias.detach().clone())
        if recompute:
            return cls(step, at, None)
        return cls(
            step,
            at,
            Parameters(_gradient(net.weight, scale), net.bias if net.bias is None else _gradient(net.bias, scale)),
        )


def _gradient(parameter: Tensor, scale: Tensor | None) -> Tensor:
    if parameter.grad is None:
        return torch.zeros_like(parameter)
    grad = parameter.grad.detach()
    return grad.clone() if scale is None else grad / scale.to(grad.device)


class _Kept(NamedTuple):
    """What `Measurement.nodes` and `Measurement.edges` are computed from."""

    at: Parameters
    gradient: Parameters
    update: Parameters
    units: UnitCounts
    flat: Tensor  # [N]
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
        self._passes = Passes(net)
        self._levels = Levels(net.graph, len(_ROWS), device)
        self._units = Units(net, device)
        self._noise: Noise = Noise() if before is None else before._noise
        counts = np.bincount(net.graph.level[self._units.used.cpu().numpy()], minlength=self._levels.count)
        computed = np.bincount(net.graph.level[net.graph.computed_index], minlength=self._levels.count)
        self._shown = np.flatnonzero(computed)
        self._unit_counts = counts[self._shown]
        self._kept: _Kept | None = None

    def __call__(self, start: Start, x: Tensor, y: Any, loss_fn: LossFunction, loss: Any) -> Record:
        """Measure; the arguments are those of `Diagnostics.step`."""
        at = Parameters(self._net.weight.detach(), None if self._net.bias is None else self._net.bias.detach())
        samples = len(x) if x.dim() > 1 else 1
        sizes = (samples // 2, samples - samples // 2) if samples > 1 else (samples,)
        after = self._passes.gradients(x, y, loss_fn, at, sizes)
        gradient = start.gradient
        if gradient is None or loss is None:
            before = self._passes.gradients(x, y, loss_fn, start.at, (samples,) if gradient is None else None)
            loss, gradient = before.loss, gradient or self._trained(before.parts[0])
        parts = [self._trained(part) for part in after.parts]
        update = Parameters(
            _difference(at.weight, start.at.weight),
            None if at.bias is None or start.at.bias is None else _difference(at.bias, start.at.bias),
        )
        flat, rows = self._flat_values(x, at, sizes)
        units = self._units.verdict(flat, rows)
        self._kept = _Kept(start.at, gradient, update, units, flat, rows)

        of_all = (start.at, gradient, update, parts[0], parts[-1])
        biases = None if at.bias is None else [each.bias for each in of_all if each.bias is not None]
        squares, products = self._levels.sums([each.weight for each in of_all], biases, _UPDATE, _mean_and_noise(sizes))
        by_level = squares.new_zeros(2, self._levels.count)
        by_level.index_add_(1, self._levels.node, torch.stack(units).double())
        losses = torch.stack(
            [torch.as_tensor(each, device=x.device).detach().double().reshape(()) for each in (loss, after.loss)]
        )
        # Everything in one tensor, for one transfer.
        numbers = torch.cat((losses, products, squares.reshape(-1), by_level.reshape(-1))).cpu().numpy()
        table = numbers[2 + len(_ROWS) :].reshape(-1, self._levels.count)[:, self._shown]
        return self._record(start.step, samples, sizes, numbers, table)

    def _trained(self, gradient: Parameters) -> Parameters:
        """The gradient with zeros for parameters that are not trained."""
        weight, bias = gradient
        if not self._net.weight.requires_grad:
            weight = torch.zeros_like(weight)
        if bias is not None and self._net.bias is not None and not self._net.bias.requires_grad:
            bias = torch.zeros_like(bias)
        return Parameters(weight, bias)

    def _flat_values(self, x: Tensor, at: Parameters, sizes: tuple[int, ...]) -> tuple[Tensor, int]:
        """Flat values of each node ``[N]``, of how many; part by part, for the memory."""
        flat, rows = torch.zeros((), dtype=torch.int32, device=x.device), 0
        for part in x.split(list(sizes)) if len(sizes) > 1 else (x,):
            values = self._passes.node_values(part, at)
            flat = flat + self._units.count(values)
            rows += len(values)
        return flat, rows

    def _record(
        self, step: int, samples: int, sizes: tuple[int, ...], numbers: NDArray[np.float64], table: NDArray[np.float64]
    ) -> Record:
        loss, loss_after, _, slope, update_square, slope_after, _ = numbers[: 2 + len(_ROWS)].tolist()
        parabola = (
            fit_parabola(loss, slope, loss_after, slope_after) if update_square else fit_parabola(loss, 0, loss, 0)
        )
        weight, gradient, update = np.sqrt(table[:3])
        dead, saturated = table[len(_ROWS) :].astype(np.int64)
        variance = signal = None
        if len(sizes) == 2:
            estimates = split_noise(table[3], table[4], (sizes[0], sizes[1]))
            self._noise.add(estimates)
            variance, signal = estimates.sum(axis=1).tolist()
        scale, scales = self._noise.scales()
        norms = np.sqrt(table[:3].sum(axis=1)).tolist()
        return {
            "step": step,
            "samples": samples,
            "loss": loss,
            "loss_after": loss_after,
            "slope": slope,
            "slope_after": slope_after,
            "step_length": parabola.step_length,
            "misfit": parabola.misfit,
            "gradient_norm": norms[1],
            "weight_norm": norms[0],
            "update_norm": norms[2],
            "update_ratio": norms[2] / norms[0] if norms[0] else None,
            "noise_scale": scale if variance is not None else None,
            "gradient_variance": variance,
            "gradient_square": signal,
            "units": int(self._unit_counts.sum()),
            "dead": int(dead.sum()),
            "saturated": int(saturated.sum()),
            "levels": {
                "level": self._shown.tolist(),
                "units": self._unit_counts.tolist(),
                "dead": dead.tolist(),
                "saturated": saturated.tolist(),
                "gradient_norm": gradient.tolist(),
                "weight_norm": weight.tolist(),
                "update_norm": update.tolist(),
                "update_ratio": [u / w if w else None for u, w in zip(update.tolist(), weight.tolist(), strict=True)],
                "noise_scale": scales if variance is not None and scales else [None] * len(weight),
            },
        }

    # ------------------------------------------------------------------ tables of the last measurement

    def nodes(self) -> dict[str, Any]:
        """See `Diagnostics.nodes`."""
        kept, graph = self._kept, self._net.graph
        assert kept is not None
        used = self._units.used.cpu().numpy()
        table = {
            "level": graph.level,
            "used": used,
            "dead": kept.units.dead.cpu().numpy(),
            "saturated": kept.units.saturated.cpu().numpy(),
            "flat_share": np.where(used, kept.flat.cpu().numpy() / kept.rows, np.nan),
        }
        for name, (weight, bias) in (("gradient", kept.gradient), ("weight", kept.at), ("update", kept.update)):
            squares: NDArray[Any] = np.bincount(graph.edge_index[1], _array(weight) ** 2, minlength=graph.num_nodes)
            if bias is not None:
                squares[graph.computed_index] += _array(bias) ** 2
            squares[graph.input_index] = np.nan
            table[f"{name}_norm"] = np.sqrt(squares)
        return table

    def edges(self) -> dict[str, Any]:
        """See `Diagnostics.edges`."""
        kept, (source, target) = self._kept, self._net.graph.edge_index
        assert kept is not None
        numbers = {"weight": kept.at, "gradient": kept.gradient, "update": kept.update}
        return {
            "source": source,
            "target": target,
            "level": self._net.graph.level[target],
            **{name: _array(each.weight) for name, each in numbers.items()},
        }

    # ------------------------------------------------------------------ state

    def noise_state(self) -> list[list[float]] | None:
        """The averages of the noise, as lists."""
        return None if self._noise.average is None else self._noise.average.tolist()

    def load_noise_state(self, state: list[list[float]]) -> None:
        """Continue from `noise_state`."""
        self._noise.average = np.array(state)


def _array(tensor: Tensor) -> NDArray[np.float64]:
    return tensor.double().cpu().numpy()


def _difference(a: Tensor, b: Tensor) -> Tensor:
    """The difference, in the type that numbers of a's type are computed in."""
    dtype = compute_dtype(a.dtype)
    return a.to(dtype) - b.to(dtype)


def _mean_and_noise(sizes: tuple[int, ...]) -> Callable[[Tensor], None]:
    """Replace the last two rows, contributions of parts of a batch, by their sum and by the difference of their means.

    Of a batch in one part both rows are that part; its noise is 0.
    """

    def combine(rows: Tensor) -> None:
        if len(sizes) == 1:
            rows[-1].zero_()
            return
        first, second = (rows[k - 2] * (sum(sizes) / size) for k, size in enumerate(sizes))
        rows[-2] += rows[-1]
        torch.sub(first, second, out=rows[-1])

    return combine

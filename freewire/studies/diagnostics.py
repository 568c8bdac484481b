# SPDX-License-Identifier: MIT
"""`Diagnostics`: measures a training of a `Network` while it runs, every few steps.

A hook of the optimizer copies parameters and gradients before a step that is to be measured. After the step, one extra
forward and backward on the same batch yield loss and slope at its end, and the nodes' values. The
arithmetic is in the other modules diagnostics_*.py: passes, sums by level, dead and saturated units, parabola and
noise, the log, findings, pictures.
"""

from __future__ import annotations

import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from freewire.errors import InputError, shown
from freewire.files import replacing
from freewire.nn import Network
from freewire.nn.checks import check_features, check_values, check_whole
from freewire.studies.diagnostics_log import Log, Record
from freewire.studies.diagnostics_measurement import Measurement, Start, grads_of
from freewire.studies.diagnostics_pass import LossFunction
from freewire.studies.diagnostics_plot import picture_path, plot_diagnostics
from freewire.studies.diagnostics_report import findings, summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Diagnostics"]

#: What is written to TensorBoard, as "diagnostics/<name>".
SCALARS = (
    "loss",
    "step_length",
    "gradient_norm",
    "weight_norm",
    "update_norm",
    "update_ratio",
    "noise_scale",
    "dead",
    "saturated",
)
_DRAWING_SHARE = 0.05  # of the time, at most, that the live picture takes


class Diagnostics:
    """Measures a network's training at every ``every``-th step of its optimizer, in a few lines of the training loop.

    Training is not changed in any bit: parameters, ``.grad`` and random numbers stay as they are. A measurement costs
    one to two training steps (``python -m benchmarks.suites.diagnostics``), and a step in between next to nothing.

    What a record holds; "norm" is Euclidean, over weights and biases; a level's parameters are the edges that lead to
    its nodes, and their biases. All of it is measured on the batch that is passed to `step`.

    - ``step``: number of optimizer steps before this one. ``samples``: of the batch.
    - ``loss``, ``loss_after``: where the step starts and where it ends. ``slope``, ``slope_after``: derivatives along
      the step, whose length is the unit.
    - ``step_length``: where the step ends on a parabola through these four (Schneider et al. 2021). -1: it did not
      move; 0: at the minimum; 1: as high as at the start, on the other side. Its magnitude is the ratio of the
      distances to the minimum after and before the step; below -1 the step started uphill. The parabola may have no
      minimum: where the loss still falls at the end it is then -1, else None.
      ``misfit``: how far the four are from one parabola, relative to the larger slope.
    - ``gradient_norm``, ``weight_norm`` (at the start), ``update_norm``, and ``update_ratio``, update over weight norm;
      None where weights are 0.
    - ``noise_scale``, in samples: the batch size at which noise and gradient are alike in size (McCandlish et al.
      2018), from averages over the last measurements; None where the noise hides the gradient, and for batches of one
      sample. ``gradient_variance`` (summed over parameters) and ``gradient_square`` are this batch's unbiased estimates
      of its two parts; the second may be negative.
    - ``units``: nodes that are computed and reach an output. ``dead``: those whose activation has a derivative of
      exactly 0 on the whole batch, such as a relu that is never positive; a step is dead if its value never changes.
      ``saturated``: those with a derivative below a twentieth of its largest on 95 % of the batch, where that is
      unwanted (sigmoid, tanh, the hard ones, elu, selu, gelu, silu, softplus, gaussian). Of batches of more than
      128 samples, 128 to 255 are looked at.
    - ``levels``: lists, with one entry per level that has parameters: ``level``, ``units``, ``dead``, ``saturated``,
      ``gradient_norm``, ``weight_norm``, ``update_norm``, ``update_ratio``, ``noise_scale``.

    The gradient is the ``.grad`` that the optimizer received, so it should be that of the batch's loss. Where it is
    not, since gradients are clipped, accumulated over batches or averaged over processes, pass ``recompute=True``. That
    of an optimizer with a closure (LBFGS), or of constrained weights, is always recomputed. Gradients that a GradScaler
    scaled are unscaled.

    Args:
        net: The network.
        optimizer: The optimizer that trains it, and nothing else.
        every: Measure every so many steps, the first included.
        recompute: Compute the gradient at the start of a step too, instead of reading ``.grad``: one more forward and
            backward per measurement.
        log: A file of JSON lines, to which each record is appended at once; `read_diagnostics` reads it.
        writer: A TensorBoard ``SummaryWriter``, or any object with its ``add_scalar``; receives the numbers of the
            whole network.
        figure: A picture file (such as "diagnostics.png") that is redrawn during training, as often as takes a
            twentieth of the time, and by `close`.
        keep: How many records to keep in ``records``.

    Attributes:
        records: The last records, oldest first: dictionaries of plain numbers.
        steps: Number of optimizer steps seen.

    Raises:
        InputError: An argument is not what is described above.

    Example:
        >>> import torch, freewire as fw
        >>> net = fw.Network(fw.generators.mlp([8, 16, 1]))
        >>> optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        >>> x, y, mse = torch.randn(32, 8), torch.randn(32, 1), torch.nn.functional.mse_loss
        >>> with fw.studies.Diagnostics(net, optimizer, every=10) as diagnostics:
        ...     for _ in range(30):
        ...         loss = mse(net(x), y)
        ...         optimizer.zero_grad()
        ...         loss.backward()
        ...         optimizer.step()
        ...         _ = diagnostics.step(x, y, mse, loss)
        >>> [record["step"] for record in diagnostics.records]
        [0, 10, 20]
    """

    def __init__(
        self,
        net: Network,
        optimizer: torch.optim.Optimizer,
        every: int = 10,
        *,
        recompute: bool = False,
        log: str | Path | None = None,
        writer: Any = None,
        figure: str | Path | None = None,
        keep: int = 1000,
    ) -> None:
        net = getattr(net, "_orig_mod", net)  # of a compiled network
        if not isinstance(net, Network):
            raise InputError(
                f"net: expected a freewire Network, got {type(net).__name__}. Pass the Network in it (model.network of "
                "a fw.Model), and to step() the tensor that enters that."
            )
        check_values(net.weight)
        _check_optimizer(optimizer, net)
        self.every = check_whole("every", every, 1, "Measure every 10th step, say.")
        keep = check_whole("keep", keep, 1, "It is the length of the list of records.")
        if writer is not None and not callable(getattr(writer, "add_scalar", None)):
            raise InputError(
                f"writer: expected an object with add_scalar, got {type(writer).__name__}. Pass a SummaryWriter."
            )
        self.records: deque[Record] = deque(maxlen=keep)
        self.steps = 0
        self._net, self._recompute, self._writer = net, bool(recompute), writer
        self._measurement: Measurement | None = None  # made at the first one, on the device where the network then is
        self._start: Start | None = None
        self._closed = False
        self._figure_path, self._next_drawing = None if figure is None else picture_path(figure), 0.0
        self._log = None if log is None else Log(log)
        if self._log is not None:
            weakref.finalize(self, self._log.close)
        self._remove_hook = _hook(optimizer, self)

    # ------------------------------------------------------------------ the training loop

    def step(self, x: Tensor, y: Any, loss_fn: LossFunction, loss: Tensor | float | None = None) -> Record | None:
        """Measure the step that the optimizer has just made, if it is one that is measured; call it after every step.

        The optimizer need not make a step in each iteration. Under autocast the extra passes run in its type.

        Args:
            x: The batch that the step was for, as it entered the network: ``[B, ..., I]``, B samples.
            y: Its targets, passed on to ``loss_fn``.
            loss_fn: ``loss_fn(outputs, y)`` returns the loss whose gradient the step was for.
            loss: That loss before the step, as the training loop has it. None: one more forward computes it.

        Returns:
            The record, or None if this step is not measured. A record holds numbers that are not finite as they are.

        Raises:
            InputError: An argument does not fit, a backward has run since the optimizer's step, or `close` was called.
        """
        start, self._start = self._start, None
        if start is None:
            if self._closed:
                raise InputError(
                    "step: expected open diagnostics, got closed ones. Make new ones, or close them later."
                )
            return None
        self._check_batch(x, y, loss_fn, loss, start)
        with torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext():
            if self._measurement is None or self._measurement.device != x.device:
                self._measurement = Measurement(self._net, x.device, self._measurement)
            record = self._measurement(start, x, y, loss_fn, loss)
        self.records.append(record)
        if self._log is not None:
            self._log.write(record)
        if self._writer is not None:
            for name in SCALARS:
                if record[name] is not None:
                    self._writer.add_scalar(f"diagnostics/{name}", record[name], record["step"])
        if self._figure_path is not None and time.perf_counter() >= self._next_drawing:
            self._draw(self._figure_path)
        return record

    def _check_batch(self, x: Any, y: Any, loss_fn: Any, loss: Any, start: Start) -> None:
        check_features(x, len(self._net.graph.input_index))
        if not x.numel():
            raise InputError(f"x: expected at least one sample, got shape {list(x.shape)}. Skip empty batches.")
        if x.dim() == 2 and isinstance(y, Tensor) and y.dim() and y.shape[0] != x.shape[0]:  # len() takes 2 us
            raise InputError(
                f"y: expected {x.shape[0]} targets, one per sample of x, got {y.shape[0]}. Pass the same batch."
            )
        if not callable(loss_fn):
            raise InputError(
                f"loss_fn: expected a function, got {shown(loss_fn)}. It is called as loss_fn(outputs, y)."
            )
        if loss is not None and not isinstance(loss, int | float) and getattr(loss, "numel", lambda: 0)() != 1:
            raise InputError(f"loss: expected one number, the loss before the step, got {shown(loss)}. Average it.")
        for now, then in zip(grads_of(self._net), start.grads or (), strict=False):
            if now is not None and now is not then:
                raise InputError(
                    "step: expected a call between optimizer.step() and the next backward, got one after another "
                    "backward. Call it right after optimizer.step(), with the same batch."
                )

    def close(self) -> None:
        """Remove the hook from the optimizer, draw the figure once more and close the log. Records are kept."""
        if self._closed:
            return
        self._closed, self._start = True, None
        self._remove_hook()
        if self._log is not None:
            self._log.close()
        if self._figure_path is not None and self.records:
            self._draw(self._figure_path)

    def __enter__(self) -> Diagnostics:
        """Return itself; the end of the ``with`` calls `close`."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _before_step(self, optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The optimizer's hook."""
        # A start that nobody asked for is replaced, so the next call of `step` measures the step right before it.
        if self._start is not None or self.steps % self.every == 0:
            has_closure = (kwargs.get("closure") or (args[1] if len(args) > 1 else None)) is not None
            scale = getattr(optimizer, "grad_scale", None)  # where the optimizer itself unscales gradients
            self._start = Start.of(self._net, self.steps, self._recompute, has_closure, scale)
        self.steps += 1

    # ------------------------------------------------------------------ results

    def nodes(self) -> dict[str, Any]:
        """The last measurement, per node: arrays ``[N]`` in the order of ``net.graph.nodes``.

        Returns:
            ``level``; ``used`` (a unit: computed, and it reaches an output); ``dead``; ``saturated``; ``flat_share``
            (of the batch, where the derivative is that small; NaN where a node is no unit); and
            ``gradient_norm``, ``weight_norm``, ``update_norm``, over the node's in-edges and its bias, NaN at inputs.

        Raises:
            InputError: Nothing has been measured yet.
        """
        return self._last().nodes()

    def edges(self) -> dict[str, Any]:
        """The last measurement, per edge: arrays ``[E]`` in the order of ``net.weight``.

        Returns:
            ``source`` and ``target`` (indices into ``net.graph.nodes``), ``level`` (of the target), ``weight`` (before
            the step), ``gradient`` and ``update``.

        Raises:
            InputError: Nothing has been measured yet.
        """
        return self._last().edges()

    def _last(self) -> Measurement:
        if self._measurement is None or not self.records:
            raise InputError("diagnostics: expected a measurement, got none yet. Call step() in the training loop.")
        return self._measurement

    def report(self) -> list[str]:
        """What the last 20 measurements say about the training, in sentences; empty if nothing stands out."""
        return findings(list(self.records))

    def __repr__(self) -> str:
        return f"Diagnostics({self.steps:,} steps, every={self.every}, {len(self.records):,} records)"

    def __str__(self) -> str:
        records = list(self.records)
        if self.steps and not records:
            return (
                f"Diagnostics: nothing measured in {self.steps:,} steps. Call step(x, y, loss_fn, loss) after each "
                "optimizer.step()."
            )
        return "\n".join([summary(records), *(f"- {finding}" for finding in findings(records))])

    def plot(self, figure: Figure | None = None) -> Figure:
        """Draw the records that are kept.

        Args:
            figure: A matplotlib figure to clear and draw on, such as one that is on the screen. None: a new one that
                belongs to no window.

        Returns:
            The figure: ``figure.savefig("diagnostics.png")``.

        Raises:
            InputError: Nothing has been measured yet.
            BuildError: matplotlib is not installed.
        """
        self._last()
        return plot_diagnostics(list(self.records), figure)

    def _draw(self, path: Path) -> None:
        begin = time.perf_counter()
        figure = self.plot()
        with replacing(path) as file:
            figure.savefig(file, format=path.suffix[1:])
        end = time.perf_counter()
        self._next_drawing = end + (end - begin) / _DRAWING_SHARE

    # ------------------------------------------------------------------ state

    def state_dict(self) -> dict[str, Any]:
        """What a training that is resumed needs: the number of steps, and the averages of the noise."""
        return {"steps": self.steps, "noise": None if self._measurement is None else self._measurement.noise_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called, in diagnostics of the same wiring.

        Raises:
            InputError: ``state`` is something else.
        """
        if not isinstance(state, dict) or state.keys() != {"steps", "noise"}:
            raise InputError(f"state: expected what state_dict() returned, got {shown(state)}. Pass that.")
        self.steps = state["steps"]
        if state["noise"] is not None:
            self._measurement = self._measurement or Measurement(self._net, self._net.weight.device, None)
            self._measurement.load_noise_state(state["noise"])


def _check_optimizer(optimizer: Any, net: Network) -> None:
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"optimizer: expected a torch.optim.Optimizer, got {type(optimizer).__name__}. Pass the one that trains "
            "the network."
        )
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    own = {id(parameter): name for name, parameter in net.named_parameters()}
    missing = [
        own[each]
        for each, parameter in zip(own, net.parameters(), strict=True)
        if parameter.requires_grad and each not in held
    ]
    if missing:
        raise InputError(
            f"optimizer: expected one that trains the network, got one without its {' and '.join(missing)}. "
            "Make the optimizer of net.parameters(), after the network's last change of device or type."
        )
    if len(held - own.keys()):
        raise InputError(
            f"optimizer: expected one of this network's parameters only, got one with {len(held - own.keys())} more, "
            "along which slopes are unknown. Use a second optimizer for those."
        )


def _hook(optimizer: torch.optim.Optimizer, diagnostics: Diagnostics) -> Callable[[], None]:
    """Register the hook; the result removes it. It goes with the diagnostics, if nobody closes these."""
    reference = weakref.ref(diagnostics)

    def before(optimizer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if (alive := reference()) is not None:
            alive._before_step(optimizer, args, kwargs)

    handle = optimizer.register_step_pre_hook(before)
    weakref.finalize(diagnostics, handle.remove)
    return handle.remove

# SPDX-License-Identifier: MIT
"""Running a batch of trials: what a worker does, wherever it runs.

In: a `Task`, which says what was proposed and holds a pickled copy of the strategy as it was then. Out: the lines of
the log. An objective that raises, or returns what is no number, gives lines that say so; nothing of it is raised here.
"""

from __future__ import annotations

import json
import math
import pickle
import random
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from numbers import Real
from pathlib import Path
from types import TracebackType
from typing import Any

from freewire.errors import cut, shown
from freewire.graph.arguments import whole
from freewire.search.log_format import same
from freewire.search.strategy import Pruned, Strategy

__all__ = ["Task", "Where", "as_float", "broken", "ended", "evaluated", "pickled", "random_state_kept", "run_task"]

_TRACE = 4000  # characters of an error that the log keeps: the last ones, which say most
_HERE = str(Path(__file__).parent)
_TIMES = ("m", "M")  # numpy's kinds of times, whose items may be whole numbers


@dataclass(frozen=True)
class Task:
    """A batch of trials that has been proposed.

    Attributes:
        lines: What was proposed, with ``trial``, for each trial.
        seeds: A seed for each trial.
        strategy: The strategy, pickled right after it proposed; it itself where it cannot be pickled.
    """

    lines: tuple[dict[str, Any], ...]
    seeds: tuple[int, ...]
    strategy: bytes | Strategy


class Where(Enum):
    """Where an object that is pickled will be used."""

    HERE = "in this process"
    CHILD = "in a process of ours, which runs our main program's file, if it is one, and so knows its functions"
    ANYWHERE = "in a process that may run another main program"


def pickled(value: Any, where: Where) -> bytes | None:
    """Pickle a caller's object for a worker; None if that is not possible.

    Functions and classes are pickled by name. Those that another process cannot import, such as a lambda or what is
    defined in a notebook, are pickled by value where the package cloudpickle is installed; never for this process,
    since cloudpickle would then change a class that is there.

    Args:
        value: The object.
        where: Where it is going to be used.
    """
    by_name: bytes | None
    try:
        by_name = pickle.dumps(value)
    except Exception:  # pickle raises errors of many kinds, and so do the methods of classes
        by_name = None
    known = where is Where.HERE or (where is Where.CHILD and hasattr(sys.modules["__main__"], "__file__"))
    if where is Where.HERE or (by_name is not None and (known or b"__main__" not in by_name)):
        return by_name
    try:
        import cloudpickle

        by_value: bytes = cloudpickle.dumps(value)
    except Exception:  # the same, or there is no such package
        return by_name if where is Where.ANYWHERE else None  # a process that was forked from ours knows our functions
    return by_value


def run_task(objective: Any, task: Task) -> str:
    """Run a batch in a worker of any executor; it never raises.

    Args:
        objective: The objective, pickled or itself.
        task: The batch.

    Returns:
        JSON: ``{"lines": [...]}``, or what `broken` says if the objective or the strategy cannot be unpickled.
    """
    try:
        function = pickle.loads(objective) if isinstance(objective, bytes) else objective
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a module may call sys.exit as it is imported
        return broken("objective", error)
    try:
        strategy = pickle.loads(task.strategy) if isinstance(task.strategy, bytes) else task.strategy
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        return broken("strategy", error)
    return json.dumps({"lines": evaluated(function, strategy, task.lines, task.seeds)})


def broken(what: str, error: BaseException) -> str:
    """What a worker answers that cannot unpickle the objective or the strategy: JSON, ``{"broken": what, "why": ...}``.

    Args:
        what: ``"objective"`` or ``"strategy"``.
        error: What was raised.
    """
    return json.dumps({"broken": what, "why": cut(f"{type(error).__name__}: {error}")})


def evaluated(
    objective: Callable[..., Any], strategy: Strategy, lines: Sequence[dict[str, Any]], seeds: Sequence[int]
) -> list[dict[str, Any]]:
    """Run a batch and return its lines, which JSON can hold.

    The global generators of torch, numpy and Python are seeded with the first trial's seed before. Afterwards
    torch's default dtype, and whether it records gradients, are as before, or a trial would depend on earlier ones.
    """
    reports: list[list[Any]] = []

    def report(step: int, value: float) -> None:
        place, number = whole(step), as_float(value)
        if place is None or place < 0:
            raise TypeError(f"report: expected a step that is a whole number from 0 on, got {shown(step)}.")
        if number is None:
            raise TypeError(f"report: expected a value that is a number, got {shown(value)}.")
        reports.append([place, number if math.isfinite(number) else None])

    _seed_generators(seeds[0])
    start = time.perf_counter()
    try:
        # A copy: an objective that takes something out of its params must not take it out of the log.
        with _torch_modes_kept():
            added = strategy.evaluate(objective, json.loads(json.dumps(lines)), seeds, report)
        if len(added) != len(lines):
            raise ValueError(f"evaluate: expected a result for each of {len(lines)} trials, got {len(added)}.")
        outcome = [_checked(line, one) for line, one in zip(lines, added, strict=True)]
    except Pruned:
        outcome = [{**line, "value": reports[-1][1] if reports else None, "status": "pruned"} for line in lines]
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # also SystemExit, GeneratorExit, asyncio.CancelledError: the trial's, not ours
        outcome = ended(lines, "failed", _trace(error))
    seconds = round(time.perf_counter() - start, 6)
    for line in outcome:
        error_text = {"error": line.pop("error")} if "error" in line else {}
        line |= {"seconds": seconds, **error_text}
    if reports:
        outcome[0]["reports"] = reports
    return outcome


def ended(lines: Sequence[dict[str, Any]], status: str, error: str) -> list[dict[str, Any]]:
    """The lines, but for their seconds, of a batch that ended without results."""
    return [{**line, "value": None, "status": status, "error": error} for line in lines]


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Give the global generators of torch, those of GPUs too, numpy and Python their state back at the end."""
    import numpy as np
    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # CUDA that has not begun has no state yet but a seed, that of the CPU's generator unless the caller chose another.
    seed, gpus = torch.initial_seed(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        if gpus is None:
            torch.cuda.manual_seed_all(seed)
        else:
            torch.cuda.set_rng_state_all(gpus)


@contextmanager
def _torch_modes_kept() -> Iterator[None]:
    import torch

    gradients, dtype = torch.is_grad_enabled(), torch.get_default_dtype()
    try:
        yield
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_default_dtype(dtype)


def _seed_generators(seed: int) -> None:
    import numpy as np
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _checked(line: dict[str, Any], added: dict[str, Any]) -> dict[str, Any]:
    """A trial's line, finished or failed, which JSON can hold."""
    value = as_float(added.get("value"))
    text, pruned = added.get("error"), added.get("status") == "pruned"
    if text is None and not (pruned and value is None) and (value is None or not math.isfinite(value)):
        got = added.get("value") if value is None else value
        text = f"value: expected a finite number, got {shown(got)}. The objective returns how good it is."
    rest = {name: one for name, one in added.items() if name not in ("trial", "value", "error", "seconds", "status")}
    full = {**line, **rest}
    try:
        full = json.loads(json.dumps(full, allow_nan=False))
    except (TypeError, ValueError) as error:
        full, text = dict(line), f"evaluate: expected what JSON can hold, got something else ({cut(error)})."
    if not same(full.get("params"), line.get("params")):  # a search that continues compares what was proposed
        full["proposed_params"] = line.get("params")
    if text is not None:
        return ended([full], "failed", str(text))[0]
    return {**full, "value": value, "status": "pruned" if pruned else "finished"}


def as_float(value: Any) -> float | None:
    """A real number of any type as a float: Python's, also a Fraction or Decimal; an array or tensor of one element.

    Returns:
        None for what is not one, such as truth values, complex numbers, times and text.
    """
    try:
        if hasattr(value, "ndim") and hasattr(value, "item"):
            value = None if getattr(value.dtype, "kind", "") in _TIMES else value.item()
        if isinstance(value, bool) or not isinstance(value, Real | Decimal):
            return None
        return float(value)
    except (AttributeError, TypeError, ValueError, OverflowError, RuntimeError):
        return None


def _trace(error: BaseException) -> str:
    """The error and where in the objective it was raised, without our own calls that lead there."""
    where: TracebackType | None = error.__traceback__
    while where is not None and where.tb_next and str(Path(where.tb_frame.f_code.co_filename).parent) == _HERE:
        where = where.tb_next
    text = "".join(traceback.format_exception(type(error), error, where)).rstrip("\n")
    return text if len(text) <= _TRACE else f"...{text[-_TRACE:]}"

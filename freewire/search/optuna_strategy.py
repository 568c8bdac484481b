# SPDX-License-Identifier: MIT
"""Optuna's samplers and pruners as a strategy, by its interface of ask and tell.

Optuna's own loop lets trials see whatever has finished when they ask or report, so that a parallel study cannot be
repeated. Here the sampler asks when exactly the trials before the last ``lag`` have been told, and the pruner judges a
trial, in its worker, by a copy of the study as it was then.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from freewire.errors import BuildError, InputError, shown
from freewire.graph.arguments import check_whole
from freewire.search.optuna_settings import described
from freewire.search.seeds import check_seed, stream
from freewire.search.space import Choices, Integers, Space
from freewire.search.strategy import Pruned, Report, Strategy, call
from freewire.search.trial import as_float

__all__ = ["Optuna"]


class Optuna(Strategy):
    """Lets a sampler of Optuna propose trials, and a pruner of Optuna end them early.

    Args:
        space: From the names of parameters to a list of choices, or a pair (low, high): floats, or whole numbers where
            both are.
        sampler: A sampler, whose random generators are then seeded from the search's seed, or what makes one from
            ``seed``: a class, or a function, such as ``lambda seed: QMCSampler(seed=seed)``. Default: ``TPESampler``.
        pruner: A pruner, which is asked at every ``report(step, value)``; default: none.
        lag: A trial is proposed when all trials before the last ``lag`` have finished, so ``lag + 1`` can run at once.
            It is part of the search: 0 shows the sampler every trial before the next, for one worker.
        seed: Another seed than 0 gives another search at the same seed of `run`.

    Raises:
        InputError: An argument does not fit.
        BuildError: Optuna is not installed.

    Example:
        >>> strategy = Optuna({"x": (0.0, 1.0), "k": [2, 4, 6]}, lag=0)
        >>> strategy.start(seed=0)
        >>> sorted(strategy.propose(trial=0)["params"])
        ['k', 'x']
    """

    def __init__(
        self,
        space: Mapping[str, Any],
        sampler: Any = None,
        pruner: Any = None,
        lag: int = 8,
        seed: int = 0,
    ) -> None:
        optuna = _optuna()
        self._space, self._seed = Space(space), check_seed(seed)
        self.lag = check_whole("lag", lag, 0, "Use the most workers that you will have, minus 1.", error=InputError)
        if sampler is None:
            sampler = optuna.samplers.TPESampler
        if not (callable(sampler) or isinstance(sampler, optuna.samplers.BaseSampler)):
            raise InputError(
                f"sampler: expected a sampler of Optuna or a function of a seed, got {shown(sampler)}. Pass "
                "optuna.samplers.TPESampler(), say."
            )
        if not (pruner is None or isinstance(pruner, optuna.pruners.BasePruner)):
            raise InputError(
                f"pruner: expected a pruner of Optuna, got {shown(pruner)}. Pass optuna.pruners.MedianPruner(), say."
            )
        # Copies, since the caller may use them for something else before the search begins again.
        self._sampler, self._pruner = copy.deepcopy((sampler, pruner))
        self._study: Any = None
        self._asked: dict[int, Any] = {}

    def settings(self) -> dict[str, Any]:
        """The space and the arguments; of the sampler and the pruner their classes' names and arguments."""
        return {
            "space": self._space.json,
            **described("sampler", self._made_sampler(0)),
            **({"pruner": None} if self._pruner is None else described("pruner", self._pruner)),
            "lag": self.lag,
            "strategy_seed": self._seed,
        }

    def start(self, seed: int) -> None:
        """Begin a study with the seed of the search."""
        optuna = _optuna()
        pruner = copy.deepcopy(self._pruner) or optuna.pruners.NopPruner()
        sampler = self._made_sampler(stream(seed, self._seed).one_below(2**32))
        with _quiet(optuna):
            # The name decides, with the trial's number, which bracket of the Hyperband pruner a trial is in.
            self._study = optuna.create_study(
                direction="maximize", sampler=sampler, pruner=pruner, study_name="freewire"
            )
        self._asked = {}

    def propose(self, trial: int) -> dict[str, Any]:
        """Ask the sampler."""
        asked = self._study.ask(_distributions(self._space))
        self._asked[trial] = asked
        values = {}
        for name, each in self._space.ranges.items():
            value = asked.params[name]
            if isinstance(each, Choices):
                values[name] = value if _is_categorical(each) else each.values[value]
            else:
                values[name] = int(value) if isinstance(each, Integers) else float(value)
        return {"params": values}

    def tell(self, line: Mapping[str, Any]) -> None:
        """Tell the study how a trial ended, and what it reported."""
        states = _optuna().trial.TrialState
        asked = self._asked.pop(line["trial"])
        for step, value in _first_reports(line.get("reports", [])).items():
            asked.report(math.nan if value is None else value, step)
        for name, value in line.get("pruner", {}).items():
            asked.storage.set_trial_system_attr(asked._trial_id, name, value)
        state = {"finished": states.COMPLETE, "pruned": states.PRUNED}.get(line["status"], states.FAIL)
        try:
            self._study.tell(asked, line["value"] if state is states.COMPLETE else None, state)
        except RuntimeError:
            # Samplers of a finite number of trials stop Optuna's own loop, which is not there, when they have had all.
            if not self._study.get_trials(deepcopy=False)[line["trial"]].state.is_finished():
                raise

    def evaluate(
        self,
        objective: Callable[..., Any],
        lines: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        report: Report,
    ) -> list[dict[str, Any]]:
        """Call the objective; where there is a pruner, ``report`` asks it and raises `Pruned`."""
        if self._pruner is None:
            return super().evaluate(objective, lines, seeds, report)
        [line], [seed] = lines, seeds
        judged = _Judged(self._study, line["trial"], report)
        try:
            outcome = {"value": call(objective, params=line["params"], seed=seed, report=judged)}
        except Pruned:
            outcome = {"value": judged.last, "status": "pruned"}
        return [{**outcome, "pruner": judged.notes()} if judged.notes() else outcome]

    def __getstate__(self) -> dict[str, Any]:
        """Without the sampler, and without the study where there is no pruner: a worker needs no more."""
        state = {**self.__dict__, "_sampler": None, "_asked": {}, "_study": None}
        if self._pruner is not None and self._study is not None:
            study = copy.copy(self._study)
            study.sampler = _optuna().samplers.RandomSampler()
            state["_study"] = study
        return state

    def _made_sampler(self, seed: int) -> Any:
        optuna = _optuna()
        if not isinstance(self._sampler, optuna.samplers.BaseSampler):
            made = self._sampler(seed=seed)
            if not isinstance(made, optuna.samplers.BaseSampler):
                raise InputError(
                    f"sampler: expected a function that returns a sampler of Optuna, got {shown(made)} from it. Pass "
                    "lambda seed: optuna.samplers.TPESampler(seed=seed), say."
                )
            return made
        made = copy.deepcopy(self._sampler)
        for number, generator in enumerate(_generators(made, set())):
            generator.seed((seed + number) % 2**32)
        return made


class _Judged:
    """What a trial's objective gets as ``report``: it passes reports on, and asks the pruner.

    Args:
        study: A copy of the study, as it was when the trial was proposed.
        number: The trial's number.
        report: Where the reports go.

    Attributes:
        last: The last value that was reported; None if there is none, or it is not finite.
    """

    def __init__(self, study: Any, number: int, report: Report) -> None:
        self._trial = _optuna().trial.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)
        self._report, self._steps = report, set[int]()
        self._before = dict(self._attributes())
        self.last: float | None = None

    def __call__(self, step: int, value: float) -> None:
        self._report(step, value)
        number = as_float(value)
        assert number is not None  # or the line above has raised
        self.last = number if math.isfinite(number) else None
        if step not in self._steps:  # Optuna keeps the first value of a step, with a warning
            self._steps.add(step)
            self._trial.report(number, int(step))
        if self._trial.should_prune():
            raise Pruned

    def notes(self) -> dict[str, Any]:
        """What the pruner has noted about this trial, and will look at when it judges others."""
        return {name: value for name, value in self._attributes().items() if name not in self._before}

    def _attributes(self) -> Mapping[str, Any]:
        attributes: Mapping[str, Any] = self._trial.storage.get_trial_system_attrs(self._trial._trial_id)
        return attributes


def _optuna() -> Any:
    try:
        import optuna
    except ImportError as error:
        raise BuildError(
            "optuna: expected it to be installed, got no such package. Run: pip install 'freewire[search]'."
        ) from error
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without Optuna's line about each study, which names one that nobody can look at."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def _distributions(space: Space) -> dict[str, Any]:
    """The space in Optuna's terms. Choices that Optuna does not know are their places in the list there."""
    kinds = _optuna().distributions
    found = {}
    for name, each in space.ranges.items():
        if isinstance(each, Choices):
            values = each.values if _is_categorical(each) else range(len(each.values))
            found[name] = kinds.CategoricalDistribution(tuple(values))
        elif isinstance(each, Integers):
            found[name] = kinds.IntDistribution(each.low, each.high)
        else:
            found[name] = kinds.FloatDistribution(each.low, each.high)
    return found


def _is_categorical(choices: Choices) -> bool:
    """Whether Optuna can tell these choices apart: no lists, and no 1 beside True, which are equal in Python."""
    plain = all(value is None or isinstance(value, bool | int | float | str) for value in choices.values)
    return plain and len(set(choices.values)) == len(choices.values)


def _generators(owner: Any, seen: set[int]) -> Iterator[np.random.RandomState]:
    """The random generators of a sampler, and of samplers and other objects of Optuna in it, each once."""
    for value in vars(owner).values():
        if id(value) in seen or not type(value).__module__.startswith("optuna."):
            continue
        seen.add(id(value))
        generator = getattr(value, "rng", None)
        if isinstance(generator, np.random.RandomState):
            yield generator
        elif hasattr(value, "__dict__"):
            yield from _generators(value, seen)


def _first_reports(reports: Sequence[Sequence[Any]]) -> dict[int, float | None]:
    found = dict[int, float | None]()
    for step, value in reports:
        found.setdefault(step, value)
    return found

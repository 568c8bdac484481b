# SPDX-License-Identifier: MIT
"""What a search strategy is: it proposes trials and is told how they ended, both in order of trials.

`run` calls a strategy in one fixed order, whatever the number of workers and whenever trials finish: before the first
trial of a batch is proposed, exactly the trials numbered below ``first - lag`` have been told. So the proposals are the
same for any number of workers, and those of a search that was stopped and continued from its log are those of one that
was not.
"""

from __future__ import annotations

import abc
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from freewire.errors import InputError, shown

__all__ = ["Pruned", "Report", "Strategy", "call", "check_objective"]

#: What an objective calls to report an intermediate value: the step, from 0, and the value.
Report = Callable[[int, float], None]


class Pruned(Exception):  # noqa: N818 (no error: a pruner, or the objective itself, has decided to stop)
    """Ends a trial early: raised by ``report`` where a pruner says so; an objective may raise it too.

    The trial's status in the log is "pruned", and its value the last that it reported.
    """


class Strategy(abc.ABC):
    """Proposes trials. Subclass it for a search of your own; docs/design.md says where it belongs in freewire.

    What a strategy proposes may depend on nothing but the seed, the trial's number and what it has been told. It is
    pickled after each proposal, and `evaluate` runs on that copy in a worker.

    Attributes:
        batch: Trials that one call of `evaluate` runs.
        lag: How many trials back the strategy has been told when it proposes: trial ``first`` of a batch is proposed as
            soon as all trials numbered below ``first - lag`` have finished. At 0 batches run one after the other; at
            ``sys.maxsize`` nothing is waited for.
        arguments: What an objective may name.

    Example:
        >>> class Countdown(Strategy):
        ...     def settings(self):
        ...         return {}
        ...     def start(self, seed):
        ...         pass
        ...     def propose(self, trial):
        ...         return {"params": {"x": 3 - trial}}
        ...     def tell(self, line):
        ...         pass
        >>> Countdown().evaluate(lambda params: -(params["x"] ** 2), [{"trial": 0, "params": {"x": 3}}], [7], print)
        [{'value': -9}]
    """

    batch: int = 1
    lag: int = 0
    arguments: ClassVar[tuple[str, ...]] = ("params", "seed", "report")

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """All that the search depends on besides the seed and the objective, as JSON; a log of others is refused."""

    @abc.abstractmethod
    def start(self, seed: int) -> None:
        """Begin, or begin again: forget what was told.

        Args:
            seed: The seed of the search, from 0 to 2**64 - 1.
        """

    @abc.abstractmethod
    def propose(self, trial: int) -> dict[str, Any]:
        """Propose a trial; called once for each, in order.

        Args:
            trial: Its number, from 0.

        Returns:
            What the log's line says of it, as JSON: ``params`` or ``genome``, and what else the strategy wants.
        """

    @abc.abstractmethod
    def tell(self, line: Mapping[str, Any]) -> None:
        """Learn how a trial ended; called once for each, in order.

        Args:
            line: Its line of the log. ``value`` is None where it failed, which counts as worst.
        """

    def evaluate(
        self,
        objective: Callable[..., Any],
        lines: Sequence[Mapping[str, Any]],
        seeds: Sequence[int],
        report: Report,
    ) -> list[dict[str, Any]]:
        """Run a batch of trials, in a worker. By default the objective is called once per trial.

        Args:
            objective: The caller's function.
            lines: What was proposed, with ``trial``, for each trial of the batch; a copy, which may be changed.
            seeds: A seed for each trial.
            report: Reports an intermediate value; the log holds those of a batch in its first line.

        Returns:
            For each trial what its line says besides: ``value``, a finite number, or ``error``, a text, where that
            trial alone failed; ``"status": "pruned"`` where it ended early; and what else the strategy wants, as JSON.
            It replaces what was proposed under the same name; the log keeps proposed ``params`` that are replaced so
            as ``proposed_params``.

        Raises:
            Pruned: The trials end early.
            Exception: Whatever the objective raises; then all trials of the batch have failed.
        """
        return [
            {"value": call(objective, params=line["params"], seed=seed, report=report)}
            for line, seed in zip(lines, seeds, strict=True)
        ]

    def best(self, line: Mapping[str, Any]) -> dict[str, Any]:
        """Attributes that the result of a search has besides those of its line, by name.

        Args:
            line: The best trial's line of the log.
        """
        return {}


def check_objective(objective: Any, arguments: Sequence[str]) -> None:
    """Raise unless ``objective`` can be called with these arguments, or those of them that it names.

    Args:
        objective: The caller's function.
        arguments: The names that it may have.

    Raises:
        InputError: It is not callable, or needs another argument.
    """
    listed = ", ".join(arguments)
    if not callable(objective):
        raise InputError(
            f"objective: expected a function of {listed}, or of some of them, got {shown(objective)}. Pass a function."
        )
    for parameter in _parameters(objective, arguments).values():
        variable = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if not variable and parameter.default is parameter.empty and parameter.name not in arguments:
            raise InputError(
                f"objective: expected a function of {listed}, or of some of them, got one that needs the argument "
                f"{parameter.name}. Rename it, or give it a default."
            )


def call(objective: Callable[..., Any], **available: Any) -> Any:
    """Call an objective with those of the available arguments that it names, or with all if it has ``**keywords``.

    Example:
        >>> call(lambda seed: seed + 1, params={"x": 1}, seed=3)
        4
    """
    positional, named = list[Any](), dict[str, Any]()
    for name, parameter in _parameters(objective, tuple(available)).items():
        if parameter.kind is parameter.VAR_KEYWORD:
            return objective(*positional, **{**named, **available})
        if name not in available or parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            positional.append(available.pop(name))
        else:
            named[name] = available[name]
    return objective(*positional, **named)


def _parameters(objective: Callable[..., Any], arguments: Sequence[str]) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(objective).parameters
    except (TypeError, ValueError):  # some builtins have none
        raise InputError(
            f"objective: expected a function of {', '.join(arguments)}, or of some of them, got {shown(objective)}, "
            "whose arguments are unknown. Wrap it in a function."
        ) from None

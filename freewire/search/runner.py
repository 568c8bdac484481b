# SPDX-License-Identifier: MIT
"""`run`: a search from its first trial to its last, or from where its log ends.

The strategy is called in one fixed order (`freewire.search.strategy`): a continued search calls it again from the first
trial on, with the log's lines instead of the trials that are in it. So its state never has to be stored.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

from freewire.errors import InputError, cut, shown
from freewire.graph.arguments import check_number, check_whole
from freewire.search.executors import Crew, InExecutor, InThisProcess
from freewire.search.log import Log
from freewire.search.log_format import header_of, same
from freewire.search.processes import Processes, available_cores
from freewire.search.progress import Progress
from freewire.search.result import Result, best_line
from freewire.search.seeds import check_seed, trial_seed
from freewire.search.strategy import Strategy, check_objective
from freewire.search.trial import Task, pickled

__all__ = ["run"]


def run(
    objective: Callable[..., Any],
    strategy: Strategy,
    trials: int,
    executor: Executor | None = None,
    log: str | os.PathLike[str] = "search.jsonl",
    seed: int = 0,
    timeout: float | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Result:
    """Search for what makes ``objective`` high, with every trial in a log from which the search continues.

    Trials run in processes of their own, side by side. The trials and their results do not depend on the number of
    workers. Stopped or killed at any moment, the same call continues; with more ``trials`` it adds to the search. A
    trial whose objective raises, returns no finite number, takes too long or kills its process is recorded with its
    error, counts as worst, and does not stop the search.

    Args:
        objective: Returns a number, higher is better, for ``params``, a dictionary. It may also name ``seed``, a whole
            number of 32 bits that depends on the search's seed and the trial's number (in a long search, two trials may
            have the same), and ``report``: ``report(step, value)`` lets pruners end the trial. Other strategies may
            have other arguments. Worker processes must be able to import it; those in a notebook and lambdas need
            cloudpickle. Torch's, numpy's and Python's global generators are seeded before each trial.
        strategy: What proposes trials, such as `RandomSearch`.
        trials: How many trials the search has, those in the log included; rounded up to whole batches.
        executor: Runs the trials instead of processes of our own, such as Dask's ``client.get_executor()``. It stays
            open. A pool that breaks because a worker died stops the search.
        log: The file of JSON lines. One that exists must be of a search with the same strategy, settings and seed.
        seed: Seed of all draws, from 0 to 2**64 - 1.
        timeout: Seconds that a trial, or a batch of trials, may take; its process is then killed. Only for processes of
            our own.
        workers: The most processes; default: one per core, each with its share of the cores as torch's threads. 0: all
            trials run in this process, one after the other. With an executor: tasks that it gets at a time.
        progress: Whether to show how many trials have ended and the best so far: as a bar where stderr is a terminal
            and tqdm is installed, else as lines.

    Returns:
        The best trial.

    Raises:
        InputError: An argument does not fit, the log is of another search or in use, the workers cannot import the
            objective, the executor is broken, or no trial has finished.
        FileFormatError: The log is damaged, or no log.
        KeyboardInterrupt: Ctrl-C; the log holds all that had ended.

    Example:
        >>> import os, tempfile
        >>> from freewire.search import RandomSearch
        >>> def objective(params):
        ...     return -((params["x"] - 3) ** 2)
        >>> log = os.path.join(tempfile.mkdtemp(), "search.jsonl")
        >>> space = {"x": (0.0, 10.0)}
        >>> best = run(objective, RandomSearch(space), 50, log=log, workers=0, progress=False)
        >>> abs(best.params["x"] - 3) < 0.5
        True
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):  # multiprocessing's own check asks the same
        raise InputError(
            'run: expected a call under `if __name__ == "__main__":`, got one by a worker process that imports the '
            "script. Put the call under that line."
        )
    if not isinstance(strategy, Strategy):
        raise InputError(f"strategy: expected a Strategy, got {shown(strategy)}. Pass RandomSearch(space), say.")
    check_objective(objective, strategy.arguments)
    count = check_whole("trials", trials, 1, "Choose how many there are in all.", error=InputError)
    batch = check_whole("strategy.batch", strategy.batch, 1, "Correct that attribute.", error=InputError)
    check_whole("strategy.lag", strategy.lag, 0, "Correct that attribute: 0 waits for all trials.", error=InputError)
    total = -(-count // batch) * batch
    header = header_of(type(strategy).__name__, strategy.settings(), check_seed(seed), batch)
    crew = _crew(objective, strategy, total, executor, timeout, workers)
    with Log(log, header) as records:
        before = [line for trial, line in sorted(records.lines.items()) if trial < total]
        with Progress(bool(progress), total, before) as shown_progress:
            try:
                _search(strategy, header["seed"], total, crew, records, shown_progress)
            except KeyboardInterrupt:
                raise KeyboardInterrupt(
                    f"{records.path} holds {len(records.lines)} trials; the same call continues from there"
                ) from None
            finally:
                crew.close()
        lines = [records.lines[trial] for trial in range(total)]
        best = best_line(lines, records.path)
        return Result(
            best["value"],
            best.get("params"),
            best["trial"],
            trial_seed(header["seed"], best["trial"]),
            best["seconds"],
            best,
            dict(Counter(line["status"] for line in lines)),
            records.path,
            strategy.best(best),
        )


def _search(strategy: Strategy, seed: int, total: int, crew: Crew, log: Log, progress: Progress) -> None:
    """Run the trials that are not in the log, and tell the strategy of all."""
    batch, lag = strategy.batch, strategy.lag
    first = told = running = 0
    strategy.start(seed)
    while first < total or running:
        needed = max(0, min(total, first - lag))
        while first < total and all(trial in log.lines for trial in range(told, needed)):
            numbers = range(first, first + batch)
            logged = first in log.lines  # whole batches only
            if not (logged or crew.free):
                break
            for trial in range(told, needed):
                strategy.tell(log.lines[trial])
            told = max(told, needed)
            lines = [_proposed(strategy, trial) for trial in numbers]
            if logged:
                for line in lines:
                    _check_proposal(log, line)
            else:
                crew.start(
                    Task(tuple(lines), tuple(trial_seed(seed, trial) for trial in numbers), _copy(strategy, crew))
                )
                running += 1
            first += batch
            needed = max(0, min(total, first - lag))
        if running:
            for ended in crew.wait():
                running -= 1
                log.append(ended)
                progress.update(ended)
    for trial in range(told, total):
        strategy.tell(log.lines[trial])


def _copy(strategy: Strategy, crew: Crew) -> bytes | Strategy:
    """The strategy as it is now, before it is told more."""
    blob = pickled(strategy, crew.where)
    if blob is not None:
        return blob
    if not isinstance(crew, InThisProcess):
        raise InputError(
            f"strategy: expected one that can be pickled for the workers, got {type(strategy).__name__} with what "
            "cannot. Install cloudpickle, or pass workers=0 to run all trials in this process."
        )
    return strategy


def _proposed(strategy: Strategy, trial: int) -> dict[str, Any]:
    """The beginning of a trial's line, as it will be read from the log."""
    proposed = strategy.propose(trial)
    try:
        line: dict[str, Any] = json.loads(json.dumps({"trial": trial, **proposed}, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"strategy: expected proposals that JSON can hold, got {shown(proposed)} ({cut(error)}). Correct what its "
            "propose() returns."
        ) from None
    if not {"params", "genome"} & line.keys():
        raise InputError(
            f"strategy: expected proposals with params or a genome, got {shown(proposed)}. Correct what its propose() "
            "returns."
        )
    return line


def _check_proposal(log: Log, line: dict[str, Any]) -> None:
    """Raise unless the log's trial is the one that the strategy proposes now.

    A strategy that uses another package may propose something else with another version of it, and a search that goes
    on with a mixture could not be repeated by anybody. What evaluating a trial may have changed is not compared.
    """
    logged, proposed = log.lines[line["trial"]], line.get("params")
    found = logged.get("proposed_params", logged.get("params"))
    if not same(found, proposed):
        raise InputError(
            f"{log.path}: expected trial {line['trial']} with params {shown(found)}, as in the log, got "
            f"{shown(proposed)} from the strategy. Continue with the versions of packages and with the sampler that "
            "the search began with, or choose another log."
        )


def _crew(
    objective: Any, strategy: Strategy, total: int, executor: Executor | None, timeout: Any, workers: Any
) -> Crew:
    """Where the trials run."""
    remedy = "Choose a number of processes, or 0 for this process."
    number = None if workers is None else check_whole("workers", workers, 0, remedy, error=InputError)
    if timeout is not None:
        expected = "None or a number of seconds above 0"
        timeout = check_number("timeout", timeout, expected, "Choose one.", InputError)
        if timeout <= 0:
            raise InputError(f"timeout: expected {expected}, got {shown(timeout)}. Choose one.")
        if executor is not None or number == 0:
            where = "an executor" if executor is not None else "workers=0"
            raise InputError(
                f"timeout: expected None with {where}, got {shown(timeout)}. Only processes of freewire's own can be "
                "killed: use executor=None and at least one worker, or let the objective end itself."
            )
    if executor is not None:
        return InExecutor(executor, objective, number)
    if number == 0:
        return InThisProcess(objective)
    cores = available_cores()
    at_once = min(number or cores, total // strategy.batch, strategy.lag // strategy.batch + 1)
    return Processes(objective, at_once, max(1, cores // at_once), timeout)

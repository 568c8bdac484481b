# SPDX-License-Identifier: MIT
"""The comparison of a wiring with null models: do networks of it train to better scores than networks of theirs?"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future
from typing import Any

from freewire.errors import InputError, shown
from freewire.graph import Graph
from freewire.graph.arguments import check_ordered, whole
from freewire.studies.comparison_results import Comparison
from freewire.studies.sign_flips import sign_flip_test

__all__ = ["Train", "compare"]

#: (wiring, seed) -> score, higher is better
Train = Callable[[Graph, int], Any]


def compare(
    graph: Graph,
    nulls: Iterable[Graph],
    train: Train,
    seeds: int | Iterable[int],
    executor: Executor | None = None,
) -> Comparison:
    """Test whether a wiring does better than its null models, or whether any wiring with their statistics would do.

    The wiring and every null model are trained at every seed. Each seed yields one difference: the wiring's score minus
    the mean of the null models' scores. The means over seeds are compared by a two-sided `sign_flip_test` of the
    differences.

    **The null hypothesis**: at each seed the difference is as probable as its negative. That holds if all wirings are
    equally good, with one null model exactly, as then the two scores could be swapped; with several as far as scores
    scatter evenly about their mean. The test says whether the wiring beats *these* null models over the seeds of
    training. Whether it beats the kind of graph that they were drawn from is a question to many null models:
    `Comparison.rank`, the wiring's place among them, answers it.

    Args:
        graph: The wiring.
        nulls: Graphs to compare it with, at least one, such as `null_models` draws.
        train: ``train(graph, seed)`` trains one network and returns its score on data that it was not trained on;
            higher is better. The seed decides initial weights, order of the data and all else that is random, so that
            wirings differ as little as possible at one seed.
        seeds: The seeds, different integers, at least two; or how many: ``n`` stands for 0 to n - 1. With fewer than 6
            no result has a p-value below 0.05.
        executor: Any ``concurrent.futures.Executor`` to train in. A process pool needs a ``train`` that can be pickled.
            Default: one after the other, in this process.

    Returns:
        Scores, differences, test and effect sizes; ``print`` shows a table, and `Comparison.plot` a picture.

    Raises:
        InputError: An argument is something else, or a score is not a finite number; the error names wiring and seed.

    Example:
        >>> import freewire as fw
        >>> graph = fw.generators.mlp([4, 8, 2])
        >>> nulls = fw.studies.null_models(graph, "erdos_renyi", 3, seed=0)
        >>> study = fw.studies.compare(graph, nulls, lambda graph, seed: -graph.depth + 0.1 * seed, seeds=6)
        >>> study.mean_difference > 0, study.test.p_value
        (True, 0.03125)
    """
    wirings = [graph, *_read_nulls(graph, nulls)]
    if not callable(train):
        raise InputError(f"train: expected a function (graph, seed) -> score, got {shown(train)}. Pass one.")
    if executor is not None and not isinstance(executor, Executor):
        raise InputError(
            f"executor: expected a concurrent.futures.Executor or None, got {type(executor).__name__}. Pass a "
            "ProcessPoolExecutor, for instance."
        )
    numbers = _read_seeds(seeds)
    runs = [(wiring, seed) for seed in range(len(numbers)) for wiring in range(len(wirings))]
    found = _train_all(wirings, numbers, runs, train, executor)
    scores = [[0.0] * len(numbers) for _ in wirings]
    for (wiring, seed), score in zip(runs, found, strict=True):
        scores[wiring][seed] = score
    own, *others = (tuple(each) for each in scores)
    differences = tuple(
        score - math.fsum(each[i] for each in others) / len(others) for i, score in enumerate(own)
    )  # one per seed
    return Comparison(tuple(numbers), own, tuple(others), differences, sign_flip_test(differences))


def _read_nulls(graph: Any, nulls: Any) -> list[Graph]:
    if not isinstance(graph, Graph):
        raise InputError(f"graph: expected a Graph, got {type(graph).__name__}. Convert it with Graph.from_networkx.")
    if isinstance(nulls, Graph) or not isinstance(nulls, Iterable):
        raise InputError(f"nulls: expected a list of Graphs, got {type(nulls).__name__}. Put it into a list.")
    check_ordered(nulls, "nulls", InputError)
    found = list(nulls)
    if not found:
        raise InputError("nulls: expected at least one Graph, got none. Draw some with fw.studies.null_models.")
    for null in found:
        if not isinstance(null, Graph):
            raise InputError(f"nulls: expected Graphs, got {type(null).__name__}. Draw them with null_models.")
    return found


def _read_seeds(seeds: Any) -> list[int]:
    number = whole(seeds)
    if number is not None:
        seeds = range(number)
    if isinstance(seeds, str | bytes) or not isinstance(seeds, Iterable):
        raise InputError(f"seeds: expected a list of integers or their number, got {shown(seeds)}. Pass 10, say.")
    check_ordered(seeds, "seeds", InputError)
    found = []
    for seed in seeds:
        number = whole(seed)
        if number is None:
            raise InputError(f"seeds: expected integers, got {shown(seed)}. Pass 10, say, for 0 to 9.")
        found.append(number)
    if len(found) < 2:
        raise InputError(f"seeds: expected at least 2, got {len(found)}. With fewer than 6 no p-value is below 0.05.")
    if len(set(found)) < len(found):
        raise InputError(
            f"seeds: expected different integers, got {len(found) - len(set(found))} repeated. A repeated one is no "
            "further evidence: remove it."
        )
    return found


def _train_all(
    wirings: Sequence[Graph],
    seeds: Sequence[int],
    runs: Sequence[tuple[int, int]],
    train: Train,
    executor: Executor | None,
) -> list[float]:
    """The score of each run, a pair of indices (wiring, seed)."""
    if executor is None:
        return [_read_score(train(wirings[i], seeds[j]), i, seeds[j]) for i, j in runs]
    futures: list[Future[Any]] = []
    try:
        futures += (executor.submit(train, wirings[i], seeds[j]) for i, j in runs)
        return [_read_score(future.result(), i, seeds[j]) for future, (i, j) in zip(futures, runs, strict=True)]
    finally:  # what has not begun when one fails
        for future in futures:
            future.cancel()


def _read_score(result: Any, wiring: int, seed: int) -> float:
    try:
        score = float(result)
    except (TypeError, ValueError, RuntimeError):
        score = math.nan
    if math.isfinite(score):
        return score
    which = f"null model {wiring - 1}" if wiring else "the graph"
    raise InputError(
        f"train: expected a finite number as score, got {shown(result)} for {which} at seed {seed}. Return what a "
        "network that fails is worth, such as the score of a guess."
    )

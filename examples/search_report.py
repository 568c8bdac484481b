# SPDX-License-Identifier: MIT
"""Tables of a wiring search: its families of graphs, and what was left of the winner's lead after retraining.

Lines of logs come in, text goes out. What is the same for any search is in `fw.search.report`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from search_trial import FAMILIES, wiring_name

import freewire as fw

MEASURES = ("edges", "depth", "clustering", "path_length")

#: A line of a search's log, and those of its retraining.
Retrained = tuple[Mapping[str, Any], Sequence[Mapping[str, Any]]]


def tables(report: fw.search.SearchReport) -> str:
    """Means and rank correlations of each family of graphs, and the range of costs.

    Args:
        report: The report of a search of which at least one trial has finished.
    """
    families = {
        family: fw.search.report([line for line in report.lines if line["params"]["family"] == family])
        for family in FAMILIES
    }
    groups = {name: group for name, group in {**families, "all": report}.items() if group.ranked}
    lines = [f"{'means':<20} trials  edges  depth  clustering  path length  validation (standard deviation)"]
    for name, group in groups.items():
        edges, depth, clustering, path = (mean(line["graph"][key] for line in group.ranked) for key in MEASURES)
        values = [line["value"] for line in group.ranked]
        accuracy = f"{mean(values):11.1%} ({spread(values)})"
        lines.append(f"{name:<20} {len(values):6} {edges:6.1f} {depth:6.1f} {clustering:11.3f} {path:12.3f} {accuracy}")
    lines += ["", f"{'rank correlation':<20} trials  edges  depth  clustering  path length   with validation accuracy"]
    for name, group in groups.items():
        edges, depth, clustering, path = (_signed(group.correlations.get(key)) for key in MEASURES)
        lines.append(f"{name:<20} {len(group.ranked):6} {edges:>6} {depth:>6} {clustering:>11} {path:>12}")
    weights = sorted(line["weights"] for line in report.ranked)
    costs = sorted(line["multiply_adds"] for line in report.ranked)
    cost = f"{weights[0]:,} to {weights[-1]:,} weights, {costs[0]:,} to {costs[-1]:,} multiply-adds per image."
    return "\n".join([*lines, "", f"Cost: {cost}"])


def comparison(winner: Retrained, median: Retrained) -> str:
    """Compare the winner with the candidate in the middle of the ranking: in the search, and after retraining.

    Args:
        winner: The winner's line in the search, and the lines of its retraining.
        median: The same of the other.
    """
    lines = [f"{'retrained':<44} seen in the search  validation            test"]
    for title, (line, repeats) in (("winner", winner), ("median", median)):
        finished = [repeat for repeat in repeats if repeat["status"] == "finished"]
        label = f"{title}: {wiring_name(line['params'])}, trial {line['trial']}"
        means = (
            f"{mean(r[key] for r in finished):6.1%} ({spread([r[key] for r in finished])})" if finished else "failed"
            for key in ("value", "test")
        )
        lines.append(f"{label:<44} {line['value']:18.1%}  {'  '.join(f'{text:<20}' for text in means)}".rstrip())
    repeats = len(winner[1])
    lines.append(f"Means and standard deviations over {repeats} seeds of weights and batches, with one wiring each.")
    return "\n".join(lines)


def spread(accuracies: Sequence[float]) -> str:
    """The standard deviation in percentage points."""
    return f"± {100 * stdev(accuracies):.1f} points" if len(accuracies) > 1 else "one only"


def _signed(correlation: float | None) -> str:
    return "-" if correlation is None or math.isnan(correlation) else f"{correlation:+.2f}"

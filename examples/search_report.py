# SPDX-License-Identifier: MIT
"""Report a wiring search: tables as text, and a PNG of accuracy against two statistics of the wiring.

Results are dictionaries, as the log holds them. Figures are drawn without matplotlib's global state and without a
window.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray
from search_trial import FAMILIES

Results = Sequence[dict[str, Any]]

#: Full name, colour and marker by family, in colours that are distinct to the colour-blind (Okabe and Ito).
LOOKS = {
    "ER": ("Erdős-Rényi", "#0072b2", "o"),
    "BA": ("Barabási-Albert", "#e69f00", "s"),
    "WS": ("Watts-Strogatz", "#009e73", "^"),
}
STATISTICS = {"clustering": "clustering coefficient", "path_length": "average path length (edges, log scale)"}
BEST = 5


def ranked(results: Results) -> list[dict[str, Any]]:
    """Sort finished trials, best first: by validation accuracy, and ties by validation loss."""
    finished = [result for result in results if "failed" not in result]
    return sorted(finished, key=lambda result: (-result["validation"], result["validation_loss"], result["trial"]))


def spearman(xs: Sequence[float], ys: Sequence[float]) -> float:
    """The rank correlation of two lists of numbers; NaN if one is constant or they have fewer than three."""
    a, b = _ranks(xs), _ranks(ys)
    if len(a) < 3 or not np.ptp(a) or not np.ptp(b):
        return math.nan
    return float(np.corrcoef(a, b)[0, 1])


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks from 1 for the smallest value; equal values share the mean of their ranks."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[place]


def name(result: dict[str, Any]) -> str:
    """The wiring as text, such as ``WS(k=4, p=0.75)``."""
    return f"{result['family']}({', '.join(f'{key}={value}' for key, value in result['parameters'].items())})"


def tables(results: Results) -> str:
    """The best trials, means per family, and rank correlations."""
    order = ranked(results)
    failures = [f"Trial {r['trial']}, {name(r)}, failed: {r['failed']}" for r in results if "failed" in r]
    if not order:
        return "\n".join(["No trial has finished.", *failures])
    lines = [f"{'best':<20} trial  edges  depth  clustering  path length  weights  multiply-adds  validation"]
    lines += [
        f"{name(r):<20} {r['trial']:5} {r['edges']:6} {r['depth']:6} {r['clustering']:11.3f} {r['path_length']:12.3f} "
        f"{r['weights']:8,} {r['multiply_adds']:14,} {r['validation']:11.1%}"
        for r in order[:BEST]
    ]
    lines += ["", f"{'means':<20} trials  edges  clustering  path length  validation (standard deviation)"]
    groups = {family: [r for r in order if r["family"] == family] for family in FAMILIES} | {"all": order}
    for family, group in groups.items():
        if group:
            edges, clustering, path, accuracy = (
                mean(r[key] for r in group) for key in ("edges", "clustering", "path_length", "validation")
            )
            lines.append(
                f"{family:<20} {len(group):6} {edges:6.1f} {clustering:11.3f} {path:12.3f} {accuracy:11.1%} "
                f"({spread([r['validation'] for r in group])})"
            )
    lines += ["", f"{'rank correlation':<20} trials  clustering  path length  edges  depth   with validation accuracy"]
    for family, group in groups.items():
        rows = [_correlation(group, key) for key in ("clustering", "path_length", "edges", "depth")]
        lines.append(f"{family:<20} {len(group):6} {rows[0]:>11} {rows[1]:>12} {rows[2]:>6} {rows[3]:>6}")
    if len(order) > 2:
        lines.append(f"By chance alone, 'all' stays within ±{1.96 / math.sqrt(len(order) - 1):.2f} in 19 of 20 cases.")
    costs = sorted(r["multiply_adds"] for r in order)
    weights = sorted(r["weights"] for r in order)
    lines += [
        "",
        f"Cost: {weights[0]:,} to {weights[-1]:,} weights, {costs[0]:,} to {costs[-1]:,} multiply-adds per image.",
        *failures,
    ]
    return "\n".join(lines)


def comparison(winner: Results, median: Results) -> str:
    """Compare the winner with the median candidate: their results in the search, and after retraining.

    Args:
        winner: Results of the winner: its trial, then its repeats.
        median: Results of the candidate in the middle of the ranking, in the same order.
    """
    lines = [f"{'retrained':<40} seen in the search  validation            test"]
    for title, (trial, *repeats) in (("winner", winner), ("median", median)):
        repeats = [r for r in repeats if "failed" not in r]
        label = f"{title}: {name(trial)}, trial {trial['trial']}"
        means = (
            f"{mean(r[key] for r in repeats):6.1%} ({spread([r[key] for r in repeats])})" if repeats else "failed"
            for key in ("validation", "test")
        )
        lines.append(f"{label:<40} {trial['validation']:18.1%}  {'  '.join(f'{text:<20}' for text in means)}".rstrip())
    lines.append(
        f"Means and standard deviations over {len(winner) - 1} seeds of weights and batches, with one wiring each."
    )
    return "\n".join(lines)


def spread(accuracies: Sequence[float]) -> str:
    """The standard deviation in percentage points."""
    return f"± {100 * stdev(accuracies):.1f} points" if len(accuracies) > 1 else "one only"


def _correlation(results: Results, key: str) -> str:
    value = spearman([r[key] for r in results], [r["validation"] for r in results])
    return "-" if math.isnan(value) else f"{value:+.2f}"


def draw(results: Results, path: Path) -> None:
    """Draw validation accuracy against clustering and against path length, one point per trial.

    Args:
        results: Results of trials; failed ones are not drawn.
        path: The PNG file to write.
    """
    from matplotlib.figure import Figure  # imported here, since every worker process imports this module
    from matplotlib.ticker import FormatStrFormatter, LogLocator, PercentFormatter

    order = ranked(results)
    figure = Figure(figsize=(11, 4.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (key, label) in zip(panels, STATISTICS.items(), strict=True):
        for family, (title, colour, marker) in LOOKS.items():
            group = [r for r in order if r["family"] == family]
            x, y = [r[key] for r in group], [r["validation"] for r in group]
            axes.scatter(x, y, s=52, color=colour, marker=marker, alpha=0.8, edgecolors="white", lw=0.7, label=title)
        axes.set_xlabel(label, size=11)
        axes.set_title(f"rank correlation {_correlation(order, key)} over {len(order)} trials", size=11)
        axes.grid(alpha=0.25)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        axes.margins(0.06)
    if order:  # a logarithmic axis needs a positive number
        panels[1].set_xscale("log")  # the rings of WS(2, p) have paths three times as long as the others
        panels[1].xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 5, 6, 8)))
        panels[1].xaxis.set_major_formatter(FormatStrFormatter("%g"))
        panels[1].minorticks_off()
    panels[0].set_ylabel("validation accuracy", size=11)
    panels[0].yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=11
    )
    figure.savefig(path, dpi=130)

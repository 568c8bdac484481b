# SPDX-License-Identifier: MIT
"""Draw the results of `benchmarks.suites.scaling` and `benchmarks.suites.density` as SVG files.

Each file contains a digest of the figures that it shows (`digest`), by which a test checks that plot and JSON match.
Importing this module needs no matplotlib; drawing does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["density_plot", "digest", "scaling_plot"]

_COLOURS = {"forward": "tab:blue", "step": "tab:red"}
_LINES = {"edges": "edges", "batch": "batch size (samples)", "depth": "depth (levels)"}


def digest(content: dict[str, Any]) -> str:
    """A hexadecimal digest of the rows of results that a plot shows."""
    return hashlib.sha256(json.dumps(content["rows"], sort_keys=True).encode()).hexdigest()[:16]


def scaling_plot(content: dict[str, Any], folder: Path) -> Path:
    """Plot time, and time per edge and sample, over edges, batch and depth; return the file."""
    plt = _pyplot()
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), sharey="row", layout="constrained")
    for (line, label), (above, below) in zip(_LINES.items(), axes.T, strict=True):
        for what, threads in dict.fromkeys((row["measure"], row["threads"]) for row in content["rows"]):
            rows = sorted(
                (r for r in content["rows"] if line in r["lines"] and (r["measure"], r["threads"]) == (what, threads)),
                key=lambda row: row[line],
            )
            at = [row[line] for row in rows]
            style = {"color": _COLOURS[what], "marker": "o", "markersize": 3}
            style |= {
                "linestyle": "-" if threads > 1 else "--",
                "label": f"{what}, {threads} thread{'s' * (threads > 1)}",
            }
            above.plot(at, [row["median"] * 1e3 for row in rows], **style)
            below.plot(at, [row["ns_per_edge_sample"] for row in rows], **style)
        if line != "depth":
            _slope_one(above, content["rows"], line)
        for axis in (above, below):
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.grid(alpha=0.3)
        below.set_xlabel(label)
    axes[0, 0].set_ylabel("ms")
    axes[1, 0].set_ylabel("ns per edge and sample")
    axes[0, 2].legend(*axes[0, 0].get_legend_handles_labels(), loc="upper right", fontsize=8)  # where there is no line
    return _save(figure, folder / "scaling.svg", content)


def _slope_one(axis: Any, rows: Sequence[dict[str, Any]], line: str) -> None:
    """Draw a line of cost proportional to ``line``, through the slowest point."""
    last = max((row for row in rows if line in row["lines"]), key=lambda row: (row[line], row["median"]))
    first = min(row[line] for row in rows if line in row["lines"])
    ends = [first, last[line]]
    at = [last["median"] * 1e3 * end / last[line] for end in ends]
    axis.plot(ends, at, color="0.6", linewidth=1, zorder=0, label="slope 1")


def density_plot(content: dict[str, Any], folder: Path) -> Path:
    """Plot the times of the wired and of the dense network over density, one panel per network; return the file."""
    plt = _pyplot()
    networks = list(dict.fromkeys(row["network"] for row in content["rows"]))
    figure, axes = plt.subplots(1, len(networks), figsize=(5.5 * len(networks), 4), squeeze=False, layout="constrained")
    for network, axis in zip(networks, axes[0], strict=True):
        rows = [row for row in content["rows"] if row["network"] == network]
        for what in dict.fromkeys(row["measure"] for row in rows):
            for label in dict.fromkeys(row["candidate"] for row in rows):
                own = [row for row in rows if (row["measure"], row["candidate"]) == (what, label)]
                axis.plot(
                    [row["density"] * 100 for row in own],
                    [row["median"] * 1e3 for row in own],
                    color=_COLOURS[what],
                    linestyle="-" if label == "freewire" else "--",
                    marker="o",
                    markersize=3,
                    label=f"{label}, {what}",
                )
        for crossing in (c for c in content["crossovers"] if c["network"] == network):
            if crossing["density"] is not None:
                axis.axvline(crossing["density"] * 100, color=_COLOURS[crossing["measure"]], linewidth=0.8, alpha=0.6)
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.grid(alpha=0.3)
        axis.set_title(network, fontsize=10)
        axis.set_xlabel("% of the edges between layers")
    axes[0, 0].set_ylabel("ms")
    axes[0, 0].legend(fontsize=8)
    return _save(figure, folder / "density.svg", content)


def _pyplot() -> Any:
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams.update({"svg.hashsalt": "freewire", "svg.fonttype": "none"})  # the same figures give the same file
    import matplotlib.pyplot as plt

    return plt


def _save(figure: Any, path: Path, content: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None, "Creator": None, "Description": f"figures {digest(content)}"})
    _pyplot().close(figure)
    print(f"drawn to {path}")
    return path

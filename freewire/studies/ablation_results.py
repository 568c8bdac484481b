# SPDX-License-Identifier: MIT
"""The results of an ablation study: a row per silenced element, as named tuples, as text and as a picture."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from freewire.errors import InputError, cut, shown
from freewire.graph.arguments import whole
from freewire.pictures.figure import axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Ablation", "Silenced"]

_LINES = 20  # that text shows
_NAME = 32  # characters of a name that are shown
_COLOURS = {"node": "#2e86ab", "nodes": "#3b4656", "edge": "#e4572e", "edges": "#8d9bb0"}
_KINDS = {"node": "a node", "nodes": "a set of nodes", "edge": "an edge", "edges": "a set of edges"}


class Silenced(NamedTuple):
    """The network with one element silenced."""

    kind: str  #: ``"node"``, ``"edge"``, or for a set ``"nodes"`` or ``"edges"``.
    name: Hashable  #: A node's name, an edge's (source, target), or a set's label.
    members: tuple[Hashable, ...]  #: Names of the nodes, or columns of the edges in ``net.weight``.
    metric: float  #: The metric with the element silenced.
    effect: float  #: That minus the metric of the whole network.


@dataclass(frozen=True)
class Ablation:
    """The results of `ablate`.

    ``print`` shows the largest effects. Rows are named tuples: ``pandas.DataFrame(study.rows)`` is a table.

    Attributes:
        baseline: The metric of the whole network.
        count: Number of rows of the data, or the sum of the counts that the metric returned.
        rows: A row per silenced element, by the size of its effect, the largest first; NaN before all.
    """

    baseline: float
    count: float
    rows: tuple[Silenced, ...]

    def node_effects(self) -> dict[Hashable, float]:
        """The effect of each single node, by name: ``fw.plot(net, values=study.node_effects())`` colours by it."""
        return {row.name: row.effect for row in self.rows if row.kind == "node"}

    def to_dict(self) -> dict[str, Any]:
        """Everything as lists and dicts, one dict per row; JSON if the names of the nodes are."""
        return {"baseline": self.baseline, "count": self.count, "rows": [row._asdict() for row in self.rows]}

    def plot(self, most: int = 20, ax: Axes | None = None) -> Axes:
        """Draw the largest effects as bars, the largest at the top.

        Args:
            most: How many bars at most, at least 1.
            ax: Axes to draw into. Default: those of a figure of their own, as `freewire.plot` makes.

        Returns:
            The Axes: ``study.plot().figure.savefig("ablation.png")``.

        Raises:
            InputError: ``most`` is not a whole number of at least 1, or ``ax`` is not an Axes.
            BuildError: matplotlib is not installed.
        """
        number = whole(most)
        if number is None or number < 1:
            raise InputError(f"most: expected a whole number of at least 1, got {shown(most)}. Pass one.")
        drawn = self.rows[:number]
        axes = axes_for(ax, (6.5, 1.4 + 0.24 * len(drawn)))
        places = np.arange(len(drawn))
        for kind, colour in _COLOURS.items():
            chosen = [i for i, row in enumerate(drawn) if row.kind == kind]
            if chosen:
                effects = [drawn[i].effect for i in chosen]
                axes.barh(places[chosen], effects, height=0.7, color=colour, label=_KINDS[kind], zorder=2)
        axes.set_yticks(places, [_shown(row) for row in drawn], fontsize="small")
        axes.set_ylim(len(drawn) - 0.4, -0.6)
        axes.axvline(0, color="#8d9bb0", linewidth=0.8, zorder=3)
        axes.grid(axis="x", alpha=0.25)
        axes.tick_params(axis="y", length=0)
        axes.spines[["top", "right", "left"]].set_visible(False)
        part = "" if len(drawn) == len(self.rows) else f", the largest {len(drawn)} of {len(self.rows):,}"
        axes.set_xlabel(f"effect on the metric, {self.baseline:.4g} with nothing silenced")
        axes.set_title(f"Effect of silencing{part}", fontsize="medium")
        if len({row.kind for row in drawn}) > 1:
            axes.legend(frameon=False, fontsize="small")
        return axes

    def __str__(self) -> str:
        lines = [f"metric {self.baseline:.6g} on {self.count:g}; with each silenced, the largest effects first"]
        lines += [
            f"{row.kind:5} {_shown(row):{_NAME}} {row.metric:12.6g} {row.effect:+12.4g}" for row in self.rows[:_LINES]
        ]
        if len(self.rows) > _LINES:
            lines.append(f"and {len(self.rows) - _LINES:,} more")
        return "\n".join(lines)


def _shown(row: Silenced) -> str:
    if row.kind == "edge" and isinstance(row.name, tuple):
        source, target = row.name
        return f"{cut(source, _NAME // 2 - 2)} -> {cut(target, _NAME // 2 - 2)}"
    return cut(row.name, _NAME)

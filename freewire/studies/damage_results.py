# SPDX-License-Identifier: MIT
"""The results of a damage study: a row per node and per edge, as named tuples, as text and as a picture."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from freewire.studies.damage_plot import PERCENT, Panel, draw_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Damage", "EdgeDamage", "NodeDamage"]


class NodeDamage(NamedTuple):
    """The network without one node."""

    stage: str  #: Name of the stage, as in ``named_modules``.
    node: Hashable  #: Name of the node in the stage's graph.
    in_degree: int
    out_degree: int
    accuracy: float  #: Accuracy of the damaged network, a fraction.
    accuracy_drop: float  #: Accuracy of the whole network minus that, a fraction.


class EdgeDamage(NamedTuple):
    """The network without one edge."""

    stage: str  #: Name of the stage, as in ``named_modules``.
    edge: int  #: Place of the edge in the stage's ``weight``.
    source: Hashable  #: Name of the node it comes from.
    target: Hashable  #: Name of the node it goes to.
    target_in_degree: int
    accuracy: float  #: Accuracy of the damaged network, a fraction.
    accuracy_drop: float  #: Accuracy of the whole network minus that, a fraction.


@dataclass(frozen=True)
class Damage:
    """The results of `damage`.

    ``print`` shows the mean accuracy drops. Rows are named tuples: ``pandas.DataFrame(study.nodes)`` is a table.

    Attributes:
        baseline: Accuracy of the whole network, a fraction.
        count: Number of images.
        nodes: A row per node, stage by stage in the order of ``graph.nodes``.
        edges: A row per edge, stage by stage in the order of ``weight``.
    """

    baseline: float
    count: float
    nodes: tuple[NodeDamage, ...]
    edges: tuple[EdgeDamage, ...]

    def accuracy_drops_by_out_degree(self) -> dict[int, list[float]]:
        """Group nodes by out-degree: degree, ascending -> the accuracy drops without each such node, fractions."""
        return _grouped((row.out_degree, row.accuracy_drop) for row in self.nodes)

    def accuracy_drops_by_target_in_degree(self) -> dict[int, list[float]]:
        """Group edges by their target's in-degree: degree, ascending -> the accuracy drops without each, fractions."""
        return _grouped((row.target_in_degree, row.accuracy_drop) for row in self.edges)

    def to_dict(self) -> dict[str, Any]:
        """Everything as lists and dicts, one dict per row; JSON if the names of the nodes are."""
        rows = {"nodes": [row._asdict() for row in self.nodes], "edges": [row._asdict() for row in self.edges]}
        return {"baseline": self.baseline, "count": self.count, **rows}

    def plot(self) -> Figure:
        """Draw the paper's two plots: accuracy drop by a node's out-degree, and by the in-degree of an edge's target.

        A dot is one damaged network; a box holds the middle half of those of one degree, its bar is their median, and
        the diamond their mean. The scale is linear up to one percentage point and logarithmic above, since a few drops
        are many times larger than all others. A plot without rows is omitted.

        Returns:
            A matplotlib ``Figure`` that belongs to no window: ``figure.savefig("damage.png")``.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        nodes = Panel(self.accuracy_drops_by_out_degree(), "without one node", "out-degree of the node", "#2e86ab")
        edges = Panel(
            self.accuracy_drops_by_target_in_degree(), "without one edge", "in-degree of the edge's target", "#e4572e"
        )
        return draw_panels([panel for panel in (nodes, edges) if panel.drops])

    def __str__(self) -> str:
        lines = [
            f"accuracy {self.baseline:.2%} on {self.count:g} images; accuracy drop in percentage points, mean (worst)"
        ]
        for drops, without in (
            (self.accuracy_drops_by_out_degree(), "without a node of out-degree"),
            (self.accuracy_drops_by_target_in_degree(), "without an edge to a node of in-degree"),
        ):
            for degree, each in drops.items():
                mean, worst = PERCENT * sum(each) / len(each), PERCENT * max(each)
                lines.append(f"{without:38} {degree:3}: {mean:6.2f} ({worst:.2f}), {len(each)} of them")
        return "\n".join(lines)


def _grouped(pairs: Iterable[tuple[int, float]]) -> dict[int, list[float]]:
    groups = defaultdict(list)
    for degree, drop in pairs:
        groups[degree].append(drop)
    return dict(sorted(groups.items()))

# SPDX-License-Identifier: MIT
"""The results of a comparison with null models: scores, test and effect sizes, as text and as a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from freewire.pictures.figure import axes_for
from freewire.studies.sign_flips import SignFlips, pairs_needed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Comparison", "Scores"]

_LINES = 12  # null models that text shows
_LEVEL = 0.05  # the p-value that papers ask for; only to say where it is out of reach
_DARK, _MUTED, _BLUE, _ORANGE = "#3b4656", "#8d9bb0", "#2e86ab", "#e4572e"


class Scores(NamedTuple):
    """The scores of one wiring."""

    wiring: str  #: ``"graph"``, or ``"null model 0"`` and so on.
    mean: float
    std: float  #: Standard deviation over seeds, with n - 1.
    mean_difference: float  #: The graph's mean minus this one.
    graph_better: int  #: Number of seeds at which the graph's score is higher.


@dataclass(frozen=True)
class Comparison:
    """The results of `compare`.

    Attributes:
        seeds: The seeds ``[S]``.
        graph_scores: The wiring's score at each seed ``[S]``.
        null_scores: Each null model's score at each seed ``[K][S]``.
        differences: The wiring's score minus the mean of the null models' scores, at each seed ``[S]``.
        test: The two-sided sign-flip test of the differences; its ``p_value``, and whether it is exact.
    """

    seeds: tuple[int, ...]
    graph_scores: tuple[float, ...]
    null_scores: tuple[tuple[float, ...], ...]
    differences: tuple[float, ...]
    test: SignFlips

    @property
    def mean_difference(self) -> float:
        """Mean of the differences, in units of the score: above 0 the wiring is better than the mean null model."""
        return math.fsum(self.differences) / len(self.differences)

    @property
    def cohen_d(self) -> float:
        """The mean difference in standard deviations of the differences: Cohen's d of paired samples.

        Infinite where all differences are equal, and 0 where all are 0.
        """
        std = float(np.std(self.differences, ddof=1))
        if std > 1e-12 * abs(self.mean_difference):
            return self.mean_difference / std
        return math.copysign(math.inf, self.mean_difference) if self.mean_difference else 0.0

    @property
    def win_rate(self) -> float:
        """The share of pairs (null model, seed) in which the wiring's score is higher; equal scores count half."""
        difference = np.array(self.graph_scores) - np.array(self.null_scores)
        return float(((difference > 0) + 0.5 * (difference == 0)).mean())

    @property
    def rank(self) -> int:
        """The wiring's place by mean score among itself and the null models, 1 the best; equal ones count as better.

        A wiring that is drawn in the same way as K null models has rank r or better with probability r / (K + 1) at
        most.
        """
        own = math.fsum(self.graph_scores)
        return 1 + sum(math.fsum(scores) >= own for scores in self.null_scores)

    def rows(self) -> list[Scores]:
        """The scores of each wiring, the graph first; ``pandas.DataFrame(study.rows())`` is a table."""
        own = np.array(self.graph_scores)
        named = [("graph", own), *((f"null model {i}", np.array(each)) for i, each in enumerate(self.null_scores))]
        return [
            Scores(
                name,
                float(scores.mean()),
                float(scores.std(ddof=1)),
                float((own - scores).mean()),
                int((own > scores).sum()),
            )
            for name, scores in named
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything as lists, numbers and dicts, for JSON."""
        return {
            "seeds": list(self.seeds),
            "graph_scores": list(self.graph_scores),
            "null_scores": [list(each) for each in self.null_scores],
            "differences": list(self.differences),
            "mean_difference": self.mean_difference,
            "cohen_d": self.cohen_d,
            "win_rate": self.win_rate,
            "rank": self.rank,
            "test": self.test._asdict(),
        }

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw a line per seed, from the wiring's score to the mean of the null models' at that seed.

        Grey dots are the scores of each of several null models at each seed. Lines are blue where the wiring is better,
        orange where the null models are, grey where they are equal; bars are the means over seeds.

        Args:
            ax: Axes to draw into. Default: those of a figure of their own, as `freewire.plot` makes.

        Returns:
            The Axes: ``study.plot().figure.savefig("comparison.png")``.

        Raises:
            InputError: ``ax`` is not an Axes.
            BuildError: matplotlib is not installed.
        """
        axes = axes_for(ax, (5.6, 4.4))
        own, nulls = np.array(self.graph_scores), np.array(self.null_scores)
        means = own - np.array(self.differences)
        if len(nulls) > 1:
            aside = 1.12 + 0.16 * ((np.arange(nulls.size) * 0.618034) % 1)  # or dots would hide each other
            label = "each null model at each seed"
            axes.scatter(aside, nulls.ravel(), s=9, color=_MUTED, alpha=0.5, linewidths=0, zorder=1, label=label)
            axes.legend(frameon=False, fontsize="small")
        for difference, score, mean in zip(self.differences, own, means, strict=True):
            colour = _BLUE if difference > 0 else _ORANGE if difference < 0 else _MUTED
            axes.plot((0, 1), (score, mean), color=colour, marker="o", markersize=4, linewidth=1.2, alpha=0.8, zorder=2)
        for x, scores in ((0, own), (1, means)):
            axes.plot((x - 0.09, x + 0.09), [scores.mean()] * 2, color=_DARK, linewidth=3, zorder=3)
        count = len(nulls)
        axes.set_xticks((0, 1), ("the wiring", f"mean of {count} null models" if count > 1 else "the null model"))
        axes.set_xlim(-0.35, 1.45)
        axes.set_ylabel("score")
        axes.grid(axis="y", alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(
            f"difference {self.mean_difference:+.3g} over {len(self.seeds)} seeds, d = {self.cohen_d:.2f}, "
            f"p = {self.test.p_value:.2g}",
            fontsize="medium",
        )
        return axes

    def __str__(self) -> str:
        rows = self.rows()
        lines = [f"{'':16}{'mean':>12}{'std':>12}{'difference':>12}  graph better"]
        for row in rows[: 1 + _LINES]:
            line = f"{row.wiring:16}{row.mean:12.6g}{row.std:12.4g}"
            if row is not rows[0]:
                line += f"{row.mean_difference:+12.4g}  at {row.graph_better} of {len(self.seeds)} seeds"
            lines.append(line)
        if len(rows) > 1 + _LINES:
            lines.append(f"and {len(rows) - 1 - _LINES:,} more")
        how = f"all {self.test.patterns:,} patterns" if self.test.exact else f"{self.test.patterns:,} patterns drawn"
        lines += [
            f"difference to the mean of the null models {self.mean_difference:+.4g}, Cohen's d {self.cohen_d:.2f}",
            f"better in {self.win_rate:.0%} of {len(self.null_scores) * len(self.seeds):,} pairs of a null model and a "
            f"seed; rank {self.rank} of {len(rows)} by mean score",
            f"two-sided sign-flip test over {len(self.seeds)} seeds, {how}: p = {self.test.p_value:.4g}",
        ]
        if self.test.smallest_p_value > _LEVEL:
            lines.append(
                f"with {len(self.seeds)} seeds p cannot be below {self.test.smallest_p_value:g}; "
                f"{_LEVEL:g} takes at least {pairs_needed(_LEVEL)} seeds"
            )
        return "\n".join(lines)

# SPDX-License-Identifier: MIT
"""The packed plans of a population's members in one array, of which members can be replaced one by one. No torch.

A member's plan is anywhere in the array; a table says where. So a new member costs no more than its own plan: it goes
where a plan at least as long was, or to the end of the array, which has some room to spare.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from freewire._native.planner import planner
from freewire.graph import ACTIVATIONS, Graph
from freewire.graph.fields import PREACTIVATION_KEPT
from freewire.plan.packed import SIZE_WORDS
from freewire.plan.plan import ROW_BYTES

__all__ = ["MemberPlans", "pack_members"]

IntArray = NDArray[np.int64]

_SIZES = np.array(list(SIZE_WORDS.values()))
_EDGES, _BIASES, _TAPE_ROWS = (list(SIZE_WORDS).index(name) for name in ("num_edges", "num_biases", "tape_rows"))
_KEEPS = np.isin(ACTIVATIONS, PREACTIVATION_KEPT)
# Room to spare in a new array, as a share of what it holds.
_SPARE = 0.125
# Graphs that are planned at once, since all of their plans are in memory twice meanwhile.
_AT_ONCE = 512
# The most of the array that may be gaps.
_MOST_GAPS = 0.25


class MemberPlans:
    """The plans of P members.

    Args:
        graphs: Graphs without delays.

    Attributes:
        words: Packed plans, each as `Plan.pack` makes it, int64; with gaps.
        first: First word of each plan, int64 ``[P]``.
        sizes: The sizes of each plan, in the order of csrc/plan_layout.h, int64 ``[P, sizes]``.
    """

    def __init__(self, graphs: Sequence[Graph]) -> None:
        self.words = np.empty(0, np.int64)
        self._end = 0
        self._gaps: list[tuple[int, int]] = []  # (words, first word)
        self.first = np.empty(len(graphs), np.int64)
        for begin in range(0, len(graphs), _AT_ONCE):
            packed, starts = pack_members(graphs[begin : begin + _AT_ONCE])
            done = begin + len(starts) - 1
            self.first[begin:done] = self._end + starts[:-1]
            end = self._end + len(packed)
            if end > len(self.words):
                self._grow(end * len(graphs) // done)  # the rest is probably alike
            self.words[self._end : end] = packed
            self._end = end
        self.sizes = self._read_sizes(self.first)

    def _grow(self, needed: int) -> None:
        grown = np.empty(_with_spare(needed), np.int64)
        grown[: self._end] = self.words[: self._end]
        self.words = grown

    def _read_sizes(self, first: IntArray) -> IntArray:
        return self.words[first[:, None] + _SIZES]

    @property
    def lengths(self) -> IntArray:
        """Words of each plan."""
        return self.words[self.first + 1]

    @property
    def num_edges(self) -> IntArray:
        """Edges of each member, int64 ``[P]``."""
        return self.sizes[:, _EDGES]

    @property
    def num_biases(self) -> IntArray:
        """Computed nodes of each member, int64 ``[P]``."""
        return self.sizes[:, _BIASES]

    def table(self) -> IntArray:
        """What kernels read of each member, int64 ``[P, 4]``: first word, first weight, first bias, first tape row."""
        counts = self.sizes[:, [_EDGES, _BIASES, _TAPE_ROWS]]
        return np.ascontiguousarray(np.column_stack((self.first, np.cumsum(counts, axis=0) - counts)))

    def limits(self) -> tuple[int, ...]:
        """P, the tape rows of all members, the largest of each size, and the edges and biases of all members."""
        rows, edges, biases = (int(self.sizes[:, column].sum()) for column in (_TAPE_ROWS, _EDGES, _BIASES))
        return len(self.first), rows, *self.sizes.max(axis=0).tolist(), edges, biases

    def replace(self, replaced: Sequence[int], removed: Sequence[int], plans: tuple[IntArray, IntArray]) -> None:
        """Replace members, remove some, and add some at the end.

        Args:
            replaced: Members whose plans come first in ``plans``; those of added members follow.
            removed: Members to remove, after that.
            plans: What `pack_members` returned.
        """
        packed, starts = plans
        freed = np.array([*replaced, *removed], np.int64)
        self._gaps += zip(self.lengths[freed].tolist(), self.first[freed].tolist(), strict=True)
        places = self._places(np.diff(starts))
        for place, begin, end in zip(places.tolist(), starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            self.words[place : place + end - begin] = packed[begin:end]
        self.first = np.concatenate((self.first, places[len(replaced) :]))
        self.sizes = np.concatenate((self.sizes, self._read_sizes(places[len(replaced) :])))
        self.first[np.asarray(replaced, np.int64)] = places[: len(replaced)]
        self.sizes[np.asarray(replaced, np.int64)] = self._read_sizes(places[: len(replaced)])
        if removed:
            self.first = np.delete(self.first, np.asarray(removed, np.int64))
            self.sizes = np.delete(self.sizes, np.asarray(removed, np.int64), axis=0)
        if self._end - int(self.lengths.sum()) > _MOST_GAPS * self._end:
            self._close_gaps()

    def _close_gaps(self) -> None:
        lengths = self.lengths
        ends = np.cumsum(lengths)
        self._end = int(ends[-1]) if len(ends) else 0
        words = np.empty(_with_spare(self._end), np.int64)
        for first, length, end in zip(self.first.tolist(), lengths.tolist(), ends.tolist(), strict=True):
            words[end - length : end] = self.words[first : first + length]
        self.words, self.first, self._gaps = words, ends - lengths, []

    def _places(self, lengths: IntArray) -> IntArray:
        """Where plans of those lengths go: from the shortest on, each into the shortest gap that holds it."""
        places = np.empty(len(lengths), np.int64)
        gaps, kept = sorted(self._gaps), []
        at = iter(gaps)
        missing = []
        for i in np.argsort(lengths, kind="stable").tolist():
            for words, first in at:
                if words >= lengths[i]:
                    places[i] = first
                    break
                kept.append((words, first))
            else:
                missing.append(i)
        self._gaps = [*kept, *at]
        needed = self._end + int(lengths[missing].sum())
        if needed > len(self.words):
            self._grow(needed)
        for i in missing:
            places[i] = self._end
            self._end += int(lengths[i])
        return places


def pack_members(graphs: Sequence[Graph]) -> tuple[IntArray, IntArray]:
    """Packed plans one after the other, and where each begins, int64 ``[P + 1]``."""
    arrays = [(g.edge_index, g.level, g.input_index, g.output_index, g.activation, g.aggregation) for g in graphs]
    return planner.pack_members(arrays, _KEEPS, ROW_BYTES)


def _with_spare(words: int) -> int:
    return words + int(words * _SPARE)

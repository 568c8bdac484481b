# SPDX-License-Identifier: MIT
"""The roofline: the shortest time that a network's arithmetic and reads can take on a machine whose peaks are known.

`roofline` returns it for a plan, a batch and a measure. It is counted like this, in float32:

- FLOPs: 2 per edge and 1 per computed node and sample in a forward; a step has three times as many, since its backward
  has two products per edge.
- Rows: a forward reads one row per edge, 4 bytes per sample. A step reads two: its backward keeps the row of one end of
  an edge in registers and reads that of the other. Rows of edges in dense blocks are not counted, since a blocked
  product reads each of them for many edges.
- Lists: a forward reads each edge's weight and index, 8 bytes, once per tile of samples. A step's backward reads them
  too and writes a gradient, 12 bytes more. Edges in dense blocks have no index; their weights, and in a step their
  gradients, are read or written once per call.

Rows are read at random from the nearest cache that holds the tape of one tile, lists in order from the nearest that
holds them beside the tape. The limit is the longer of FLOPs at the peak and of both reads, at the tile width that makes
it shortest. Reads of x and writes of values are not counted, and a row of less than 64 bytes costs a whole cache line,
so that the limit of small batches is out of reach.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from benchmarks.harness.peaks import Peaks

__all__ = ["Countable", "Roofline", "Work", "count", "roofline"]

_WIDTHS = (64, 32, 16)  # samples per tile, in rows of 256 to 64 bytes
_NUMBER = 4  # bytes


class Countable(Protocol):
    """What is read of a `freewire.plan.Plan`."""

    @property
    def num_slots(self) -> int:
        """Rows of the tape of a step."""

    @property
    def scratch_rows(self) -> int:
        """Rows of the tape of a forward without gradients."""

    @property
    def num_live_edges(self) -> int:
        """Edges that are computed."""

    @property
    def dense_share(self) -> float:
        """The share of them in dense blocks."""

    @property
    def flops(self) -> int:
        """Floating-point operations of a forward per sample."""


@dataclass(frozen=True)
class Work:
    """What one call computes and reads with tiles of some width."""

    flops: int
    #: Bytes of rows and of lists that all tiles together read.
    rows: int
    lists: int
    #: Bytes of the tape of one tile, and of lists and tape together.
    tape: int
    held: int


@dataclass(frozen=True)
class Roofline:
    """The shortest time of a call."""

    flops: int
    #: Bytes of rows and of lists.
    bytes: int
    #: Samples per tile that it assumes.
    tile: int
    #: The level that rows are read from.
    level: str
    #: Whether "FLOPs" or "bytes" take longer.
    bound: str
    seconds: float


def count(plan: Countable, batch: int, what: str, tile: int) -> Work:
    """Count what a call computes and reads.

    Args:
        plan: The network's plan.
        batch: Number of samples.
        what: "forward" or "step".
        tile: Samples per tile.
    """
    step = what == "step"
    edges = plan.num_live_edges
    dense = round(plan.dense_share * edges)
    tiles = -(-batch // tile)
    list_bytes = _NUMBER * (5 if step else 2) * (edges - dense)  # of one tile
    dense_bytes = _NUMBER * (3 if step else 1) * dense
    tape = _NUMBER * min(batch, tile) * (plan.num_slots if step else plan.scratch_rows)
    return Work(
        flops=plan.flops * batch * (3 if step else 1),
        rows=_NUMBER * batch * (edges - dense) * (2 if step else 1),
        lists=list_bytes * tiles + dense_bytes,
        tape=tape,
        held=tape + list_bytes + dense_bytes,
    )


def roofline(plan: Countable, batch: int, what: str, peaks: Peaks) -> Roofline:
    """The shortest time of a call, over the widths of tiles.

    Args:
        plan: The network's plan.
        batch: Number of samples.
        what: "forward" or "step".
        peaks: What the machine can do at most.
    """
    return min((_at(plan, batch, what, peaks, tile) for tile in _WIDTHS), key=lambda found: found.seconds)


def _at(plan: Countable, batch: int, what: str, peaks: Peaks, tile: int) -> Roofline:
    work = count(plan, batch, what, tile)
    level = peaks.level(work.tape)
    computing = work.flops / peaks.flops
    reading = work.rows / level.random + work.lists / peaks.level(work.held).in_order
    bound = "FLOPs" if computing >= reading else "bytes"
    return Roofline(work.flops, work.rows + work.lists, min(batch, tile), level.name, bound, max(computing, reading))

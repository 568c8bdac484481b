# SPDX-License-Identifier: MIT
"""The packed plan: all of a plan in one int64 array, which is the form that the kernels receive.

The compiled planner packs and reads it; csrc/plan_layout.h has the layout. No torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from freewire._native.planner import planner

__all__ = ["GIVEN", "SIZE_WORDS", "PackedPlan"]

_LAYOUT = planner.plan_layout()
#: Fields of `Plan` that are packed; the compiled planner computes the other sections from them.
GIVEN = tuple(_LAYOUT["given"])
#: Which word of a packed plan has each size.
SIZE_WORDS = {name: 2 + i for i, name in enumerate(_LAYOUT["sizes"])}


@dataclass(frozen=True, eq=False, repr=False)
class PackedPlan:
    """A plan as one array; made by `Plan.pack`, or from the words of one."""

    #: int64 [words]: the header, then the sections.
    words: NDArray[np.int64]

    def __repr__(self) -> str:
        return f"PackedPlan({len(self.words):,} words)"

    @property
    def header(self) -> tuple[int, ...]:
        """The first words, which state how long everything else is: what an operator needs in the host's memory."""
        return tuple(self.words[: _LAYOUT["header_words"]].tolist())

    @property
    def sections(self) -> dict[str, NDArray[Any]]:
        """The sections by name, in order, as views of the words.

        Raises:
            ValueError: The words are not a plan that this version of freewire packed.
        """
        return planner.sections(self.words)

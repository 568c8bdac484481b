# SPDX-License-Identifier: MIT
"""Dead and saturated units: where on its activation's curve a unit's values are.

`FLAT` is the one table of what "flat" means for each activation, in terms of a unit's value, which is what a network
returns. `Units` counts flat values per unit; values go in batch by batch, the verdict comes out once for all of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from freewire.graph import ACTIVATIONS, Graph
from freewire.nn import Network

__all__ = ["FLAT", "SATURATED_SHARE", "Flat", "UnitCounts", "Units"]

#: A unit is saturated if at least this share of its values is flat.
SATURATED_SHARE = 0.95

_NEVER = math.inf


class Flat(NamedTuple):
    """Which values of an activation are flat: from ``-inf`` or ``above`` to ``low``, and from ``high`` on.

    Flat means a derivative of 0 for activations that can die, and elsewhere one of less than a twentieth of its largest
    magnitude.

    Attributes:
        low: Values up to it are flat.
        high: Values from it on are flat.
        above: Values below it are not flat after all.
        dies: Whether the derivative is exactly 0 there, so that a unit with only flat values is dead.
        saturates: Whether a unit with many flat values is saturated.
    """

    low: float = -_NEVER
    high: float = _NEVER
    above: float = -_NEVER
    dies: bool = False
    saturates: bool = False


# gelu and silu fall and then rise, so a value slightly below 0 belongs to two pre-activations: one far below 0, where
# they are flat, and one next to 0, where they are not. Both count as flat: units whose values all are that close to 0
# are rare. The other small derivatives, around the minimum, do not count.
#: Activation -> its flat values. Those that are not named here have none.
FLAT: dict[str, Flat] = {
    "relu": Flat(low=0.0, dies=True),
    "elu": Flat(low=-0.95, saturates=True),
    "selu": Flat(low=-0.95 * 1.7580993408473766, saturates=True),
    "gelu": Flat(low=0.0, above=-0.02566, saturates=True),
    "silu": Flat(low=0.0, above=-0.0752, saturates=True),
    "softplus": Flat(low=-math.log(0.95), saturates=True),
    "sigmoid": Flat(low=(1 - math.sqrt(0.95)) / 2, high=(1 + math.sqrt(0.95)) / 2, saturates=True),
    "tanh": Flat(low=-math.sqrt(0.95), high=math.sqrt(0.95), saturates=True),
    "gaussian": Flat(low=0.0200, saturates=True),
    "step": Flat(low=0.0, dies=True),  # its derivative is 0 everywhere: a unit whose value never changes is dead
    "hard_tanh": Flat(low=-1.0, high=1.0, dies=True, saturates=True),
    "hard_sigmoid": Flat(low=0.0, high=1.0, dies=True, saturates=True),
}


class UnitCounts(NamedTuple):
    """The verdict on every node ``[N]``; False for inputs and for nodes that reach no output."""

    dead: Tensor
    saturated: Tensor


class Units:
    """Counts flat values.

    Args:
        net: The network, for its graph and for which nodes reach an output.
        device: Where the values will be.

    Attributes:
        used: Whether a node is a unit: computed, and read by an output, bool ``[N]``.
    """

    def __init__(self, net: Network, device: torch.device) -> None:
        graph = net.graph
        used = np.zeros(graph.num_nodes, np.bool_)
        used[net.plan.slot_node] = True
        used[graph.input_index] = False
        self.used = torch.from_numpy(used).to(device)
        table = [FLAT.get(name, Flat()) for name in ACTIVATIONS]
        self._low, self._high, self._above = (
            _per_node(graph, [getattr(flat, name) for flat in table], device) for name in ("low", "high", "above")
        )
        self._dies = _per_node(graph, [float(flat.dies) for flat in table], device).bool() & self.used
        self._saturates = _per_node(graph, [float(flat.saturates) for flat in table], device).bool() & self.used
        self._step = _per_node(graph, [float(name == "step") for name in ACTIVATIONS], device).bool() & self.used
        kinds = {ACTIVATIONS[code] for code in np.unique(graph.activation).tolist()} & FLAT.keys()
        self._any_high = any(FLAT[kind].high < _NEVER for kind in kinds)
        self._any_above = any(FLAT[kind].above > -_NEVER for kind in kinds)
        self._any_step, self._any = "step" in kinds, bool(kinds)

    def count(self, values: Tensor) -> Tensor:
        """How many of the values ``[rows, N]`` of each node are flat, ``[N]``."""
        if not self._any:
            return values.new_zeros(values.shape[1], dtype=torch.int32)
        flat = values <= self._low
        if self._any_above:
            flat &= values >= self._above
        if self._any_high:
            flat |= values >= self._high
        return flat.view(torch.uint8).sum(0, dtype=torch.int32)

    def verdict(self, flat: Tensor, rows: int) -> UnitCounts:
        """Which units are dead and which are saturated, if ``flat [N]`` of ``rows`` values are flat."""
        all_flat = flat == rows
        dead = all_flat & self._dies
        if self._any_step:
            dead |= (flat == 0) & self._step
        return UnitCounts(dead, (flat >= SATURATED_SHARE * rows) & self._saturates & ~dead)


def _per_node(graph: Graph, by_code: list[float], device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(by_code, np.float32)[graph.activation]).to(device)

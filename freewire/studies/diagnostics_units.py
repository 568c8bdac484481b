# SPDX-License-Identifier: MIT
"""Dead and saturated units: where on its activation's curve a unit's values are.

`FLAT` is the one table of what "flat" means for each activation, in terms of a unit's value, which is what a network
returns. `Units` counts the flat values of each unit, and concludes which units are dead and which saturated.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from freewire.graph import ACTIVATIONS
from freewire.nn import Network

__all__ = ["FLAT", "SATURATED_SHARE", "Flat", "Units", "Verdict"]

BoolArray = NDArray[np.bool_]

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
    "gaussian": Flat(low=0.00999, saturates=True),
    "step": Flat(low=0.0, dies=True),  # its derivative is 0 everywhere: a unit whose value never changes is dead
    "hard_tanh": Flat(low=-1.0, high=1.0, dies=True, saturates=True),
    "hard_sigmoid": Flat(low=0.0, high=1.0, dies=True, saturates=True),
}


class Verdict(NamedTuple):
    """What is wrong with each node of the plan, bool ``[S]``; False for inputs."""

    dead: BoolArray
    saturated: BoolArray


class Units:
    """Counts flat values of a plan's nodes: the inputs, and the units, which are computed and reach an output.

    Args:
        net: The network.
        device: Where the values will be.

    Attributes:
        node: The graph's index of each node of the plan, int64 ``[S]``, the inputs first.
        num_inputs: How many inputs there are.
    """

    def __init__(self, net: Network, device: torch.device) -> None:
        self.node, self.num_inputs = net.plan.slot_node, net.plan.num_inputs
        codes = net.graph.activation[self.node]
        is_unit = np.arange(len(self.node)) >= self.num_inputs
        table = [FLAT.get(name, Flat()) for name in ACTIVATIONS]

        def bound(values: list[float]) -> Tensor | None:
            """A bound on each node's values, or None if no node has one."""
            bounds = np.array(values, np.float32)[codes]
            return torch.from_numpy(bounds).to(device) if np.isfinite(bounds).any() else None

        self._low, self._high, self._above = (
            bound([getattr(flat, name) for flat in table]) for name in ("low", "high", "above")
        )
        self._dies = np.array([flat.dies for flat in table])[codes] & is_unit
        self._saturates = np.array([flat.saturates for flat in table])[codes] & is_unit
        self._step = (codes == ACTIVATIONS.index("step")) & is_unit
        self._none = np.zeros_like(self._step)
        self._any_step, self._any_saturates = bool(self._step.any()), bool(self._saturates.any())

    def count(self, values: Tensor) -> Tensor:
        """How many of the values ``[rows, S]`` of each node are flat, uint8 ``[S]``; at most 255 rows."""
        if self._low is None:  # every activation with flat values has such a bound
            return values.new_zeros(values.shape[1], dtype=torch.uint8)
        flat = values <= self._low
        if self._above is not None:
            flat &= values >= self._above
        if self._high is not None:
            flat |= values >= self._high
        return flat.view(torch.uint8).sum(0, dtype=torch.uint8)  # four times as fast as int32

    def verdict(self, flat: NDArray[Any], rows: int) -> Verdict:
        """Which units are dead and which are saturated, if ``flat [S]`` of ``rows`` values are flat."""
        dead = (flat == rows) & self._dies
        if self._any_step:
            dead |= (flat == 0) & self._step
        if not self._any_saturates:
            return Verdict(dead, self._none)
        return Verdict(dead, (flat >= SATURATED_SHARE * rows) & self._saturates & ~dead)

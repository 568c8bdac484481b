# SPDX-License-Identifier: MIT
"""The paper's settings of RandWire: the shape of each regime, and the three published sizes.

`freewire.models` and `freewire.timm` both build their models from these tables.
"""

from __future__ import annotations

from typing import NamedTuple

from freewire.models.generators import WS

__all__ = ["HEAD_CHANNELS", "PAPER_GENERATOR", "REGIMES", "SIZES", "Size"]

#: Output channels of the last convolution.
HEAD_CHANNELS = 1280

#: Regime -> for each stage its number of nodes, and its channels in units of ``channels``.
REGIMES = {"small": ((32, 1), (32, 2), (32, 4)), "regular": ((16, 1), (32, 2), (32, 4), (32, 8))}


class Size(NamedTuple):
    """A published size, with the regularisation that the paper trains it with; `RandWire` describes each setting."""

    channels: int
    regime: str
    edge_drop: float = 0.0
    dropout: float = 0.0


#: The wiring of all published sizes.
PAPER_GENERATOR = WS(4, 0.75)

#: Name of the model -> its settings.
SIZES = {
    "randwire_ws_small": Size(78, "small"),
    "randwire_ws_regular109": Size(109, "regular", edge_drop=0.1, dropout=0.2),
    "randwire_ws_regular154": Size(154, "regular", edge_drop=0.1, dropout=0.2),
}

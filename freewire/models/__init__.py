# SPDX-License-Identifier: MIT
"""Networks of modules: `GraphStage`, which wires modules of any kind by a graph, and the RandWire models."""

from freewire.models.blocks import AvgPoolConv as AvgPoolConv
from freewire.models.blocks import Conv as Conv
from freewire.models.blocks import MaxPoolConv as MaxPoolConv
from freewire.models.blocks import SeparableConv as SeparableConv
from freewire.models.blocks import fold_batch_norms as fold_batch_norms
from freewire.models.generators import BA as BA
from freewire.models.generators import ER as ER
from freewire.models.generators import WS as WS
from freewire.models.randwire import RandWire as RandWire
from freewire.models.randwire import randwire_ws_regular109 as randwire_ws_regular109
from freewire.models.randwire import randwire_ws_regular154 as randwire_ws_regular154
from freewire.models.randwire import randwire_ws_small as randwire_ws_small
from freewire.models.stage import GraphStage as GraphStage
from freewire.ops.gated_sum import gated_sum as gated_sum

__all__ = [
    "BA",
    "ER",
    "WS",
    "AvgPoolConv",
    "Conv",
    "GraphStage",
    "MaxPoolConv",
    "RandWire",
    "SeparableConv",
    "fold_batch_norms",
    "gated_sum",
    "randwire_ws_regular109",
    "randwire_ws_regular154",
    "randwire_ws_small",
]

# SPDX-License-Identifier: MIT
"""neat-python's functions as freewire's and the other way round: gains, and what one alone cannot say as several nodes.

A node of either kind computes ``f(bias + aggregation(...))``. Where the other library has no such f, a chain of nodes
computes it: the first reads what the node reads, each later one reads earlier ones of the chain, and the last one is
the node. A `Step` is a node of a chain.
"""

from __future__ import annotations

import math
from typing import NamedTuple


class Step(NamedTuple):
    """One node of a chain.

    Attributes:
        function: Its activation's name.
        gain: What the first node's argument is multiplied by. 1 in later ones.
        reads: For later nodes, which earlier ones are read, and the weights.
        bias: Of later nodes.
        aggregation: Of later nodes.
    """

    function: str
    gain: float = 1.0
    reads: tuple[tuple[int, float], ...] = ()
    bias: float = 0.0
    aggregation: str = "sum"


#: neat-python clamps the arguments of its exponential functions here, and sine's. For sigmoid, tanh and gauss that
#: changes values by less than 1e-24; the others need the clamp.
CLAMP = 60.0

#: neat-python's activation -> freewire's.
FROM_NEAT: dict[str, tuple[Step, ...]] = {
    "identity": (Step("linear"),),
    "relu": (Step("relu"),),
    "elu": (Step("elu"),),
    "selu": (Step("selu"),),
    "abs": (Step("abs"),),
    "square": (Step("square"),),
    "clamped": (Step("hard_tanh"),),
    "sigmoid": (Step("sigmoid", 5.0),),
    "tanh": (Step("tanh", 2.5),),
    "gauss": (Step("gaussian", math.sqrt(5.0)),),
    "sin": (Step("hard_tanh", 5.0 / CLAMP), Step("sin", reads=((0, CLAMP),))),
    "softplus": (
        Step("hard_tanh", 5.0 / CLAMP),
        Step("softplus", reads=((0, CLAMP),)),
        Step("linear", reads=((1, 0.2),)),
    ),
    "lelu": (Step("linear"), Step("relu", reads=((0, 1.0),)), Step("linear", reads=((0, 0.005), (1, 0.995)))),
    "hat": (Step("abs"), Step("relu", reads=((0, -1.0),), bias=1.0)),
    "cube": (Step("linear"), Step("linear", reads=((0, 1.0), (0, 1.0), (0, 1.0)), aggregation="product")),
}

#: freewire's activation -> neat-python's. The gain is neat-python's ``response``.
TO_NEAT: dict[str, tuple[Step, ...]] = {
    "linear": (Step("identity"),),
    "relu": (Step("relu"),),
    "elu": (Step("elu"),),
    "selu": (Step("selu"),),
    "abs": (Step("abs"),),
    "square": (Step("square"),),
    "hard_tanh": (Step("clamped"),),
    "sigmoid": (Step("sigmoid", 1 / 5.0),),
    "tanh": (Step("tanh", 1 / 2.5),),
    "gaussian": (Step("gauss", 1 / math.sqrt(5.0)),),
    "sin": (Step("sin", 1 / 5.0),),
    "cos": (Step("sin", 1 / 5.0),),  # of an argument larger by pi / 2
    "softplus": (Step("softplus", 1 / 5.0), Step("identity", reads=((0, 5.0),))),
    "leaky_relu": (Step("identity"), Step("relu", reads=((0, 1.0),)), Step("identity", reads=((0, 0.01), (1, 0.99)))),
    "silu": (
        Step("identity"),
        Step("sigmoid", reads=((0, 1 / 5.0),)),
        Step("identity", reads=((0, 1.0), (1, 1.0)), aggregation="product"),
    ),
    "hard_sigmoid": (Step("clamped", 1 / 3.0), Step("identity", reads=((0, 0.5),), bias=0.5)),
}
#: What is added to the argument of freewire's function, for neat-python's.
SHIFT = {"cos": math.pi / 2}
#: Those of `TO_NEAT` that are equal only where the absolute argument is at most `CLAMP`.
NEED_BOUND = ("sin", "cos", "softplus")
#: freewire's activations whose absolute values are at most 1.
AT_MOST_ONE = ("sigmoid", "tanh", "sin", "cos", "gaussian", "step", "hard_tanh", "hard_sigmoid")

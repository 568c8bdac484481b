# SPDX-License-Identifier: MIT
"""Dead and saturated units: the table of flat values against derivatives, and networks whose units we know."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
import torch
from torch.nn.functional import mse_loss

import freewire as fw
from freewire.graph import ACTIVATIONS
from freewire.ops.network_reference import ACTIVATION_FUNCTIONS
from freewire.studies import Diagnostics
from freewire.studies.diagnostics_units import FLAT, Units
from tests.studies.training import train

pytestmark = pytest.mark.usefixtures("one_thread")


def curve(name):
    """Pre-activations, values, and the derivative's magnitude over its largest."""
    z = torch.linspace(-12, 12, 24001, dtype=torch.float64, requires_grad=True)
    value = ACTIVATION_FUNCTIONS[name](z)
    (slope,) = torch.autograd.grad(value.sum(), z)
    return z.detach(), value.detach(), slope.abs() / max(float(slope.abs().max()), 1e-300)


@pytest.mark.parametrize("name", sorted(FLAT))
def test_flat_means_a_small_derivative(name):
    """A value is flat where the derivative is 0, or small and stays small away from 0."""
    flat = FLAT[name]
    z, value, slope = curve(name)
    is_flat = ((value <= flat.low) & (value >= flat.above)) | (value >= flat.high)
    if name == "step":
        assert set(value[is_flat].tolist()) == {0.0}
        return
    if flat.dies:
        assert torch.equal(is_flat, slope == 0)
        return
    # From the outermost flat value on, everything is flat, and the derivative there is a twentieth of its largest.
    tail = z < -1 if name in ("gelu", "silu") else torch.ones_like(is_flat)
    small = slope < 0.05
    if name == "gaussian":
        small &= z.abs() > 0.5  # its top is not its end
    if name in ("gelu", "silu"):
        small &= z < (-1.5 if name == "gelu" else -2.5)  # nor is the minimum of these
    different = (is_flat != small) & tail
    assert int(different.sum()) <= 40, z[different]  # 0.04 of a pre-activation in all
    assert is_flat[tail].any()


def test_the_others_have_no_ends():
    assert set(ACTIVATIONS) - set(FLAT) == {"linear", "leaky_relu", "sin", "cos", "abs", "square"}


#: Of each activation: biases with which a unit that computes act(0 x + bias) is dead, saturated, or neither.
UNITS = {
    "relu": {"dead": [-1.0, 0.0], "neither": [0.5]},
    "hard_tanh": {"dead": [1.5, -1.0], "neither": [0.99, -0.99]},
    "hard_sigmoid": {"dead": [3.0, -4.0], "neither": [2.9]},
    "step": {"dead": [-1.0, 2.0]},
    "sigmoid": {"saturated": [6.0, -6.0], "neither": [1.0, -1.0]},
    "tanh": {"saturated": [3.0, -3.0], "neither": [1.0]},
    "elu": {"saturated": [-4.0], "neither": [-1.0, 3.0]},
    "selu": {"saturated": [-4.0], "neither": [-1.0, 3.0]},
    "gelu": {"saturated": [-3.0, -9.0], "neither": [-1.0, -0.5, 1.0]},
    "silu": {"saturated": [-6.0], "neither": [-2.0, -0.5, 1.0]},
    "softplus": {"saturated": [-4.0], "neither": [0.0, 4.0]},
    "gaussian": {"saturated": [3.0, -3.0], "neither": [1.0, 0.1]},
    "linear": {"neither": [0.0, -9.0]},
    "leaky_relu": {"neither": [-9.0]},
    "square": {"neither": [0.0]},
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_units_with_a_constant_value(dtype):
    """One node per bias; the kernels' values are at the ends of the table exactly where they should be."""
    wires, expected = nx.DiGraph(), {}
    for name, kinds in UNITS.items():
        for kind, biases in kinds.items():
            for value in biases:
                node = f"{name} {value} {kind}"
                wires.add_node(node, activation=name, bias=value)
                wires.add_edge("x", node, weight=0.0)
                wires.add_edge(node, "y", weight=1.0)
                expected[node] = kind
    net = fw.Network(fw.Graph.from_networkx(wires, inputs=["x"], outputs=["y"]), dtype=dtype)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    x = torch.randn(10, 1).to(dtype)
    diagnostics = Diagnostics(net, optimizer)
    (record,) = train(net, optimizer, diagnostics, x, x, 1, mse_loss)
    nodes = diagnostics.nodes()
    for i, node in enumerate(net.graph.nodes):
        kind = "dead" if nodes["dead"][i] else "saturated" if nodes["saturated"][i] else "neither"
        assert kind == expected.get(node, "neither"), node
    for kind in ("dead", "saturated"):
        count = list(expected.values()).count(kind)
        assert record[kind] == count
        assert record["levels"][kind] == [count, 0]
    assert record["units"] == len(expected) + 1


def test_shares_of_a_batch():
    """A relu that one sample in 40 turns on is not dead, one that none turns on is; a hard tanh at an end for 95 % of
    the batch is saturated; one beyond both ends for all of it is dead; and what reaches no output is not counted.
    """
    wires = nx.DiGraph([("x", "rare"), ("x", "never"), ("x", "often"), ("x", "less often"), ("x", "ends")])
    wires.add_edges_from([(node, "y") for node in list(wires) if node != "x"])
    wires.add_edge("x", "unused", weight=1.0)
    numbers = {"rare": (1.0, -38.5), "never": (1.0, -39.0), "often": (1.0, -1.5), "less often": (1.0, -2.5)}
    numbers |= {"ends": (10.0, -195.0), "unused": (1.0, -50.0)}
    for node, (weight, bias) in numbers.items():
        wires.edges["x", node]["weight"] = weight
        wires.nodes[node].update(bias=bias, activation="relu" if node in ("rare", "never", "unused") else "hard_tanh")
    net = fw.Network(fw.Graph.from_networkx(wires, inputs=["x"], outputs=["y"]))
    x = torch.arange(40.0)[:, None]  # "often" is flat for all but 1 and 2, "less often" for all but 2 and 3
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    diagnostics = Diagnostics(net, optimizer)
    train(net, optimizer, diagnostics, x, x, 1, mse_loss)
    nodes = diagnostics.nodes()
    names = np.array(net.graph.nodes)
    assert set(names[nodes["dead"]]) == {"never", "ends"}
    assert set(names[nodes["saturated"]]) == {"often", "less often"}
    assert not nodes["used"][list(names).index("unused")]
    share = dict(zip(names, nodes["flat_share"], strict=True))
    assert (share["rare"], share["often"]) == (39 / 40, 38 / 40)
    x = torch.cat((x, torch.tensor([[1.25]])))  # a third one within: 38 of 41 are flat
    diagnostics = Diagnostics(net, optimizer)
    train(net, optimizer, diagnostics, x, x, 1, mse_loss)
    assert set(names[diagnostics.nodes()["saturated"]]) == {"less often"}


def test_a_step_that_changes_is_not_dead():
    wires = nx.DiGraph([("x", "changes"), ("changes", "y")])
    wires.nodes["changes"].update(activation="step")
    net = fw.Network(fw.Graph.from_networkx(wires, outputs=["y"]))
    units = Units(net, torch.device("cpu"))
    with torch.no_grad():
        values = torch.stack(list(net.activations(torch.tensor([[-1.0], [1.0]])).values()), 1)
    assert not units.verdict(units.count(values).numpy(), 2).dead.any()
    assert units.verdict(units.count(values[:1]).numpy(), 1).dead.sum() == 1
    assert units.verdict(units.count(values[1:]).numpy(), 1).dead.sum() == 1


@pytest.mark.parametrize(
    ("samples", "looked_at"),
    [
        (1, {0}),
        (5, set(range(5))),
        (200, {*range(100), *range(100, 200, 3)}),
        (256, set(range(128))),
        (600, set(range(0, 300, 2))),
    ],
)
def test_which_samples_are_looked_at(samples, looked_at):
    """All of small batches; of larger ones 128 or more, evenly spaced in the first half, and then in the second."""
    net = fw.Network(fw.generators.mlp([1, 1, 1], activation="relu"), init=lambda weight, graph: weight.fill_(1.0))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    diagnostics = Diagnostics(net, optimizer, every=1)
    for at in {0, 1, samples // 2, samples - 1, 127, 128, 298, 299} & set(range(samples)):
        x = -torch.ones(samples, 1)
        x[at] = 1.0
        (record,) = train(net, optimizer, diagnostics, x, x, 1, mse_loss)
        assert record["dead"] == (at not in looked_at), at


def test_more_than_255_values_are_never_counted():
    """Parts of 127 and 254 rows: a count of all of them would not fit a byte."""
    net = fw.Network(fw.generators.mlp([1, 1, 1], activation="relu"), init=lambda weight, graph: weight.fill_(1.0))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.0)
    x = -torch.ones(3, 127, 1)
    diagnostics = Diagnostics(net, optimizer)
    (record,) = train(net, optimizer, diagnostics, x, x, 1, mse_loss)
    assert (record["dead"], diagnostics.nodes()["flat_share"][1]) == (1, 1.0)

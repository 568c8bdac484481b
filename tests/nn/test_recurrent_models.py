# SPDX-License-Identifier: MIT
"""`Recurrent` against other people's models, written out here in a few lines each; unions; constraints."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import freewire as fw
from tests.support.recurrent import every_kind, own_gradients, recurrent, sequence_of, state_of, wired
from tests.support.tensors import assert_same_bits

pytestmark = pytest.mark.usefixtures("one_thread")


# ---------------------------------------------------------------------------------- neat-python


class NodeEval(NamedTuple):
    """As neat-python has it."""

    node: int
    activation: Callable[[float], float]
    aggregation: Callable[[list[float]], float]
    bias: float
    response: float
    links: list[tuple[int, float]]


ACTIVATIONS = {
    "tanh": math.tanh,
    "relu": lambda z: max(z, 0.0),
    "sigmoid": lambda z: 1 / (1 + math.exp(-z)),
    "sin": math.sin,
}
AGGREGATIONS = {
    "sum": sum,
    "product": math.prod,
    "max": max,
    "min": min,
    "maxabs": lambda terms: max(terms, key=abs),
    "mean": lambda terms: sum(terms) / len(terms),
}


def genome(seed: int) -> tuple[fw.Graph, list[NodeEval]]:
    """A random genome of 2 inputs, 2 outputs and 6 other nodes as a graph and as neat-python's node evaluations."""
    rng = np.random.default_rng(seed)
    number, computed = 10, range(2, 10)
    matrix = np.where(rng.random((number, number)) < 0.35, rng.normal(size=(number, number)), 0)
    matrix[:, :2] = 0
    matrix[rng.integers(0, 2), 2:] = 0.5  # every node reads something
    bias = rng.normal(size=number)
    activation = ["linear"] * 2 + rng.choice(list(ACTIVATIONS), number - 2).tolist()
    aggregation = ["sum"] * 2 + rng.choice(list(AGGREGATIONS), number - 2).tolist()
    graph = fw.Graph.from_adjacency(
        matrix,
        inputs=[0, 1],
        outputs=[2, 3],
        activation=activation,
        aggregation=aggregation,
        bias=np.where(np.arange(number) < 2, 0, bias),
        recurrent=True,
    )
    evals = [
        NodeEval(
            v,
            ACTIVATIONS[activation[v]],
            AGGREGATIONS[aggregation[v]],
            bias[v],
            1.0,
            [(u, matrix[u, v]) for u in range(number) if matrix[u, v]],
        )
        for v in computed
    ]
    return graph, evals


def activate(evals: list[NodeEval], frames: list[list[float]]) -> list[list[float]]:
    """neat-python's RecurrentNetwork: all nodes at once, from the values of the step before and the inputs of now."""
    values = dict.fromkeys(range(10), 0.0)
    outputs = []
    for frame in frames:
        values.update(enumerate(frame))
        after = {
            e.node: e.activation(e.bias + e.response * e.aggregation([values[i] * w for i, w in e.links]))
            for e in evals
        }
        values.update(after)
        outputs.append([values[2], values[3]])
    return outputs


@pytest.mark.parametrize("seed", range(5))
def test_a_recurrent_network_of_neat_python(seed: int) -> None:
    """Delays and leaks are the defaults: 0 from inputs, 1 from others, and no leak."""
    graph, evals = genome(seed)
    net = fw.Recurrent(graph, dtype=torch.float64)
    x = torch.randn(12, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    wanted = activate(evals, x.tolist())
    torch.testing.assert_close(net(x)[0], torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=1e-12)


def euler(evals: list[NodeEval], tau: dict[int, float], dt: float, frames: list[list[float]]) -> list[list[float]]:
    """A CTRNN as neat-python defines it, o' = (act(bias + sum of w o) - o) / tau: what decays is the output.

    neat-python 2.0.0 itself takes the o of two steps ago for it, since it writes into the older of two buffers.
    """
    values = dict.fromkeys(range(10), 0.0)
    outputs = []
    for frame in frames:
        values.update(enumerate(frame))
        z = {e.node: e.activation(e.bias + e.aggregation([values[i] * w for i, w in e.links])) for e in evals}
        values.update({v: values[v] + dt / tau[v] * (z[v] - values[v]) for v in z})
        outputs.append([values[2], values[3]])
    return outputs


@pytest.mark.parametrize("seed", range(3))
def test_a_ctrnn_of_neat_python(seed: int) -> None:
    """A node that filters its output is two here: the function, and after it a linear node with a leak of dt / tau."""
    graph, evals = genome(seed)
    dt, tau = 0.1, {v: 0.2 + 0.3 * v for v in range(2, 10)}
    src, dst, weight = [], [], []
    delay, leak = [], np.ones(20)
    for e in evals:  # node v is 10 + v, and its filter is v
        for u, w in e.links:
            src.append(u)
            dst.append(10 + e.node)
            weight.append(w)
            delay.append(int(u > 1))
        src.append(10 + e.node)
        dst.append(e.node)
        weight.append(1.0)
        delay.append(0)
        leak[e.node] = dt / tau[e.node]
    names, kinds = np.array(["linear"] * 20, object), np.array(["sum"] * 20, object)
    wires = graph.to_networkx()
    bias = np.zeros(20)
    for e in evals:
        names[10 + e.node] = wires.nodes[e.node]["activation"]
        kinds[10 + e.node] = wires.nodes[e.node]["aggregation"]
        bias[10 + e.node] = e.bias
    net = fw.Recurrent(
        fw.Graph.from_edges(
            src,
            dst,
            num_nodes=20,
            inputs=[0, 1],
            outputs=[2, 3],
            weight=weight,
            delay=delay,
            leak=leak,
            activation=names.tolist(),
            aggregation=kinds.tolist(),
            bias=bias,
        ),
        dtype=torch.float64,
    )
    x = torch.randn(15, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    wanted = torch.tensor(euler(evals, tau, dt, x.tolist()), dtype=torch.float64)
    torch.testing.assert_close(net(x)[0], wanted, rtol=1e-12, atol=1e-12)


# ---------------------------------------------------------------------------------- models of neuroscience


def test_a_ctrnn_whose_potential_decays() -> None:
    """Beer's: tau y' = -y + sum of w sigmoid(y + b) + I, by Euler steps."""
    rng = np.random.default_rng(0)
    number, dt = 7, 0.05
    tau, theta = rng.uniform(0.1, 1, number), rng.normal(size=number)
    w = rng.normal(size=(number, number))
    # The bias is inside the activation there: the potential with it is what decays here, towards itself.
    src, dst = np.nonzero(np.ones((number, number)))
    graph = fw.Graph.from_edges(
        np.concatenate((src + number, np.arange(number))),
        np.concatenate((dst + number, np.arange(number) + number)),
        num_nodes=2 * number,
        inputs=range(number),
        outputs=range(number, 2 * number),
        weight=np.concatenate((w[src, dst], np.ones(number))),
        bias=np.concatenate((np.zeros(number), theta)),
        delay=np.concatenate((np.ones(len(src), int), np.zeros(number, int))),
        leak=np.concatenate((np.ones(number), dt / tau)),
        activation="sigmoid",
        output_activation="sigmoid",
    )
    x = torch.randn(30, number, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = np.zeros(number)
    # Here all values are 0 before the first step; there they are sigmoid(theta), which h says.
    net = fw.Recurrent(graph, dtype=torch.float64)
    assert net.num_states == 2 * number
    h = torch.from_numpy(np.concatenate((1 / (1 + np.exp(-(y + theta))), theta)))
    rates = []
    for frame in x.numpy():
        y = y + dt / tau * (-y + (1 / (1 + np.exp(-(y + theta)))) @ w + frame)
        rates.append(1 / (1 + np.exp(-(y + theta))))
    torch.testing.assert_close(net(x, h)[0], torch.from_numpy(np.stack(rates)), rtol=1e-12, atol=1e-12)


def test_a_rate_model_of_a_visual_system() -> None:
    """v += dt / tau (-v + sum of w relu(v_src) + b + input), by gathering sources and scattering into readers."""
    generator = torch.Generator().manual_seed(0)
    neurons, synapses, dt = 40, 300, 0.02

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    src, dst = torch.randint(0, neurons, (2, synapses), generator=generator)
    weight, bias, x = draw(synapses) / 3, draw(neurons) / 2, draw(25, 4, 10)
    tau = 0.05 + draw(neurons).abs() / 10
    leaves = [t.requires_grad_() for t in (x, weight, bias)]
    v = torch.zeros(4, neurons, dtype=torch.float64)
    rates = []
    for frame in x:
        given = torch.cat((frame, frame.new_zeros(4, neurons - 10)), 1)
        current = torch.zeros_like(v).index_add(1, dst, weight * v.relu()[:, src])
        v = v + dt / tau * (-v + current + bias + given)
        rates.append(v.relu())
    wanted = torch.stack(rates)

    receptors = np.arange(10)
    graph = fw.Graph.from_edges(
        np.concatenate((receptors, src.numpy() + 10)),
        np.concatenate((receptors + 10, dst.numpy() + 10)),
        num_nodes=10 + neurons,
        inputs=receptors,
        outputs=range(10, 10 + neurons),
        recurrent=True,
        leak=np.concatenate((np.ones(10), (dt / tau).numpy())),
        activation="relu",
        output_activation="relu",
    )
    net = fw.Recurrent(graph, dtype=torch.float64)
    position = torch.tensor(graph.edge_position)
    with torch.no_grad():
        net.weight[position] = torch.cat((torch.ones(10, dtype=torch.float64), weight))
        net.bias.copy_(bias)
    found, h = net(x)
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(h[:, -neurons:], v, rtol=1e-12, atol=1e-12)
    grads = torch.autograd.grad(wanted.square().sum(), leaves)
    own = torch.autograd.grad(found.square().sum(), [x, net.weight, net.bias])
    own = own[0], own[1][position][10:], own[2]
    for got, want in zip(own, grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-10)


# ---------------------------------------------------------------------------------- torch's own


@pytest.mark.parametrize("batch", [1, 5, 20])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_nn_rnn(dtype: torch.dtype, batch: int) -> None:
    """All to all: the step's plan has dense blocks."""
    torch.manual_seed(0)
    inputs, hidden = 6, 20
    rnn = nn.RNN(inputs, hidden, dtype=dtype)
    src, dst = np.nonzero(np.ones((inputs + hidden, hidden)))
    graph = fw.Graph.from_edges(
        src,
        dst + inputs,
        inputs=range(inputs),
        outputs=range(inputs, inputs + hidden),
        activation="tanh",
        output_activation="tanh",
        recurrent=True,
    )
    net = fw.Recurrent(graph, dtype=dtype)
    assert net.plan.dense_share == 1
    assert net.num_states == hidden
    position = torch.tensor(graph.edge_position)
    with torch.no_grad():
        net.weight[position] = torch.cat((rnn.weight_ih_l0, rnn.weight_hh_l0), 1).T.flatten()
        net.bias.copy_(rnn.bias_ih_l0 + rnn.bias_hh_l0)
    x, h = sequence_of(net, 9, batch).requires_grad_(), state_of(net, batch).requires_grad_()
    wanted, last = rnn(x, h[None])
    found, own_last = net(x, h)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(own_last, last[0])
    loss, own_loss = wanted.square().sum() + last.sum(), found.square().sum() + own_last.sum()
    grads = torch.autograd.grad(loss, [x, h, rnn.weight_ih_l0, rnn.weight_hh_l0, rnn.bias_ih_l0])
    own = torch.autograd.grad(own_loss, [x, h, net.weight, net.bias])
    weight = own[2][position].reshape(inputs + hidden, hidden).T
    for got, want in zip((*own[:2], weight[:, :inputs], weight[:, inputs:], own[3]), grads, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4 if dtype == torch.float32 else 1e-10, atol=1e-4)


# ---------------------------------------------------------------------------------- unions


def test_a_union_keeps_states_apart() -> None:
    parts = [recurrent(g, seed=i) for i, g in enumerate((wired(0), every_kind(), wired(1, leak=False)))]
    union = fw.Graph.union([fw.Graph.from_networkx(net.to_networkx()) for net in parts])
    whole = fw.Recurrent(union, dtype=torch.float64)
    assert whole.num_states == sum(net.num_states for net in parts)
    xs = [sequence_of(net, 6, 5, seed=i) for i, net in enumerate(parts)]
    first, h = whole(torch.cat(xs, -1)[:2])
    second, _ = whole(torch.cat(xs, -1)[2:], h)
    alone = torch.cat([net(x)[0] for net, x in zip(parts, xs, strict=True)], -1)
    torch.testing.assert_close(torch.cat((first, second)), alone, rtol=1e-12, atol=1e-12)
    xs[1] = xs[1] + 1
    width = len(parts[0].graph.outputs)
    other, _ = whole(torch.cat(xs, -1))
    assert_same_bits([other[..., :width]], [torch.cat((first, second))[..., :width]])
    assert not torch.equal(other, torch.cat((first, second)))


# ---------------------------------------------------------------------------------- constraints


def test_constraints() -> None:
    """Signs, frozen weights and tied groups hold while a network trains, and agree with the weights they give."""
    bare = wired(3)
    rng = np.random.default_rng(0)
    base = rng.choice([-1, 1], bare.num_edges) * rng.uniform(0.2, 0.8, bare.num_edges)
    kind = rng.integers(0, 4, bare.num_edges)
    graph = bare.with_values(base).with_constraints(
        sign=np.where(kind == 1, np.sign(base), 0).astype(int),
        frozen=kind == 2,
        group=np.where(kind == 3, rng.integers(0, 2, bare.num_edges), -1),
    )
    net = fw.Recurrent(graph, dtype=torch.float64, learn_leak=True)
    free = fw.Recurrent(bare.with_values(net.weight.detach().numpy()), dtype=torch.float64, learn_leak=True)
    x = sequence_of(net, 6, 3)
    assert_same_bits(net(x), free(x))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.2)
    before = net.weight.detach().clone()
    for _ in range(20):
        optimizer.zero_grad()
        net(x)[0].square().sum().backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    after = net.weight.detach()
    assert not torch.equal(after, before)
    assert torch.equal(after[kind == 2], before[kind == 2])
    assert (after[kind == 1] * torch.from_numpy(np.sign(base))[kind == 1] >= 0).all()
    scale = after[kind == 3] / before[kind == 3]
    for group in (0, 1):
        mine = scale[torch.from_numpy(graph.group[kind == 3] == group)]
        torch.testing.assert_close(mine, mine[:1].expand_as(mine))
    again = fw.Recurrent(fw.Graph.from_networkx(net.to_networkx()), dtype=torch.float64)
    torch.testing.assert_close(again(x)[0], net(x)[0], rtol=1e-12, atol=1e-12)
    found = own_gradients(net, x, state_of(net, 3), torch.ones(6, 3, 4), torch.zeros(3, net.num_states))
    assert all(grad.isfinite().all() for grad in found)

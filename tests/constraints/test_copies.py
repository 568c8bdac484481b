# SPDX-License-Identifier: MIT
"""Constraints in copies, pickles, state_dicts, saved networks, networkx graphs, graph files and pictures."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.optim.swa_utils import AveragedModel

import freewire as fw
from freewire.pictures.subject import subject
from tests.support.constrained import EDGES, WIRES, batch, constrained, drawn, train
from tests.support.graphs import assert_same_graph
from tests.support.messages import assert_refused
from tests.support.networks import bits_of, read

SETS = [("sign",), ("frozen",), ("group",), ("sign", "frozen", "group")]
ALL = SETS[-1]


def trained(*names: str, **options: bool) -> fw.Network:
    net = constrained(*names, **options)
    train(net, torch.optim.Adam(net.parameters(), lr=0.3), 8)
    return net


def through_a_file(net: fw.Network) -> fw.Network:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[fw.Network], fw.Network]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "torch.save": through_a_file,
    "deepcopy twice": lambda net: copy.deepcopy(copy.deepcopy(net)),
}


@pytest.mark.parametrize("names", SETS)
@pytest.mark.parametrize("make", COPIES.values(), ids=COPIES)
def test_copies(names, make):
    net = trained(*names)
    weight = net.weight.detach().clone()
    other = make(net)
    assert isinstance(other, fw.Network)
    assert type(other) is not type(net)
    assert torch.equal(other.weight, weight)
    assert list(other.state_dict()) == list(net.state_dict())
    x, _ = batch()
    assert torch.equal(other(x), net(x))
    train(other, torch.optim.SGD(other.parameters(), lr=0.1), 2)
    assert torch.equal(net.weight, weight)
    fw.constraints.signed(other, None)  # of the copy alone
    fw.constraints.frozen(other, None)
    fw.constraints.tied(other, None)
    assert type(other) is fw.Network
    assert torch.equal(net.weight, weight)


def test_averaged_models():
    net = trained(*ALL)
    averaged = AveragedModel(net)
    averaged.update_parameters(net)
    assert torch.equal(averaged.module.weight, net.weight)


@pytest.mark.parametrize("names", SETS)
def test_state_dict(names):
    net, other = trained(*names), constrained(*names, stored="group" in names, seed=0)
    x, _ = batch()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.weight, net.weight)
    assert torch.equal(other(x), net(x))
    mean = {
        name: (a + b) / 2 for (name, a), b in zip(net.state_dict().items(), other.state_dict().values(), strict=True)
    }
    other.load_state_dict(mean)


def test_state_dicts_of_other_constraints_are_refused():
    net = constrained("sign")
    for other in (constrained(), constrained("frozen"), constrained(*ALL)):
        with pytest.raises(RuntimeError, match="Missing key"):
            other.load_state_dict(net.state_dict())


@pytest.mark.parametrize("name", ["sign", "group", "frozen"])
def test_state_dicts_of_other_values_are_refused(name):
    saved, net = constrained(name, stored=False), fw.Network(WIRES)
    apply = {"sign": fw.constraints.signed, "frozen": fw.constraints.frozen, "group": fw.constraints.tied}[name]
    apply(net, drawn()[name][::-1])
    assert {key: value.shape for key, value in net.state_dict().items()} == {
        key: value.shape for key, value in saved.state_dict().items()
    }
    before = net.weight.detach().clone()
    assert_refused(
        lambda: net.load_state_dict(saved.state_dict()),
        f"state_dict: expected that of a module with the same {name} of each edge, got that of another\\. ",
        fw.InputError,
    )
    assert torch.equal(net.weight, before)
    apply(net, drawn()[name])
    net.load_state_dict(saved.state_dict())
    assert torch.equal(net.weight, saved.weight)


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("names", SETS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_save_and_load(names, stored, dtype, tmp_path):
    net = trained(*names, stored=stored or names == ALL)
    net.to(dtype)
    fw.save(net, tmp_path / "net")
    other = fw.load(tmp_path / "net")
    assert bits_of(other.weight) == bits_of(net.weight)
    for name in ("sign", "frozen", "group"):
        assert np.array_equal(getattr(other.graph, name), getattr(net.graph, name))
    if "group" in names:
        assert torch.equal(other.parametrizations.weight.original0, net.parametrizations.weight.original0)
    other.load_state_dict(net.state_dict())
    assert torch.equal(other.weight, net.weight)
    start = other.weight.detach().clone()
    train(other, torch.optim.SGD(other.parameters(), lr=0.1), 1)
    assert not torch.equal(other.weight, start)
    if "frozen" in names:
        mask = torch.tensor(net.graph.frozen)
        assert torch.equal(other.weight[mask], start[mask])


def test_constraints_applied_later_are_saved(tmp_path):
    net = fw.Network(WIRES)
    fw.constraints.tied(net, drawn()["group"], drawn()["weight"])
    fw.constraints.signed(net, drawn()["sign"] * (drawn()["group"] < 0))
    fw.save(net, tmp_path / "net")
    other = fw.load(tmp_path / "net")
    assert torch.equal(other.weight, net.weight)
    assert_same_graph(other.graph.with_values(), net.graph.with_values())
    other.load_state_dict(net.state_dict())


TAMPERED = {
    "weight of the other sign": lambda t: t["weight"].neg_(),
    "weight that is not tied": lambda t: t["weight"].add_(1),
    "another scale": lambda t: t["scale"].add_(1),
    "scales of another number": lambda t: t.update(scale=torch.ones(2)),
    "scales of another type": lambda t: t.update(scale=t["scale"].double()),
    "no scales": lambda t: t.pop("scale"),
    "bases of another number": lambda t: t.update(base=t["base"][1:].clone()),
    "infinite bases": lambda t: t["base"].fill_(torch.inf),
    "no bases": lambda t: t.pop("base"),
    "sign of 2": lambda t: t["sign"].fill_(2),
    "group of -2": lambda t: t["group"].fill_(-2),
    "group of another type": lambda t: t.update(group=t["group"].int()),
    "half a group frozen": lambda t: t["frozen"].fill_(False)[:40].fill_(True),
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_tampered_files(change, tmp_path):
    fw.save(trained(*ALL), tmp_path / "net")
    tensors, header = read(tmp_path / "net")
    change(tensors)
    save_file(tensors, tmp_path / "changed", header["__metadata__"])
    assert_refused(
        lambda: fw.load(tmp_path / "changed"), ".*expected the contents of a freewire network", fw.FileFormatError
    )


@pytest.mark.parametrize("names", SETS)
def test_networkx_holds_effective_weights(names):
    net = trained(*names)
    G = net.to_networkx()
    other = fw.Network(fw.Graph.from_networkx(G))
    assert torch.equal(other.weight, net.weight)
    for name in ("sign", "frozen", "group"):
        assert np.array_equal(getattr(other.graph, name), getattr(net.graph, name))
    x, _ = batch()
    assert torch.equal(other(x), net(x))


@pytest.mark.parametrize("suffix", [".json", ".graphml", ".csv"])
@pytest.mark.parametrize("names", SETS)
def test_graph_files(names, suffix, tmp_path):
    """Their nodes have no biases, which CSV cannot hold, and relu."""
    wires = fw.Graph.from_edges(*WIRES.edge_index)
    given = drawn()
    graph = wires.with_values(given["weight"]).with_constraints(**{name: given[name] for name in names})
    fw.write_graph(graph, tmp_path / f"g{suffix}")
    found = fw.read_graph(tmp_path / f"g{suffix}")
    for name in ("sign", "frozen", "group"):
        assert np.array_equal(getattr(found, name), getattr(graph, name))
    net = fw.Network(found)
    assert torch.equal(net.weight, torch.tensor(given["weight"], dtype=torch.float32))
    assert len(net.parametrizations.weight) == len(names)


def test_pictures_show_effective_weights_and_gradients():
    net = trained(*ALL)
    net.zero_grad()
    x, y = batch()
    assert subject(net).weight_grad is None
    (net(x) - y).square().mean().backward()
    shown = subject(net)
    assert np.array_equal(shown.weight, net.weight.detach().double().numpy())
    free = fw.Network(fw.Graph.from_networkx(net.to_networkx()).with_constraints(sign=None, frozen=None, group=None))
    (free(x) - y).square().mean().backward()
    frozen, alone = net.graph.frozen, net.graph.group < 0
    grad = free.weight.grad.double().numpy()
    assert np.allclose(shown.weight_grad[alone & ~frozen], grad[alone & ~frozen], atol=1e-6)
    assert not shown.weight_grad[frozen].any()
    edges = fw.Graph.from_networkx(net.to_networkx(grad=True))
    written = np.array([data["grad"] for *_, data in net.to_networkx(grad=True).edges(data=True)])
    assert np.array_equal(written, shown.weight_grad[edges.edge_position])
    assert net._repr_svg_() is not None
    fw.to_dot(net)


def test_a_gradient_of_another_parametrization_is_unknown():
    net = constrained("sign")
    torch.nn.utils.parametrize.register_parametrization(net, "weight", torch.nn.Identity())
    net(batch()[0]).sum().backward()
    assert net.edge_gradient() is None
    net = constrained()
    torch.nn.utils.parametrize.register_parametrization(net, "weight", torch.nn.Identity())
    net(batch()[0]).sum().backward()
    assert net.edge_gradient() is None


def test_the_model_of_2019(tmp_path):
    graph = WIRES.with_values(drawn()["weight"]).with_constraints(**{name: drawn()[name] for name in ALL})
    model = fw.Model(graph)
    weight = model.weight.detach().clone()
    assert torch.equal(weight, torch.tensor(drawn()["weight"], dtype=torch.float32))
    model.compile(optimizer="adam", loss="mse")
    x, y = batch()
    model.fit(x, y, epochs=2, verbose=0)
    mask = torch.tensor(graph.frozen)
    assert torch.equal(model.weight[mask], weight[mask])
    assert (model.weight * torch.tensor(graph.sign) >= 0).all()
    model.save_weights(tmp_path / "weights")
    other = fw.Model(graph)
    other.load_weights(tmp_path / "weights")
    assert torch.equal(other.weight, model.weight)


def test_diagnostics():
    """Gradients are recomputed, as the weights have none of their own."""
    net = constrained("sign")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    diagnostics = fw.studies.Diagnostics(net, optimizer)
    x, y = batch()
    loss_fn = torch.nn.functional.mse_loss
    loss_fn(net(x), y).backward()
    grad = net.edge_gradient()
    optimizer.step()
    record = diagnostics.step(x, y, loss_fn)
    np.testing.assert_allclose(diagnostics.edges()["gradient"], grad, atol=1e-6)
    assert record["slope"] == pytest.approx(-100 * record["update_norm"] ** 2, rel=1e-3)


def test_meta():
    net = constrained(*ALL, device="meta")
    assert net(torch.empty(3, 6, device="meta")).shape == (3, 3)
    loaded = copy.deepcopy(net).to_empty(device="cpu")
    same = trained(*ALL)
    loaded.load_state_dict(same.state_dict())
    assert torch.equal(loaded.weight, same.weight)
    net.to_empty(device="cpu").reset_parameters()
    assert torch.equal(net.weight, torch.tensor(drawn()["weight"], dtype=torch.float32))
    empty = constrained(*ALL, device="meta")
    empty.load_state_dict(same.state_dict(), assign=True)
    assert torch.equal(empty.weight, same.weight)
    assert len(empty.weight) == EDGES

# SPDX-License-Identifier: MIT
"""fw.log_to_tensorboard with torch's SummaryWriter, read back by TensorBoard's own reader."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.tensorboard import SummaryWriter

import freewire as fw


def read(folder) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"histograms": 0, "images": 0}).Reload()


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return fw.Network(fw.generators.mlp([4, 8, 2]), dtype=torch.float32)


@pytest.fixture(scope="module")
def events(net, tmp_path_factory):
    """Logged before a backward at step 3, after it at step 5, and with a gradient of NaN and infinity at step 7."""
    folder = tmp_path_factory.mktemp("run")
    with SummaryWriter(str(folder)) as writer:
        fw.log_to_tensorboard(writer, net, 3)
        net(torch.ones(2, 4)).square().sum().backward()
        fw.log_to_tensorboard(writer, net, 5, picture=False)
        kept = net.weight.grad.clone()
        net.weight.grad[:3] = torch.tensor([torch.nan, torch.inf, -torch.inf])
        fw.log_to_tensorboard(writer, net, 7, picture=False)
        net.weight.grad.copy_(kept)
    return read(folder)


def test_tags_and_steps(events):
    tags = events.Tags()
    assert sorted(tags["histograms"]) == ["bias", "bias.grad", "weight", "weight.grad"]
    assert [event.step for event in events.Histograms("weight")] == [3, 5, 7]
    assert [event.step for event in events.Histograms("weight.grad")] == [5, 7]
    assert [event.step for event in events.Images("wiring")] == [3]


def test_a_histogram_has_the_values(events, net):
    found = events.Histograms("weight")[0].histogram_value
    weight = net.weight.detach().double().numpy()
    assert found.num == 48
    assert found.sum == pytest.approx(weight.sum(), rel=1e-6)
    assert (found.min, found.max) == pytest.approx((weight.min(), weight.max()), rel=1e-6)
    edges = np.concatenate(([-np.inf], found.bucket_limit))
    assert np.array_equal(found.bucket, np.histogram(weight, edges)[0])
    assert events.Histograms("bias")[0].histogram_value.num == 10  # inputs have none


def test_infinite_gradients_are_counted_beside_the_histogram(events, net):
    grad = net.weight.grad[3:].double()
    found = events.Histograms("weight.grad")[1].histogram_value
    assert (found.num, found.sum) == (45, pytest.approx(grad.sum().item(), rel=1e-6))
    assert events.Tags()["scalars"] == ["weight.grad.not_finite"]
    (count,) = events.Scalars("weight.grad.not_finite")
    assert (count.step, count.value) == (7, 3)


def test_the_picture_has_a_size(events):
    (image,) = events.Images("wiring")
    assert image.encoded_image_string.startswith(b"\x89PNG")
    assert 500 < image.width < 2000
    assert 300 < image.height < 2000


def test_the_graph_names_the_operator(events):
    nodes = {node.name: node for node in events.Graph().node}
    (operator,) = [node for node in nodes.values() if node.op == "freewire::network"]
    read = [nodes[name] for name in operator.input]
    assert [node.name for node in read[:3]] == ["input/x", "Network/weight/weight", "Network/bias/bias"]


def test_all_networks_of_a_model(tmp_path):
    graph = fw.generators.mlp([4, 4])
    model = nn.Sequential(fw.Network(graph), nn.ReLU(), fw.Network(graph))
    with SummaryWriter(str(tmp_path)) as writer:
        fw.log_to_tensorboard(writer, model, 0, picture=False)
        assert not read(tmp_path).Tags()["graph"]  # how to call the model is not known
        fw.log_to_tensorboard(writer, model, 1, example=torch.ones(1, 4), picture=False)
    found = read(tmp_path)
    assert sorted(found.Tags()["histograms"]) == ["0/bias", "0/weight", "2/bias", "2/weight"]
    assert [node.op for node in found.Graph().node].count("freewire::network") == 2


def test_scalars_of_diagnostics(net, tmp_path):
    net = fw.Network(net.graph)
    x, y, mse = torch.randn(16, 4), torch.randn(16, 2), torch.nn.functional.mse_loss
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    with (
        SummaryWriter(str(tmp_path)) as writer,
        fw.studies.Diagnostics(net, optimizer, every=2, writer=writer) as diagnostics,
    ):
        for _ in range(5):
            loss = mse(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            diagnostics.step(x, y, mse, loss)
    found = read(tmp_path)
    for name in ("loss", "step_length", "gradient_norm", "update_ratio"):
        scalars = found.Scalars(f"diagnostics/{name}")
        assert [each.step for each in scalars] == [0, 2, 4]
        wanted = [record[name] for record in diagnostics.records]
        np.testing.assert_allclose([each.value for each in scalars], wanted, rtol=1e-6)

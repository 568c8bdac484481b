# SPDX-License-Identifier: MIT
"""The examples of recurrent networks, in a small form: a connectome, a reservoir, sequences of digits."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import torch

import freewire as fw
from tests.support.examples import imported

pytestmark = pytest.mark.usefixtures("one_thread")


def assert_drawn(path: Path) -> None:
    picture = matplotlib.image.imread(path)[..., :3]
    assert min(picture.shape[:2]) >= 500
    assert len(np.unique((picture[::3, ::3].reshape(-1, 3) * 255).astype(np.uint8), axis=0)) > 50


@pytest.fixture(scope="module")
def connectome() -> Iterator[types.ModuleType]:
    with imported("connectome") as module:
        module.PULSES, module.PAUSE = 8, 3
        yield module


@pytest.fixture(scope="module")
def reservoir() -> Iterator[types.ModuleType]:
    with imported("reservoir") as module:
        yield module


@pytest.fixture(scope="module")
def sequence() -> Iterator[types.ModuleType]:
    with imported("sequence") as module:
        module.HIDDEN, module.TIMED = 64, 2
        yield module


@pytest.fixture(scope="module")
def drawn(connectome):
    cells, synapses = connectome.draw_connectome(1)
    graph = connectome.wire(cells, synapses, connectome.INPUTS, connectome.OUTPUTS)
    return cells, synapses, graph


class TestConnectome:
    @pytest.fixture
    def run(self, connectome, tmp_path, capsys):
        def main(*options: str) -> str:
            connectome.main([*options, "--out", str(tmp_path)])
            return capsys.readouterr().out

        return main

    def test_command(self, run, tmp_path):
        text = run("--steps", "40", "--nulls", "1", "--seeds", "2")
        after = float(re.search(r"^right decisions: .* training, ([\d.]+)% after", text, re.MULTILINE)[1])
        assert after > 80
        kept, weights = re.search(r"^signs kept: (\d+) of (\d+) weights$", text, re.MULTILINE).groups()
        assert kept == weights
        rows = re.findall(r"^(\w+ \w+|bystander) +([\d.]+)%  \([+-][\d.]+ points\)$", text, re.MULTILINE)
        assert {name for name, _ in rows} >= {"left eye", "right eye"}
        assert all(float(metric) < 60 for _, metric in rows[:4])
        assert re.search(r"^null model 0 ", text, re.MULTILINE)
        assert_drawn(tmp_path / "connectome.png")
        graph = fw.read_graph(tmp_path / "connectome.json")
        assert graph.recurrent
        assert str(graph.num_edges) == weights
        assert (graph.weight * graph.sign >= 0).all()

    def test_tables_are_read_back(self, connectome, drawn, tmp_path):
        cells, synapses, graph = drawn
        connectome.write_connectome(cells, synapses, tmp_path)
        paths = tmp_path / "synapses.csv", tmp_path / "cells.csv"
        read = connectome.read_connectome(*paths, connectome.INPUTS, {"source": None})
        again = connectome.wire(*read, connectome.INPUTS, connectome.OUTPUTS)
        assert again.wiring_hash == graph.wiring_hash
        for field in ("weight", "sign", "group", "leak"):
            assert np.array_equal(getattr(again, field), getattr(graph, field), equal_nan=True)

    def test_numbered_cells_and_edges_into_inputs(self, connectome, tmp_path):
        (tmp_path / "c.csv").write_text("name,type,sign,tau\n7,in,1,20\n5,a,-1,100\n9,out,1,10\n", encoding="utf-8")
        (tmp_path / "e.csv").write_text("pre,post,n\n7,5,3\n5,9,2\n9,5,1\n5,7,8\n5,5,4\n", encoding="utf-8")
        cells, synapses = connectome.read_connectome(
            tmp_path / "e.csv", tmp_path / "c.csv", ["in"], {"weight": "n", "source": None}
        )
        graph = connectome.wire(cells, synapses, ["in"], ["out"])
        assert graph.nodes == (7, 5, 9)
        edges = {
            (graph.nodes[u], graph.nodes[v]): w for (u, v), w in zip(graph.edge_index.T, graph.weight, strict=True)
        }
        assert edges == pytest.approx({(7, 5): 0.9, (5, 9): -0.6, (9, 5): 0.3, (5, 5): -1.2})
        assert graph.leak[1:].tolist() == [0.2, 1.0]

    def test_what_it_refuses(self, connectome, tmp_path, capsys):
        (tmp_path / "c.csv").write_text("name,type\na,b\n", encoding="utf-8")
        with pytest.raises(ValueError, match="expected the columns name, type, sign, tau"):
            connectome.read_connectome(tmp_path / "e.csv", tmp_path / "c.csv", [], {})
        (tmp_path / "c.csv").write_text("name,type,sign,tau\na,b,1,1\nb,b,1,1\n", encoding="utf-8")
        (tmp_path / "e.csv").write_text("source,target\na,b\n", encoding="utf-8")
        with pytest.raises(ValueError, match="expected numbers of synapses, got no weights"):
            connectome.read_connectome(tmp_path / "e.csv", tmp_path / "c.csv", [], {})
        for options in (["--table", "x.csv"], ["--seeds", "1"]):
            with pytest.raises(SystemExit):
                connectome.main(options)
            assert "expected" in capsys.readouterr().err
        paths = ["--table", str(tmp_path / "e.csv"), "--cells", str(tmp_path / "c.csv"), "--out", str(tmp_path)]
        with pytest.raises(SystemExit, match="target: expected a column"):
            connectome.main([*paths, "--source", "source"])
        (tmp_path / "e.csv").write_text("source,target,weight\na,b,1\n", encoding="utf-8")
        with pytest.raises(SystemExit, match="--inputs, --outputs: expected types of cells, got left eye, left motor"):
            connectome.main(paths)

    def test_weights_are_synapses_times_a_scale_per_pair_of_types(self, connectome, drawn):
        cells, synapses, graph = drawn
        net = fw.Recurrent(graph)
        with torch.no_grad():
            net.parametrizations.weight.original.mul_(torch.rand(len(np.unique(graph.group))) - 0.5)
        count = np.empty(graph.num_edges)
        count[graph.edge_position] = synapses.number
        scale = net.weight.detach().numpy() / count
        src, dst = graph.edge_index
        pairs = list(zip(cells.type[src], cells.type[dst], strict=True))
        assert net.parametrizations.weight.original.shape == (len(set(pairs)),)
        for pair in set(pairs):
            of_pair = scale[[pair == other for other in pairs]]
            assert of_pair == pytest.approx(of_pair[0], rel=1e-5)
        assert (np.sign(scale) == cells.sign[src]).all()

    @pytest.mark.parametrize("kind", ["degree", "erdos_renyi"])
    def test_null_wirings_obey_the_types(self, connectome, drawn, kind):
        cells, _, graph = drawn
        (null,) = connectome.null_wirings(cells, graph, kind, 1, 0, connectome.INPUTS, connectome.OUTPUTS)
        assert (null.sign == cells.sign[null.edge_index[0]]).all()
        assert (null.inputs, null.outputs, null.num_edges) == (graph.inputs, graph.outputs, graph.num_edges)
        assert sorted(np.abs(null.weight)) == pytest.approx(sorted(np.abs(graph.weight)))
        assert null.wiring_hash != graph.wiring_hash

    def test_trials(self, connectome):
        x, label = connectome.draw_trials(500, (2, 3), torch.Generator().manual_seed(0))
        assert x.shape == (11, 500, 5)
        pulses = torch.stack((x[:8, :, :2].mean(-1), x[:8, :, 2:].mean(-1)), -1).sum(0)
        assert ((pulses[:, 1] > pulses[:, 0]).long() == label).float().mean() > 0.85  # the noise hides a few
        assert x[8:].mean().abs() < 0.02
        assert 0.4 < label.float().mean() < 0.6


class TestReservoir:
    def test_a_delay_line_remembers_as_many_steps_as_it_has_nodes(self, reservoir):
        memory = reservoir.measure(reservoir.delay_line(12), 30, seed=0, steps=2000)
        assert memory.capacity == pytest.approx(12, abs=0.05)
        assert memory.r2[:12].min() > 0.999
        assert memory.r2[12:].max() < 0.01

    @pytest.mark.parametrize("max_delay", [1, 3])
    def test_capacity_is_at_most_the_number_of_nodes(self, reservoir, max_delay):
        edges, weight, delay = reservoir.draw_wiring(15, 5, max_delay, seed=0)
        found = reservoir.spectral_radius(edges, weight, delay, 15)
        into = np.random.default_rng(0).uniform(-1, 1, 15)
        capacity = {}
        for radius in (0.3, 0.9):
            scaled = reservoir.scaled(weight, delay, radius / found)
            assert reservoir.spectral_radius(edges, scaled, delay, 15) == pytest.approx(radius)
            net = reservoir.build(edges, scaled, delay, into)
            capacity[radius] = reservoir.measure(net, 60, seed=0, steps=2000).capacity
        assert capacity[0.3] < capacity[0.9] < 15.05
        assert capacity[0.9] > 13
        tanh = reservoir.measure(reservoir.build(edges, scaled, delay, 3 * into, "tanh"), 60, seed=0, steps=2000)
        assert tanh.capacity < capacity[0.9] - 3

    def test_spectral_radius_of_a_cycle(self, reservoir):
        """Three nodes, weights of product 8: eigenvalues of size 2; with 2 steps per edge, its square root."""
        edges, weight, one = np.array([[0, 1, 2], [1, 2, 0]]), np.array([1.0, 2, 4]), np.ones(3, int)
        assert reservoir.spectral_radius(edges, weight, one, 3) == pytest.approx(2)
        assert reservoir.spectral_radius(edges, weight, 2 * one, 3) == pytest.approx(2**0.5)

    def test_command(self, reservoir, tmp_path, capsys):
        options = ["--nodes", "12", "--fan-in", "3", "--steps", "500", "--radius", "0.5", "1.2", "--out", str(tmp_path)]
        reservoir.main(options)
        text = capsys.readouterr().out
        assert re.search(r"^ +0\.5 +[\d.]+ +[\d.]+$", text, re.MULTILINE)
        assert re.search(r"^ +1\.2 +- +[\d.]+$", text, re.MULTILINE)
        assert float(re.search(r"delay line +([\d.]+)", text)[1]) == pytest.approx(12, abs=0.2)
        assert_drawn(tmp_path / "capacity.png")

    @pytest.mark.parametrize("options", [["--fan-in", "101"], ["--steps", "0"], ["--radius", "0"]])
    def test_what_it_refuses(self, reservoir, options, capsys):
        with pytest.raises(SystemExit):
            reservoir.main(options)
        assert "expected" in capsys.readouterr().err


class TestSequence:
    @pytest.mark.parametrize("options", [[], ["--pixels"]])
    def test_command(self, sequence, options, monkeypatch, capsys):
        load, count = sequence.load_digits, 640 if options else 1437

        def few(seed: int) -> object:
            data = load(seed)
            return data._replace(train_x=data.train_x[:count], train_y=data.train_y[:count])

        monkeypatch.setattr(sequence, "load_digits", few)
        sequence.main([*options, "--epochs", "1" if options else "6", "--seeds", "1"])
        text = capsys.readouterr().out
        rows = re.findall(
            r"^(freewire|nn\.RNN|nn\.GRU), \d+ neurons +([\d,]+) +([\d.]+)% +([\d.]+)$", text, re.MULTILINE
        )
        assert [name for name, *_ in rows] == ["freewire", "nn.RNN", "nn.GRU"]
        sizes = [int(size.replace(",", "")) for _, size, *_ in rows]
        assert max(sizes) < 1.06 * min(sizes)
        if not options:
            assert float(rows[0][2]) > 80

    def test_sequences(self, sequence):
        x = torch.arange(128.0).view(2, 64)
        assert torch.equal(sequence.as_sequences(x, 8)[3, 1], x[1, 24:32])
        assert sequence.as_sequences(x, 1).shape == (64, 2, 1)

    def test_sizes(self, sequence):
        for kind in (torch.nn.RNN, torch.nn.GRU):
            hidden = sequence.of_size(kind, 8, 5000)
            assert sequence.count_parameters(sequence.Layered(kind, 8, hidden)) == pytest.approx(5000, rel=0.03)

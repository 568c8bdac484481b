# SPDX-License-Identifier: MIT
"""Recurrent networks in files, on the command line and in pictures."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import freewire as fw
from freewire.__main__ import main
from freewire.pictures.curves import curves
from tests.support.graphs import RECURRENT, recurrent_graph

OPTIONS = dict(batch_first=True, steps=2, learn_leak=True, checkpoint_every=3)


@pytest.fixture
def net() -> fw.Recurrent:
    torch.manual_seed(0)
    net = fw.Recurrent(RECURRENT, **OPTIONS)
    with torch.no_grad():
        net.leak.mul_(0.5)
    return net


class TestRoundTrip:
    """`fw.save` and `fw.load`."""

    def test_options_and_learnt_leaks(self, net, tmp_path):
        fw.save(net, tmp_path / "net.safetensors")
        again = fw.load(tmp_path / "net.safetensors")
        assert isinstance(again, fw.Recurrent)
        assert {name: getattr(again, name) for name in OPTIONS} == OPTIONS
        assert torch.equal(again.leak, net.leak)
        x = torch.randn(2, 5, 1)
        assert all(map(torch.equal, again(x), net(x)))

    @pytest.mark.parametrize("seed", range(3))
    def test_any_graph(self, seed, tmp_path):
        graph = recurrent_graph(seed).with_values()
        graph = graph.with_constraints(sign=np.random.default_rng(seed).integers(-1, 2, graph.num_edges))
        net = fw.Recurrent(graph, dtype=torch.float64)
        fw.save(net, tmp_path / "net.safetensors")
        again = fw.load(tmp_path / "net.safetensors")
        assert again.graph.wiring_hash == graph.wiring_hash
        assert again.graph.sign.tolist() == graph.sign.tolist()
        assert (again.batch_first, again.steps, again.leak, again.checkpoint_every) == (False, 1, None, None)
        x = torch.randn(4, 3, len(graph.inputs), dtype=torch.float64)
        assert all(map(torch.equal, again(x), net(x)))

    def test_an_older_version_does_not_take_it_for_a_network_without_delays(self, net, tmp_path):
        fw.save(net, tmp_path / "net.safetensors")
        content = (tmp_path / "net.safetensors").read_bytes()
        metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        assert metadata["format"] != "freewire network 1"

    @pytest.mark.parametrize(
        ("tensors", "metadata"),
        [
            ({"learnt_leak": torch.ones(7)}, {}),
            ({"learnt_leak": torch.ones(3, dtype=torch.float64)}, {}),
            ({"delay": torch.zeros(6, dtype=torch.int64)}, {}),  # a cycle without a delay
            ({"delay": torch.full((6,), -1)}, {"steps": "0"}),
            ({}, {"steps": "0"}),
            ({}, {"steps": "two"}),
            ({}, {"checkpoint_every": "-1"}),
            ({}, {"format": "freewire network 1", "checkpoint": "0"}),
        ],
    )
    def test_damaged_files(self, net, tensors, metadata, tmp_path):
        fw.save(net, tmp_path / "net.safetensors")
        content = (tmp_path / "net.safetensors").read_bytes()
        own = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
        save_file(load_file(tmp_path / "net.safetensors") | tensors, tmp_path / "bad.safetensors", own | metadata)
        with pytest.raises(fw.FileFormatError, match="expected the contents of a freewire network, got something else"):
            fw.load(tmp_path / "bad.safetensors")


class TestCommands:
    """``python -m freewire`` on recurrent networks."""

    def test_info_and_convert(self, net, tmp_path, capsys):
        fw.save(net, tmp_path / "net.safetensors")
        assert main(["info", str(tmp_path / "net.safetensors"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["kind"] == "network"
        assert main(["convert", str(tmp_path / "net.safetensors"), str(tmp_path / "wires.json")]) == 0
        graph = fw.read_graph(tmp_path / "wires.json")
        assert graph.delay.tolist() == RECURRENT.delay.tolist()
        assert main(["convert", str(tmp_path / "wires.json"), str(tmp_path / "again.safetensors")]) == 0
        assert isinstance(fw.load(tmp_path / "again.safetensors"), fw.Recurrent)

    def test_bench_says_what_it_cannot(self, net, tmp_path, capsys):
        fw.save(net, tmp_path / "net.safetensors")
        assert main(["bench", str(tmp_path / "net.safetensors")]) != 0
        assert "expected a network without delays, got a recurrent one" in capsys.readouterr().err


class TestPictures:
    """Edges that lead back."""

    def test_curves_are_finite_and_loops_are_seen(self):
        position = np.array([[0.0, 0], [1, 0], [2, 0], [0, 1]])
        points = curves(RECURRENT, position, np.arange(RECURRENT.num_edges))
        assert np.isfinite(points).all()
        src, dst = RECURRENT.edge_index
        loops = points[src == dst]
        assert len(loops) == 1
        assert np.ptp(loops[0], axis=0).min() > 0.5

    def test_all_kinds(self, net, tmp_path):
        assert "svg" in net._repr_svg_()
        assert "digraph" in fw.to_dot(net)
        fw.to_html(net, tmp_path / "net.html")
        assert fw.plot(net).has_data()

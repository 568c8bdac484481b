# SPDX-License-Identifier: MIT
"""benchmarks/suites/scaling.py and density.py: their graphs are as specified, and a quick run writes every row."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import freewire as fw
from benchmarks.harness import plots
from benchmarks.harness.correctness import WrongResultError
from benchmarks.harness.measure import Candidate, own
from benchmarks.peers.sequential import SequentialPeer
from benchmarks.suites import density, number_types, scaling

pytestmark = pytest.mark.usefixtures("one_thread")


class TestLayered:
    @pytest.mark.parametrize(
        ("edges", "depth"), [(10, 1), (1000, 1), (1000, 10), (1000, 100), (20_000, 100), (20_000, 2000)]
    )
    def test_edges_and_depth_are_exact(self, edges: int, depth: int) -> None:
        graph = scaling.layered(edges, depth)
        assert (graph.num_edges, graph.depth) == (edges, depth)
        assert graph.reaches_output[graph.computed_index].all()
        assert len(graph.outputs) == edges // scaling.FAN_IN // depth
        assert (np.bincount(graph.edge_index[1])[64:] == scaling.FAN_IN).all()

    def test_seed_fixes_the_graph(self) -> None:
        first, again, other = (scaling.layered(1000, 10, seed=seed).wiring_hash for seed in (1, 1, 2))
        assert first == again != other

    @pytest.mark.parametrize(("edges", "depth"), [(0, 1), (15, 1), (100, 3), (100, 0)])
    def test_edges_that_do_not_fit(self, edges: int, depth: int) -> None:
        with pytest.raises(ValueError, match=rf"edges: expected a multiple of 10 x depth {depth}, got {edges}"):
            scaling.layered(edges, depth)

    def test_every_point_can_be_built(self) -> None:
        points = scaling.points(scaling.CENTRE, scaling.LINES)
        assert len(points) == sum(map(len, scaling.LINES.values())) - 2
        assert points[scaling.CENTRE] == ["edges", "batch", "depth"]
        for point in points:
            assert point.edges % (scaling.FAN_IN * point.depth) == 0


class TestSparseLayers:
    @pytest.mark.parametrize("share", [0.005, 0.1, 1.0])
    def test_all_neurons_are_connected(self, share: float) -> None:
        sizes = (30, 200, 100, 10)
        graph = density.sparse_layers(sizes, share)
        assert graph.num_nodes == sum(sizes)
        assert graph.depth == 3
        assert graph.reaches_output.all()
        assert np.bincount(graph.level).tolist() == list(sizes)
        most = 30 * 200 + 200 * 100 + 100 * 10
        expected = share * most
        repaired = 310 + 330 if share < 0.1 else 0  # at most one added edge per neuron on either side
        assert -5 * expected**0.5 <= graph.num_edges - expected <= 5 * expected**0.5 + repaired

    def test_all_edges_are_dense_layers(self) -> None:
        assert SequentialPeer.refusal(fw.Network(density.sparse_layers((5, 7, 3), 1.0))) is None

    @pytest.mark.parametrize("share", [0.0, 1.5, float("nan")])
    def test_density_out_of_range(self, share: float) -> None:
        with pytest.raises(ValueError, match=f"density: expected a number above 0 and at most 1, got {share}"):
            density.sparse_layers((2, 2), share)

    @pytest.mark.parametrize(
        ("ratios", "at"),
        [
            ([4.0, 2.0, 0.5], 0.1),  # halfway between 0.05 and 0.2 in logarithms
            ([4.0, 2.0, 1.5], None),
            ([0.9, 0.5, 0.2], None),
            ([2.0, 0.5, 0.9], 0.0223607),
            ([0.5, 2.0, 0.5], 0.1),
        ],
    )
    def test_crossover(self, ratios: list[float], at: float | None) -> None:
        found = density.crossover((0.01, 0.05, 0.2), ratios)
        assert found == (at if at is None else pytest.approx(at, rel=1e-4))


@pytest.mark.slow
class TestQuickRuns:
    def test_scaling(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        path = tmp_path / "new" / "scaling.json"
        scaling.main(["--quick", "--json", str(path), "--images", str(tmp_path / "img")])
        content = json.loads(path.read_text())
        assert content["quick"] is True
        assert content["machine"]["probe"]["best"] > 0
        wanted = scaling.points(scaling._QUICK_CENTRE, scaling._QUICK_LINES)
        assert len(content["rows"]) == len(wanted) * 2 * 2
        for row in content["rows"]:
            point = scaling.Point(row["edges"], row["batch"], row["depth"])
            assert row["lines"] == wanted[point]
            assert row["ns_per_edge_sample"] == pytest.approx(row["median"] * 1e9 / point.edges / point.batch)
        drawn = (tmp_path / "img" / "scaling.svg").read_text()
        assert plots.digest(content) in drawn

    def test_density(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        path = tmp_path / "density.json"
        density.main(["--quick", "--json", str(path), "--images", str(tmp_path), "--threads", "1"])
        content = json.loads(path.read_text())
        kinds = {(row["density"], row["measure"], row["candidate"]) for row in content["rows"]}
        assert len(kinds) == len(content["rows"]) == 2 * 2 * 2
        assert all(row["median"] > 0 and row["kept"] >= 0.5 * row["density"] for row in content["rows"])
        assert [cross["measure"] for cross in content["crossovers"]] == ["forward", "step"]
        assert plots.digest(content) in (tmp_path / "density.svg").read_text()

    def test_wrong_network_is_not_timed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def wrong(net: fw.Network) -> fw.Network:
            with torch.no_grad():
                net.bias[-1] += 0.01
            return net

        broken = Candidate("freewire", wrong, own().gradients)
        for module in (scaling, density):
            monkeypatch.setattr(module, "own", lambda: broken)
        with pytest.raises(WrongResultError):
            scaling.measure({scaling.Point(100, 3, 1): ["edges"]}, threads=[1], rounds=1, block=1e-4)
        with pytest.raises(WrongResultError):
            density.compare({"small": (3, 2)}, [1.0], rounds=1, threads=1, block=1e-4)


def test_number_types(capsys: pytest.CaptureFixture[str]) -> None:
    number_types.main(["--quick", "--rounds", "1"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| ms, MiB | float32 | bfloat16 | float16 | float64 |"
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| W1", "| W2", "| W3", "| W4"]
    for line in lines[2:]:
        cells = [cell.replace(",", " /").split(" / ") for cell in line.strip("| ").split(" | ")[1:]]
        assert [len(cell) for cell in cells] == [3] * 4
        memory = [float(cell[2]) for cell in cells]
        assert memory[1] == memory[2] < memory[0] < memory[3]

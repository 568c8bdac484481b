# SPDX-License-Identifier: MIT
"""docs/benchmarks.md matches benchmarks/results/ and names commands that exist; missing peers say how to get them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import freewire as fw
from benchmarks.harness import plots, report
from benchmarks.harness.command import spelled
from benchmarks.peers import PEERS, checkouts
from benchmarks.suites import cpu
from tests.benchmarks.test_peers import INSTALL
from tests.support import ROOT
from tests.support.benchmark_networks import mixed_network

MACHINE = {
    "cpu": "Chip",
    "cores": 2,
    "python": "3.11.7",
    "torch": "2.13.0",
    "commit": "abc",
    "peaks": {"flops": 2.34e11, "levels": [{"name": "L1", "random": 3.9e11}, {"name": "memory", "random": 2.8e10}]},
    "probe": {"best": 0.01, "median": 0.0105, "worst": 0.03, "runs": 9, "sick": 1, "share": 0.25, "unit": "s"},
}


def timing(median: float, sick: int = 0, **more: Any) -> dict[str, Any]:
    return {"median": median, "iqr": median / 10, "runs": 5, "sick": sick, "repeated": 0, "slowdown": 1.0, **more}


def results() -> report.Results:
    """Invented figures of every kind."""
    about = {"workload": "W1", "about": "random_graph(1)", "batch": 256}
    limit = {"seconds": 0.0015, "reached": 0.75}
    cpu = [
        {**about, "candidate": "freewire", "measure": "forward", **timing(0.002, ratio=1.0), "roofline": limit},
        {**about, "candidate": "peer", "measure": "forward", **timing(0.01, sick=2, ratio=5.0)},
        {**about, "candidate": "peer", "measure": "step", "refusal": "no gradients"},
        {**about, "candidate": "freewire", "measure": "step", **timing(0.004, ratio=1.0)},
        {**about, "candidate": "other", "refusal": "not installed"},
    ]
    scaling = [
        {
            "lines": lines,
            "edges": edges,
            "batch": batch,
            "depth": 10,
            "threads": 2,
            "measure": "forward",
            **timing(1e-10 * edges * batch),
            "ns_per_edge_sample": 0.1,
        }
        for edges, batch, lines in (
            (1000, 8, ["edges"]),
            (10_000, 8, ["edges", "batch"]),
            (100_000, 8, ["edges"]),
            (10_000, 80, ["batch"]),
        )
    ]
    density = [
        {
            "network": "wide",
            "density": share,
            "edges": int(1000 * share),
            "candidate": label,
            "measure": "forward",
            **timing(0.001 * ratio, ratio=ratio),
        }
        for share, dense in ((0.1, 2.0), (1.0, 0.5))
        for label, ratio in (("freewire", 1.0), ("dense MLP", dense))
    ]
    shared = {"quick": False, "machine": MACHINE, "command": "python -m benchmarks.x"}
    cross = [{"network": "wide", "measure": "forward", "density": 0.3162}]
    return {
        "cpu": {**shared, "rows": cpu},
        "scaling": {**shared, "rows": scaling},
        "density": {**shared, "rows": density, "crossovers": cross},
    }


class TestPage:
    def test_the_page_in_the_docs_is_made_from_the_results(self) -> None:
        assert (ROOT / "docs" / "benchmarks.md").read_text() == report.page(
            report.read(ROOT / "benchmarks" / "results")
        )

    def test_the_plots_in_the_docs_show_the_results(self) -> None:
        found = report.read(ROOT / "benchmarks" / "results")
        for name in ("scaling", "density"):
            path = ROOT / "docs" / "img" / f"{name}.svg"
            assert path.exists() == (name in found)
            if name in found:
                assert plots.digest(found[name]) in path.read_text()

    def test_commands_on_the_page_exist(self) -> None:
        page = (ROOT / "docs" / "benchmarks.md").read_text()
        modules = {*re.findall(r"python -m ([\w.]+)", page), *re.findall(r"python -m ([\w.]+)", str(report.COMMANDS))}
        assert len(modules) >= 5
        for module in modules:
            path = ROOT / (module.replace(".", "/") + ".py")
            assert 'if __name__ == "__main__":' in path.read_text(), module

    def test_every_figure_is_on_the_page(self) -> None:
        page = report.page(results())
        assert "| freewire | 2 ± 5 % (1x) |" in page
        assert "| limit of freewire | 1.5 (75%) |" in page
        assert "limit of peer" not in page
        assert "in the same run: 234 GFLOP/s; random rows of 256 bytes in GB/s: L1 390, memory 28." in page
        assert "| peer | 10 ± 5 % (5x) ! |" in page
        assert "- peer, W1 (step): no gradients" in page
        assert "- other, W1: not installed" in page
        assert "| 100,000 | 8 | 10 | 0.1 (0.08) |" in page
        assert "1.00 in edges, 1.00 in batch" in page
        assert "| wide | 10 % | 100 | 1 ± 5 % (1x) | 2 ± 5 % (2x) |" in page
        assert "- wide, forward: 31.62%" in page
        assert "1 of 4 measurements are marked" not in page
        assert "1 of 3 measurements are marked" in page
        assert "Not measured yet: run `make bench-gpu`" in page

    def test_page_without_results_names_the_commands(self) -> None:
        page = report.page({})
        for command in report.COMMANDS.values():
            assert f"Not measured yet: run `{command}`." in page

    def test_session_slower_than_another_on_the_same_chip_is_reported(self) -> None:
        slow = results()
        probe = {**MACHINE["probe"], "best": 0.02}  # type: ignore[dict-item]
        slow["density"]["machine"] = {**MACHINE, "probe": probe}
        assert "Another session on this kind of processor was 2.00 times as fast" in report.page(slow)
        assert "Another session" not in report.page(results())

    def test_chip_with_results_is_linked(self) -> None:
        gpu = {"quick": False, "machine": {**MACHINE, "gpu": {"name": "NVIDIA H200"}}, "rows": []}
        assert "- [NVIDIA H200](../benchmarks/results/nvidia-h200.md)" in report.page({"nvidia-h200": gpu})

    def test_results_of_a_quick_run_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "cpu.json").write_text(json.dumps({**results()["cpu"], "quick": True}))
        with pytest.raises(ValueError, match=r"cpu.json: expected results of a full run, got those of a quick one"):
            report.read(tmp_path)

    def test_command_writes_page_and_plots(self, tmp_path: Path) -> None:
        pytest.importorskip("matplotlib")
        for name, content in results().items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content))
        (tmp_path / "docs").mkdir()
        report.main(["--results", str(tmp_path), "--docs", str(tmp_path / "docs")])
        assert (tmp_path / "docs" / "benchmarks.md").read_text() == report.page(results())
        for name in ("scaling", "density"):
            drawn = (tmp_path / "docs" / "img" / f"{name}.svg").read_text()
            assert plots.digest(results()[name]) in drawn
            first = drawn
            report.main(["--results", str(tmp_path), "--docs", str(tmp_path / "docs")])
            assert (tmp_path / "docs" / "img" / f"{name}.svg").read_text() == first


class TestAbsentPeers:
    def test_each_says_how_to_get_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        for name in checkouts.CHECKOUTS:
            monkeypatch.setitem(checkouts.CHECKOUTS, name, None)
        absent = {peer.label: peer.refusal(mixed_network()) for peer in PEERS}
        found = {label: text for label, text in absent.items() if text is not None and INSTALL.search(text)}
        assert set(found) == {"numba loop", "jax", "deepstruct", "Freewire of 2019", "TensorNEAT", "PyTorch-NEAT"}
        assert found["jax"] == "jax is not installed: pip install 'jax>=0.10'"
        assert found["TensorNEAT"] == (
            "no checkout given: git clone https://github.com/EMI-Group/tensorneat, then --checkout tensorneat=PATH"
        )

    def test_folder_with_other_contents_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(checkouts.CHECKOUTS, "tensorneat", tmp_path)
        assert "the given checkout has no folder src/tensorneat" in str(
            checkouts.absent("tensorneat", "src/tensorneat")
        )

    def test_modules_of_a_checkout_are_imported_without_their_package(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "inner").mkdir()
        (tmp_path / "inner" / "__init__.py").write_text("raise ImportError")
        (tmp_path / "inner" / "one.py").write_text("from .two import value")
        (tmp_path / "inner" / "two.py").write_text("value = 3")
        monkeypatch.setitem(checkouts.CHECKOUTS, "tensorneat", tmp_path)
        assert checkouts.load("tensorneat", "inner", "_invented_package", "one").value == 3

    @pytest.mark.parametrize("given", ["tensorneat", "tensorneat=/nowhere/at/all", "other=."])
    def test_argument_that_names_no_checkout(self, given: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit):
            cpu.main(["--checkout", given])
        said = re.sub(r"\s+", " ", capsys.readouterr().err)
        names = "freewire2019, tensorneat, pytorch-neat"
        assert f"expected NAME=PATH with NAME one of {names} and PATH a folder, got {given!r}" in said

    def test_recorded_command_names_no_folder(self) -> None:
        arguments = ["--all", "--checkout", "tensorneat=/home/me/it", "--json", "/home/a"]
        command = spelled("benchmarks.suites.cpu", arguments, checkouts.CHECKOUTS)
        assert command == "python -m benchmarks.suites.cpu --all --checkout tensorneat=PATH"

    def test_peers_say_what_they_cannot_express(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: True)
        for module in ("deepstruct_layers", "freewire2019", "pytorch_neat", "tensorneat", "jax_levels"):
            monkeypatch.setattr(f"benchmarks.peers.{module}.absent", lambda name, folder: None, raising=False)
        monkeypatch.setattr("benchmarks.peers.jax_levels.cores", lambda: 1000)
        found = {peer.label: str(peer.refusal(mixed_network())) for peer in PEERS}
        assert "edges skip layers" in found["deepstruct"]
        assert re.search(r"jax takes all 1000 cores, and \d+ thread\(s\) are asked for", found["jax"])
        monkeypatch.setattr("benchmarks.peers.tensorneat.why_no_jax", lambda net: None)
        by_label = {peer.label: peer for peer in PEERS}
        assert "outputs of several activations" in str(by_label["TensorNEAT"].refusal(mixed_network()))
        monkeypatch.setattr("benchmarks.peers.tensorneat._MOST_NODES", 5)
        assert "10 nodes in one network" in str(by_label["TensorNEAT"].refusal(mixed_network()))
        monkeypatch.setattr("benchmarks.peers.pytorch_neat._MOST_EDGES", 12)
        assert "13 edges at two torch calls each" in str(by_label["PyTorch-NEAT"].refusal(mixed_network()))
        monkeypatch.setattr("benchmarks.peers.freewire2019._MOST_NODES", 9)
        assert "10 nodes: its scheduling takes time quadratic" in str(
            by_label["Freewire of 2019"].refusal(mixed_network())
        )
        tanh = fw.Network(fw.generators.mlp([3, 3, 2], activation="tanh"))
        assert by_label["deepstruct"].refusal(tanh) == "its hidden layers are relu, its outputs linear"

# SPDX-License-Identifier: MIT
"""The search for a generator of RandWire's graphs, in its small form."""

from __future__ import annotations

import contextlib
import io
import statistics
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import matplotlib.image
import pytest

import freewire as fw
from tests.support.examples import REPEATS, imported

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def example() -> Iterator[types.ModuleType]:
    with imported("search_randwire") as module:
        module.REPEATS = REPEATS
        yield module


@pytest.fixture(scope="module")
def settings(example):
    return example.Settings(**example.QUICK)


def run(example, out: Path, *options: str) -> str:
    """Run the command in this process; return its output."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert example.main(["--quick", "--workers", "0", "--out", str(out), *options]) == 0
    return printed.getvalue()


class TestNetwork:
    @pytest.mark.parametrize(
        ("family", "made"), [("ER", fw.models.ER(0.4)), ("BA", fw.models.BA(3)), ("WS", fw.models.WS(2, 0.4))]
    )
    def test_generator(self, example, family, made):
        assert example.generator({"family": family, "p": 0.4, "k": 2, "m": 3}) == made

    def test_paper(self, example):
        assert example.generator(example.PAPER) == fw.models.WS(4, 0.75)

    def test_each_stage_draws_its_own_graph(self, example, settings):
        net, same, other = (example.build(example.PAPER, settings, seed) for seed in (5, 5, 6))
        edges = [stage.graph.edge_index.tolist() for stage in net.stages]
        assert edges == [stage.graph.edge_index.tolist() for stage in same.stages]
        every = [*edges, *(stage.graph.edge_index.tolist() for stage in other.stages)]
        assert len({str(each) for each in every}) == 6
        assert [stage.graph.num_nodes for stage in net.stages] == [settings.nodes] * 3

    def test_learns(self, example):
        settings = example.Settings(epochs=4, nodes=5, channels=16, train=600)
        reports = []
        value = example.accuracy_of(settings, example.PAPER, 0, lambda *report: reports.append(report))
        assert [step for step, _ in reports] == [0, 1, 2, 3]
        assert value == reports[-1][1] > 0.4


class TestCommand:
    def test_evolution(self, example, settings, tmp_path):
        out = tmp_path / "made" / "by itself"
        text = run(example, out)
        report = fw.search.report(out / "search.jsonl")
        assert report.header["strategy"] == "Evolved"
        assert report.header["settings"]["epochs"] == settings.epochs
        assert len(report.lines) == example.QUICK_TRIALS
        assert all(len(line["reports"]) == settings.epochs for line in report.ranked)
        for name, params in (("best", report.best["params"]), ("paper", example.PAPER)):
            lines = fw.search.read_log(out / f"{name}.jsonl").lines
            assert len(lines) == REPEATS
            assert all(line["params"] == params for line in lines)
            assert f"{statistics.mean(line['test'] for line in lines):6.1%} of the test digits" in text
        for name in ("search.png", "parameters.png"):
            assert matplotlib.image.imread(out / name).shape[0] > 500
        assert run(example, out).partition("paper: ")[2] == text.partition("paper: ")[2]

    def test_optuna(self, example, tmp_path):
        pytest.importorskip("optuna")
        run(example, tmp_path, "--strategy", "optuna")
        header, lines = fw.search.read_log(tmp_path / "search.jsonl")
        assert (header["strategy"], header["settings"]["pruner"]) == ("Sampled", "MedianPruner")
        assert len(lines) == example.QUICK_TRIALS

    def test_without_optuna(self, example, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(sys.modules, "optuna", None)
        assert example.main(["--quick", "--strategy", "optuna", "--out", str(tmp_path)]) == 2
        assert capsys.readouterr().err == (
            "optuna: expected it to be installed, got no such package. Run: pip install 'freewire[search]'.\n"
        )

    def test_pruner(self, example, settings):
        """It judges trials by the accuracy that they report, after half of the epochs."""
        pytest.importorskip("optuna")
        strategy = example.Sampled(settings)
        strategy.start(0)
        for trial in range(8):
            line = {"trial": trial, **strategy.propose(trial), "value": 0.9, "status": "finished", "seconds": 1.0}
            strategy.tell({**line, "reports": [[0, 0.9], [1, 0.9]]})
        line = {"trial": 8, **strategy.propose(8)}
        steps = []

        def slow(params, report):
            for step in range(2):
                report(step, 0.1)
                steps.append(step)

        (added,) = strategy.evaluate(slow, [line], [0], lambda *report: None)
        assert (added["value"], added["status"]) == (0.1, "pruned")
        assert steps == [0]

    @pytest.mark.parametrize(("argument", "value", "least"), [("trials", 0, 1), ("workers", -1, 0), ("seed", -1, 0)])
    def test_arguments(self, example, capsys, argument, value, least):
        with pytest.raises(SystemExit):
            example.main([f"--{argument}", str(value)])
        assert f"--{argument}: expected at least {least}, got {value}." in capsys.readouterr().err

    def test_other_search(self, example, tmp_path, capsys):
        run(example, tmp_path, "--trials", "1")
        assert example.main(["--quick", "--seed", "1", "--workers", "0", "--out", str(tmp_path)]) == 2
        assert "expected the log of a search with split 1, seed 1, got one with split 0, seed 0." in (
            capsys.readouterr().err
        )

    def test_stopped(self, example, tmp_path, monkeypatch, capsys):
        def stop(*arguments):
            raise KeyboardInterrupt("search.jsonl holds 3 trials")

        monkeypatch.setattr(example.fw.search, "run", stop)
        assert example.main(["--quick", "--out", str(tmp_path)]) == 130
        assert capsys.readouterr().err == "\nStopped. search.jsonl holds 3 trials.\n"

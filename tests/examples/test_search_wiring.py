# SPDX-License-Identifier: MIT
"""The wiring search: its trials, its report, and that it continues after any end. Its log: test_search_log.py."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
import scipy.stats
import torch
from matplotlib.colors import to_rgb
from torch.utils.flop_counter import FlopCounterMode

import freewire as fw
from tests.support import ROOT
from tests.support.examples import REPEATS

TRIALS = 8


pytestmark = pytest.mark.usefixtures("one_thread")


def run(example, settings, trials, path) -> tuple[dict, str]:
    """Search without processes; return the log's results and the tables."""
    with example.log.Log(path, asdict(settings)) as log, ThreadPoolExecutor(1) as pool:
        return log.results, example.wiring.search(settings, trials, log, pool)


@pytest.fixture(scope="module")
def whole(example, quick, tmp_path_factory) -> tuple[dict, str]:
    """An uninterrupted search: the log's results and the tables."""
    return run(example, quick, TRIALS, tmp_path_factory.mktemp("whole") / "search.jsonl")


def contents(path: Path) -> tuple[dict, dict]:
    """The header, and the results by (trial, repeat) without the times."""
    header, *lines = map(json.loads, path.read_text().splitlines())
    return header, timeless({(line["trial"], line["repeat"]): line for line in lines})


def timeless(results: dict) -> dict:
    return {key: {name: v for name, v in result.items() if name != "seconds"} for key, result in results.items()}


def result(trial: int, repeat: int = 0, **values) -> dict:
    """A line of the log."""
    families = ({"family": "ER", "parameters": {"p": 0.2}}, {"family": "BA", "parameters": {"m": 3}})
    families += ({"family": "WS", "parameters": {"k": 4, "p": 0.5}},)
    measured = {"edges": 9 + trial, "depth": 5, "clustering": 0.1 * trial, "path_length": 3 - 0.1 * trial}
    measured |= {"weights": 1000, "multiply_adds": 2000, "validation": 0.9 + 0.01 * trial, "validation_loss": 0.1}
    return {"trial": trial, "repeat": repeat, **families[trial % 3], **measured, **values}


class TestTrial:
    """Training and measuring a network."""

    def test_split(self, example):
        parts = example.trial.load_digits(example.trial.Settings())
        assert [len(part.y) for part in parts] == [600, 600, 597]
        images = {part.x[i].numpy().tobytes() for part in parts for i in range(len(part.y))}
        assert len(images) == 1797  # all images differ, so none is in two parts
        shares = [np.bincount(part.y) / len(part.y) for part in parts]
        np.testing.assert_allclose(shares[1:], [shares[0]] * 2, atol=0.005)

    def test_depends_only_on_its_number(self, example, quick, whole):
        torch.manual_seed(99)
        again = {(5, repeat): example.trial.run_trial(quick, 5, repeat) for repeat in (1, 0)}
        again = timeless(again)
        assert again[5, 0] == timeless(whole[0])[5, 0]
        assert "test" not in again[5, 0]
        assert 0 < again[5, 1]["test"] < 1
        same = ("parameters", "edges", "clustering", "path_length", "depth", "weights")
        assert all(again[5, 0][name] == again[5, 1][name] for name in same)
        assert again[5, 0]["validation_loss"] != again[5, 1]["validation_loss"]

    def test_learns(self, example):
        settings = example.trial.Settings(epochs=4, nodes=8, train=1000)
        assert example.trial.run_trial(settings, 0)["validation"] > 0.6

    def test_statistics_are_those_of_the_graph(self, example, quick, whole):
        graph = fw.Graph.from_networkx(example.trial.candidate(0, 4).draw(quick.nodes))
        line = whole[0][4, 0]
        assert line["clustering"] == fw.metrics.clustering(graph)
        assert line["path_length"] == fw.metrics.path_length(graph)
        assert (line["edges"], line["depth"]) == (graph.num_edges, graph.depth)

    def test_costs_differ_only_by_edges(self, example, quick, whole):
        lines = [line for (_, repeat), line in whole[0].items() if repeat == 0]
        assert len({line["edges"] for line in lines}) > 3
        assert len({line["weights"] - line["edges"] for line in lines}) == 1
        assert len({line["multiply_adds"] - line["edges"] * 16 * quick.channels for line in lines}) == 1
        dag = example.trial.candidate(0, 4).draw(quick.nodes)
        with FlopCounterMode(display=False) as counter:
            example.trial.build(dag, quick.channels)(torch.rand(1, 1, 8, 8))
        without_edges = whole[0][4, 0]["multiply_adds"] - whole[0][4, 0]["edges"] * 16 * quick.channels
        assert counter.get_total_flops() == 2 * without_edges

    def test_loss_is_nan(self, example):
        digits = example.trial.Digits(torch.full((4, 1, 8, 8), math.nan), torch.zeros(4, dtype=torch.int64))
        net = example.trial.build(example.trial.candidate(0, 0).draw(8), 4)
        with pytest.raises(FloatingPointError, match=r"^loss: expected a finite number, got nan in epoch 0\.$"):
            example.trial.train(net, digits, epochs=1)

    def test_failure_is_reported(self, example, quick):
        made = example.trial.candidate(0, 4)
        line = example.trial.run_trial(replace(quick, nodes=made.parameters["m"]), 4)
        assert line.pop("seconds") >= 0
        message = line.pop("failed")
        assert message.startswith("GraphError: n: expected")
        assert line == {"trial": 4, "repeat": 0, "family": "BA", "parameters": made.parameters}


class TestReport:
    """Tables and the picture."""

    @pytest.mark.parametrize("values", [range(7), (3, 1, 3, 2, 2, 3, 0)])
    def test_rank_correlation(self, example, values):
        ys = [0.3, 0.1, 0.4, 0.1, 0.5, 0.9, 0.2]
        assert example.report.spearman(values, ys) == pytest.approx(scipy.stats.spearmanr(values, ys).statistic)
        assert math.isnan(example.report.spearman([1] * 7, ys))
        assert math.isnan(example.report.spearman([1, 2], [1, 2]))

    def test_ranking(self, example):
        lines = [result(0), result(1, validation=0.9), result(2, validation=0.9, validation_loss=0.05)]
        lines += [{"trial": 3, "repeat": 0, "family": "ER", "parameters": {"p": 0.1}, "failed": "no"}]
        assert [line["trial"] for line in example.report.ranked(lines)] == [2, 0, 1]

    def test_tables(self, example):
        failed = {"trial": 9, "repeat": 0, "family": "ER", "parameters": {"p": 0.12}, "failed": "GraphError: thin"}
        text = example.report.tables([*map(result, range(9)), failed])
        lines = [" ".join(line.split()) for line in text.splitlines()]
        assert lines[1] == "WS(k=4, p=0.5) 8 17 5 0.800 2.200 1,000 2,000 98.0%"
        assert lines[5].startswith("BA(m=3) 4 ")
        accuracies = [90, 93, 96]
        means = (
            f"ER 3 12.0 0.300 2.700 {statistics.mean(accuracies):.1f}% (± {statistics.stdev(accuracies):.1f} points)"
        )
        assert means in lines
        assert "all 9 +1.00 -1.00 +1.00 -" in lines
        assert "By chance alone, 'all' stays within ±0.69 in 19 of 20 cases." in lines
        assert lines[-1] == "Trial 9, ER(p=0.12), failed: GraphError: thin"

    def test_nothing_finished(self, example):
        failed = {"trial": 0, "repeat": 0, "family": "ER", "parameters": {"p": 0.1}, "failed": "GraphError: thin"}
        assert example.report.tables([failed]) == (
            "No trial has finished.\nTrial 0, ER(p=0.1), failed: GraphError: thin"
        )

    def test_comparison(self, example):
        winner = [result(5), result(5, 1, validation=0.9, test=0.8), result(5, 2, validation=0.92, test=0.82)]
        median = [result(3), {**result(3), "repeat": 1, "failed": "no"}, {**result(3), "repeat": 2, "failed": "no"}]
        lines = [" ".join(line.split()) for line in example.report.comparison(winner, median).splitlines()]
        assert lines[1] == ("winner: WS(k=4, p=0.5), trial 5 95.0% 91.0% (± 1.4 points) 81.0% (± 1.4 points)")
        assert lines[2] == "median: ER(p=0.2), trial 3 93.0% failed failed"
        assert "over 2 seeds" in lines[3]

    def test_picture(self, example, tmp_path):
        path = tmp_path / "search.png"
        example.report.draw([result(trial) for trial in range(9)], path)
        picture = matplotlib.image.imread(path)[..., :3]
        height, width = picture.shape[:2]
        assert width > 1000
        assert height > 500
        for _, colour, _ in example.report.LOOKS.values():
            shade = 0.8 * np.array(to_rgb(colour)) + 0.2  # on white
            shown = (np.abs(picture - shade).max(axis=-1) < 0.02).nonzero()
            left, right = ((shown[1] < width / 2).sum(), (shown[1] > width / 2).sum())
            assert min(left, right) > 60  # of each family, in either panel

    def test_picture_without_results(self, example, tmp_path):
        example.report.draw([], tmp_path / "search.png")
        assert (tmp_path / "search.png").stat().st_size > 1000


class TestSearch:
    """From trials to tables."""

    def test_missing_trials_run(self, example, quick, whole, tmp_path):
        """As after a request for more trials, or an interruption while the winner was retrained."""
        path = tmp_path / "search.jsonl"
        known = [(trial, 0) for trial in (0, 1, 4, 5, 6)] + sorted(key for key in whole[0] if key[1])[:3]
        with example.log.Log(path, asdict(quick)) as log:
            for key in known:
                log.append({**whole[0][key], "seconds": -1})
        results, text = run(example, quick, TRIALS, path)
        assert text == whole[1]
        assert timeless(results) == timeless(whole[0])
        assert [key for key, line in results.items() if line["seconds"] == -1] == known

    def test_only_winner_and_median_are_tested(self, example, whole):
        results, text = whole
        order = example.report.ranked([results[trial, 0] for trial in range(TRIALS)])
        expected = {(order[i]["trial"], repeat) for i in (0, TRIALS // 2) for repeat in range(1, REPEATS + 1)}
        assert {key for key in results if key[1]} == expected
        assert {key for key, line in results.items() if "test" in line} == expected
        mean = statistics.mean(results[order[0]["trial"], repeat]["test"] for repeat in range(1, REPEATS + 1))
        winner = next(line for line in text.splitlines() if line.startswith("winner: "))
        assert f"{mean:.1%} (" in winner

    def test_continues_after_failures(self, example, quick, tmp_path):
        """With 6 nodes some parameters are not possible."""
        results, text = run(example, replace(quick, nodes=6, epochs=1), TRIALS, tmp_path / "search.jsonl")
        failed = [trial for trial in range(TRIALS) if "failed" in results[trial, 0]]
        assert 0 < len(failed) < TRIALS
        assert all(f"\nTrial {trial}, " in text for trial in failed)
        assert "winner: " in text

    def test_all_trials_fail(self, example, quick, tmp_path):
        _, text = run(example, replace(quick, epochs=-1), 2, tmp_path / "search.jsonl")
        assert text.startswith("No trial has finished.\nTrial 0, ")


class TestCommand:
    """Arguments, all ways to end, and processes."""

    @pytest.mark.parametrize(
        ("argument", "value", "least"), [("trials", 0, 1), ("workers", 0, 1), ("epochs", 0, 1), ("seed", -1, 0)]
    )
    def test_arguments(self, example, capsys, argument, value, least):
        with pytest.raises(SystemExit):
            example.wiring.main([f"--{argument}", str(value)])
        assert f"--{argument}: expected at least {least}, got {value}." in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("error", "status", "message"),
        [
            (
                KeyboardInterrupt(),
                130,
                "Stopped. {path} holds 0 finished trials; the same command continues from there.",
            ),
            (
                BrokenProcessPool(),
                1,
                "A worker died, perhaps out of memory (then use fewer --workers). {path} holds",
            ),
            (fw.InputError("x: expected"), 2, "x: expected"),
        ],
    )
    def test_ends(self, example, tmp_path, monkeypatch, capsys, error, status, message):
        def fail(*arguments):
            raise error

        monkeypatch.setattr(example.wiring, "search", fail)
        assert example.wiring.main(["--quick", "--out", str(tmp_path)]) == status
        assert message.format(path=tmp_path / "search.jsonl") in capsys.readouterr().err

    def test_options_are_settings(self, example, tmp_path, monkeypatch):
        def look(settings, trials, *others):
            seen.append((settings, trials))
            raise KeyboardInterrupt

        seen: list = []
        monkeypatch.setattr(example.wiring, "search", look)
        options = {"a": ["--quick"], "b": ["--quick", "--epochs", "7", "--seed", "3"], "c": ["--trials", "9"]}
        for name, words in options.items():
            example.wiring.main([*words, "--out", str(tmp_path / name)])
        quick = example.trial.Settings(**example.wiring.QUICK)
        assert seen == [(quick, 6), (replace(quick, epochs=7, seed=3), 6), (example.trial.Settings(), 9)]
        for name, (settings, _) in zip(options, seen, strict=True):
            assert contents(tmp_path / name / "search.jsonl")[0]["settings"] == asdict(settings)

    def test_other_settings_end_it(self, example, tmp_path, monkeypatch, capsys):
        def look(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(example.wiring, "search", look)
        example.wiring.main(["--quick", "--out", str(tmp_path)])
        assert example.wiring.main(["--quick", "--seed", "1", "--out", str(tmp_path)]) == 2
        assert "started with, seed 0, got seed 1. Continue with" in capsys.readouterr().err

    @pytest.fixture
    def started(self, tmp_path):
        """Start the command in its own process group, which is killed at the end of the test."""
        command = [sys.executable, str(ROOT / "examples" / "search_wiring.py"), "--quick", "--out", str(tmp_path)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
        running = []

        def accept_interrupts() -> None:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

        def start(*options: str) -> subprocess.Popen:
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
            running.append(
                subprocess.Popen(
                    [*command, *options],
                    env=environment,
                    start_new_session=True,
                    preexec_fn=accept_interrupts,  # tests run in the background may inherit an ignored SIGINT
                    **pipes,
                )
            )
            return running[-1]

        yield start
        for process in running:
            if process.poll() is None or not process.stdout.closed:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
            process.stdout.close()
            process.wait()

    @staticmethod
    def wait_for_lines(path: Path, count: int) -> None:
        end = time.monotonic() + 120
        while not path.exists() or path.read_bytes().count(b"\n") < count:
            assert time.monotonic() < end, "the search does not start"
            time.sleep(0.01)

    @pytest.mark.slow
    def test_killed_and_resumed(self, example, whole, started, tmp_path, capsys):
        """Two workers, SIGKILL, a truncated line, then one worker give the results of an uninterrupted search."""
        path = tmp_path / "search.jsonl"
        process = started("--trials", "5000", "--workers", "2")
        self.wait_for_lines(path, 4)
        process.kill()
        process.communicate(timeout=60)  # returns when all processes have exited
        assert process.returncode == -signal.SIGKILL
        lines = path.read_bytes().splitlines(keepends=True)
        kept = b"".join(lines[:4])  # as if killed earlier: some trials are done, one is incomplete
        path.write_bytes(kept + lines[4][:50] if len(lines) > 4 else kept + b'{"trial": 3, "re')

        assert example.wiring.main(["--quick", "--trials", str(TRIALS), "--workers", "1", "--out", str(tmp_path)]) == 0
        header, results = contents(path)
        assert path.read_bytes().startswith(kept)
        assert header["settings"] == asdict(example.trial.Settings(**example.wiring.QUICK))
        assert results == timeless(whole[0])
        assert whole[1] in capsys.readouterr().out
        assert matplotlib.image.imread(tmp_path / "search.png").shape[1] > 1000

    @pytest.mark.slow
    def test_interrupted(self, started, tmp_path):
        """Ctrl-C while the workers start; a terminal sends it to them as well."""
        process = started("--trials", "5000", "--workers", "1")
        self.wait_for_lines(tmp_path / "search.jsonl", 1)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 130
        assert "Traceback" not in output
        assert "finished trials; the same command continues from there." in output

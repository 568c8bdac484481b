# SPDX-License-Identifier: MIT
"""The wiring search: its tables, and that it continues after any end. Its trials: test_search_candidates.py."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import matplotlib.image
import pytest

import freewire as fw
from tests.support import ROOT
from tests.support.examples import REPEATS

TRIALS = 8

pytestmark = pytest.mark.usefixtures("one_thread")


def lines_of(path: Path) -> tuple[dict, dict]:
    """The header, and the lines by trial without the times."""
    header, lines = fw.search.read_log(path)
    return header, {line["trial"]: {name: v for name, v in line.items() if name != "seconds"} for line in lines}


def result(trial: int, **values) -> dict:
    """A line of the log."""
    measured = {"edges": 9 + trial, "depth": 5, "clustering": 0.1 * trial, "path_length": 3 - 0.1 * trial}
    return {
        "trial": trial,
        "params": {"family": ("ER", "BA", "WS")[trial % 3], "density": 0.5, "rewiring": 0.5, "graph_seed": 1},
        "value": 0.9 + 0.01 * trial,
        "status": "finished",
        "seconds": 1.0,
        "graph": measured,
        "weights": 1000 + trial,
        "multiply_adds": 2000,
        **values,
    }


FAILED = {"value": None, "status": "failed", "error": "GraphError: thin"}


@pytest.fixture(scope="module")
def whole(example, tmp_path_factory) -> tuple[Path, str]:
    """An uninterrupted command's folder and output."""
    out = tmp_path_factory.mktemp("whole") / "made" / "by itself"
    return out, run(example, out)


def run(example, out: Path, *options: str) -> str:
    """Run the command in this process; return its output, without the lines of its progress."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        words = ["--quick", "--trials", str(TRIALS), "--workers", "0", "--out", str(out), *options]
        assert example.wiring.main(words) == 0
    return "".join(row for row in printed.getvalue().splitlines(True) if not row.startswith("trial "))


class TestReport:
    """Tables."""

    def test_tables(self, example):
        report = fw.search.report([*map(result, range(9)), result(9, **FAILED)])
        lines = [" ".join(line.split()) for line in example.report.tables(report).splitlines()]
        accuracies = [90, 93, 96]
        means = f"{statistics.mean(accuracies):.1f}% (± {statistics.stdev(accuracies):.1f} points)"
        assert f"ER 3 12.0 5.0 0.300 2.700 {means}" in lines
        assert "all 9 +1.00 - +1.00 -1.00" in lines
        assert lines[-1] == "Cost: 1,000 to 1,008 weights, 2,000 to 2,000 multiply-adds per image."

    def test_families_without_results_are_left_out(self, example):
        text = example.report.tables(fw.search.report([result(0), result(1, **FAILED)]))
        assert "\nER" in text
        assert "\nBA" not in text
        assert "(one only)" in text

    def test_comparison(self, example):
        winner = result(5), [result(0, value=0.9, test=0.8), result(1, value=0.92, test=0.82)]
        median = result(3), [result(0, **FAILED), result(1, **FAILED)]
        lines = [" ".join(line.split()) for line in example.report.comparison(winner, median).splitlines()]
        assert lines[1] == "winner: WS(k=6, p=0.5), trial 5 95.0% 91.0% (± 1.4 points) 81.0% (± 1.4 points)"
        assert lines[2] == "median: ER(p=0.26), trial 3 93.0% failed failed"
        assert "over 2 seeds" in lines[3]


class TestSearch:
    """From trials to tables."""

    def test_logs(self, example, quick, whole):
        out, _ = whole
        header, lines = lines_of(out / "search.jsonl")
        assert (header["strategy"], header["seed"]) == ("RandomWirings", 0)
        assert set(asdict(quick).items()) <= set(
            (name, value) for name, value in header["settings"].items() if name != "space"
        )
        assert sorted(lines) == list(range(TRIALS))
        trial = lines[3]
        seed = fw.search.trial_seed(0, 3)
        again = example.trial.run_trial(quick, trial["params"], seed)
        assert {**trial, **again} == trial

    def test_only_winner_and_median_are_retrained_and_tested(self, example, quick, whole):
        out, text = whole
        ranked = fw.search.report(out / "search.jsonl").ranked
        chosen = [ranked[0], ranked[TRIALS // 2]]
        assert {path.name for path in out.glob("trial*.jsonl")} == {f"trial{line['trial']}.jsonl" for line in chosen}
        assert all("test" not in line for line in ranked)
        losses = {line["validation_loss"] for line in ranked}
        for title, line in zip(("winner", "median"), chosen, strict=True):
            _, repeats = lines_of(out / f"trial{line['trial']}.jsonl")
            assert sorted(repeats) == list(range(REPEATS))
            assert all(repeat["params"] == line["params"] for repeat in repeats.values())
            losses |= {repeat["validation_loss"] for repeat in repeats.values()}
            row = next(row for row in text.splitlines() if row.startswith(f"{title}: "))
            mean = statistics.mean(repeat["test"] for repeat in repeats.values())
            assert f"trial {line['trial']} " in row
            assert f"{mean:.1%} (" in row.replace("  ", " ")
        assert len(losses) == TRIALS + 2 * REPEATS  # all with weights of their own

    def test_picture_and_tables(self, whole):
        out, text = whole
        assert matplotlib.image.imread(out / "search.png").shape[1] > 1000
        assert "RandomWirings, seed 0: 8 trials (8 finished)" in text
        assert "Cost: " in text

    def test_missing_trials_run(self, example, whole, tmp_path):
        """As after a request for more trials, or an interruption while the winner was retrained."""
        out, text = whole
        for path in out.glob("*.jsonl"):
            header, *lines = path.read_text().splitlines(keepends=True)
            kept = lines[:1] + lines[2:4] if path.name == "search.jsonl" else lines[:1]
            (tmp_path / path.name).write_text("".join([header, *kept]))
        tables = run(example, tmp_path).partition("\nmeans")[2]
        assert tables.replace(str(tmp_path), str(out)) == text.partition("\nmeans")[2]
        for path in out.glob("*.jsonl"):
            assert lines_of(tmp_path / path.name) == lines_of(path)

    def test_evolution(self, example, tmp_path):
        """The first of the population are random, and then each has one parameter changed."""
        run(example, tmp_path, "--strategy", "evolution", "--trials", "18", "--epochs", "1")
        header, lines = lines_of(tmp_path / "search.jsonl")
        assert header["strategy"] == "EvolvedWirings"
        parents = [line["params"] for trial, line in lines.items() if trial < 16]
        for child in (16, 17):
            params = lines[child]["params"]
            assert min(sum(params[name] != parent[name] for name in params) for parent in parents) == 1

    def test_trials_fail(self, example, quick, tmp_path):
        """With 6 nodes some parameters are not possible."""
        report = example.wiring.search(replace(quick, nodes=6, epochs=1), "random", TRIALS, 0, tmp_path, 0)
        assert 0 < report.counts["failed"] < TRIALS
        assert "GraphError: " in str(report)

    def test_all_trials_fail(self, example, tmp_path, monkeypatch, capsys):
        monkeypatch.setitem(example.wiring.QUICK, "nodes", 1)
        words = ["--quick", "--trials", "2", "--workers", "0", "--out", str(tmp_path)]
        assert example.wiring.main(words) == 2
        assert "expected a number from at least one trial, got none (2 failed" in capsys.readouterr().err


class TestCommand:
    """Arguments, all ways to end, and processes."""

    @pytest.mark.parametrize(
        ("argument", "value", "least"), [("trials", 0, 1), ("workers", -1, 0), ("epochs", 0, 1), ("seed", -1, 0)]
    )
    def test_arguments(self, example, capsys, argument, value, least):
        with pytest.raises(SystemExit):
            example.wiring.main([f"--{argument}", str(value)])
        assert f"--{argument}: expected at least {least}, got {value}." in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("error", "status", "message"),
        [
            (KeyboardInterrupt("log holds 3 trials"), 130, "\nStopped. log holds 3 trials.\n"),
            (fw.InputError("x: expected"), 2, "x: expected\n"),
        ],
    )
    def test_ends(self, example, tmp_path, monkeypatch, capsys, error, status, message):
        def fail(*arguments):
            raise error

        monkeypatch.setattr(example.wiring, "search", fail)
        assert example.wiring.main(["--quick", "--out", str(tmp_path)]) == status
        assert capsys.readouterr().err == message

    def test_options_are_settings(self, example, tmp_path, monkeypatch):
        def look(*arguments):
            seen.append(arguments)
            raise KeyboardInterrupt

        seen: list = []
        monkeypatch.setattr(example.wiring, "search", look)
        options = {
            "a": ["--quick"],
            "b": ["--quick", "--epochs", "7", "--seed", "3", "--workers", "2"],
            "c": ["--trials", "9", "--strategy", "evolution"],
        }
        for name, words in options.items():
            example.wiring.main([*words, "--out", str(tmp_path / name)])
        quick = example.trial.Settings(**example.wiring.QUICK)
        assert seen == [
            (quick, "random", 6, 0, tmp_path / "a", None),
            (replace(quick, epochs=7, split=3), "random", 6, 3, tmp_path / "b", 2),
            (example.trial.Settings(), "evolution", 9, 0, tmp_path / "c", None),
        ]

    def test_other_settings_end_it(self, example, whole, capsys):
        words = ["--quick", "--epochs", "1", "--trials", str(TRIALS), "--workers", "0", "--out", str(whole[0])]
        assert example.wiring.main(words) == 2
        assert "expected the log of a search with epochs 1, got one with epochs 2." in capsys.readouterr().err

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
    def test_killed_and_resumed(self, example, whole, started, tmp_path):
        """Two workers, SIGKILL, a truncated line, then one worker give the results of an uninterrupted search."""
        path = tmp_path / "search.jsonl"
        process = started("--trials", "5000", "--workers", "2")
        self.wait_for_lines(path, 4)
        process.kill()
        process.communicate(timeout=60)  # returns when all processes have exited
        assert process.returncode == -signal.SIGKILL
        lines = path.read_bytes().splitlines(keepends=True)
        kept = b"".join(lines[:4])  # as if killed earlier: some trials are done, one is incomplete
        path.write_bytes(kept + lines[4][:50] if len(lines) > 4 else kept + b'{"trial": 3, "pa')

        run(example, tmp_path, "--workers", "1")
        assert path.read_bytes().startswith(kept)
        assert lines_of(path) == lines_of(whole[0] / "search.jsonl")

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
        assert " trials; the same call continues from there." in output

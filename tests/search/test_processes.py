# SPDX-License-Identifier: MIT
"""Worker processes: trials that hang, die or cannot begin, and workers that end with their parent."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest
import torch

import freewire as fw
from freewire.search import RandomSearch, read_log, run
from freewire.search.processes import Processes, available_cores
from freewire.search.trial import Where, pickled
from tests.search import objectives
from tests.search.disordered import as_text, timeless
from tests.search.strategies import Generations, Listed, near_three, near_three_on_all_cores
from tests.support import ROOT
from tests.support.messages import assert_refused


@pytest.fixture
def log(tmp_path):
    return tmp_path / "search.jsonl"


def search(log, objective, strategy, trials, **options):
    return run(objective, strategy, trials, log=log, progress=False, **options)


def only_here(monkeypatch, source):
    """A function of a module that no other process can import."""
    module = types.ModuleType("freewire_test_only_here")
    exec(source, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.objective


@pytest.mark.slow
class TestTrouble:
    def test_recorded_and_the_search_goes_on(self, log):
        """Two workers; those of hanging and of dying trials are replaced."""
        kinds = ["fine", "raises", "hangs", "nan", "dies", "text", "nothing", "quits", "exits", "cancelled", "better"]
        strategy = Listed([{"what": kind} for kind in kinds], lag=100)
        best = search(log, objectives.trouble, strategy, len(kinds), timeout=2.5, workers=2)
        assert best.value == 2
        assert best.counts == {"finished": 2, "failed": 6, "timeout": 1, "killed": 2}
        lines = {line["params"]["what"]: line for line in timeless(log).values()}
        assert len(lines) == len(kinds)
        assert lines["hangs"]["error"] == "timeout: the trial took longer than 2.5 seconds, so its process was killed"
        assert lines["dies"]["error"] == "killed: the trial's process ended by signal SIGKILL"
        assert lines["quits"]["error"] == "killed: the trial's process ended with exit status 7"
        assert lines["raises"]["error"].endswith("KeyError: 'no such thing'")
        assert lines["cancelled"]["error"].endswith("asyncio.exceptions.CancelledError")
        seconds = {line["params"]["what"]: line["seconds"] for line in read_log(log).lines}
        assert seconds["fine"] < 2.5 <= seconds["hangs"] < 10
        assert strategy.told == list(range(len(kinds)))

    def test_same_trials_as_in_one_process(self, tmp_path):
        """Also of a lambda, by value; two workers share the cores."""
        found = {}
        for workers in (0, 2):
            search(
                tmp_path / f"log{workers}",
                lambda params, seed, report: report(0, torch.get_num_threads()) or objectives.hilly_hill(params, seed),
                RandomSearch(objectives.SPACE),
                24,
                workers=workers,
            )
            lines = timeless(tmp_path / f"log{workers}")
            threads = {line.pop("reports")[0][1] for line in lines.values()}
            found[workers] = as_text(lines)
        assert found[0] == found[2]
        assert threads == {max(1, available_cores() // 2)}

    def test_batches(self, tmp_path):
        """One worker evaluates a batch at a time, with all cores."""
        best = [
            search(tmp_path / name, objective, Generations(), 24, workers=workers)
            for name, objective, workers in (("one", near_three, 0), ("other", near_three_on_all_cores, None))
        ]
        assert best[0].value == best[1].value
        assert as_text(timeless(tmp_path / "one")) == as_text(timeless(tmp_path / "other"))

    def test_cannot_import(self, log, monkeypatch):
        """One sentence, and no trial in the log."""
        function = only_here(monkeypatch, "def objective(params): return 1")
        expected = (
            r"objective: expected a function that workers can import, got one that they cannot \(ModuleNotFoundError: "
            r"No module named 'freewire_test_only_here'\)\. Define it, and what it needs, in a module"
        )
        strategy = RandomSearch(objectives.SPACE)
        assert_refused(lambda: search(log, function, strategy, 1000, workers=2), expected, fw.InputError)
        assert read_log(log).lines == []
        assert search(log, objectives.hill, strategy, 2, workers=0).counts == {"finished": 2}


@pytest.mark.slow
class TestStarts:
    def test_a_worker_that_never_starts(self, log, monkeypatch, capfd):
        """Its own message is on stderr."""
        monkeypatch.setattr("freewire.search.worker._work", quits)
        expected = (
            "workers: expected processes that start, got one that ended with exit status 5 before its first trial"
        )
        assert_refused(
            lambda: search(log, objectives.hill, RandomSearch(objectives.SPACE), 100, workers=1),
            expected,
            fw.InputError,
        )
        assert read_log(log).lines == []

    def test_workers_that_are_killed_as_they_start(self, log, monkeypatch):
        """As the system does when it is out of memory: some are replaced."""
        monkeypatch.setattr("freewire.search.worker._work", dies)
        expected = "workers: expected processes that start, got one that ended by signal SIGKILL before its first trial"
        assert_refused(
            lambda: search(log, objectives.hill, RandomSearch(objectives.SPACE), 100, workers=1),
            expected,
            fw.InputError,
        )


def quits(pipe, threads):
    """What a worker runs in a test."""
    os._exit(5)


def dies(pipe, threads):
    """The same."""
    os.kill(os.getpid(), signal.SIGKILL)


class TestPickling:
    def test_what_cannot_be_pickled(self, log, monkeypatch):
        lock = threading.Lock()
        expected = (
            r"objective: expected a function that worker processes can import, got TestPickling.*<locals>\.<lambda>\. "
            "Define it in a module, install cloudpickle, or pass workers=0"
        )
        strategy = RandomSearch(objectives.SPACE)
        assert_refused(lambda: search(log, lambda: 1 + lock.locked(), strategy, 3), expected, fw.InputError)
        assert search(log, lambda: 1 + lock.locked(), strategy, 3, workers=0).counts == {"finished": 3}

    def test_without_cloudpickle(self, log, monkeypatch):
        monkeypatch.setitem(sys.modules, "cloudpickle", None)
        assert pickled(objectives.hill, Where.CHILD) is not None
        with pytest.raises(fw.InputError, match="install cloudpickle"):
            search(log, lambda: 1, RandomSearch(objectives.SPACE), 3)

    def test_strategies(self, log, monkeypatch):
        strategy = Listed([{}])
        strategy.lock = threading.Lock()
        expected = "strategy: expected one that can be pickled for the workers, got Listed with what cannot"
        assert_refused(lambda: search(log, objectives.threads, strategy, 1), expected, fw.InputError)
        assert search(log, objectives.threads, strategy, 1, workers=0).trial == 0

    def test_functions_of_the_main_program(self, monkeypatch):
        """A worker of ours runs the main program's file, if it is one; a notebook's functions go by value."""
        main = types.ModuleType("__main__")
        exec("def objective(params): return 7", main.__dict__)
        monkeypatch.setitem(sys.modules, "__main__", main)
        by_value = pickled(main.objective, Where.CHILD)
        assert len(by_value) > 200
        main.__file__ = "script.py"
        assert len(pickled(main.objective, Where.CHILD)) < 100
        assert len(pickled(main.objective, Where.ANYWHERE)) > 200
        monkeypatch.setitem(sys.modules, "cloudpickle", None)
        assert len(pickled(main.objective, Where.ANYWHERE)) < 100  # a forked process knows it
        del main.__file__
        assert pickled(main.objective, Where.CHILD) is None
        assert len(pickled(main.objective, Where.HERE)) < 100
        monkeypatch.undo()
        assert Processes(objectives.hill, 1, 1, None).free


SCRIPT = """\
import os, sys, time
from freewire.search import RandomSearch, run

def objective(params):
    with open(os.path.join({folder!r}, str(os.getpid())), "w"):
        pass
    time.sleep(params["seconds"])
    return 1

if {guard}:
    run(objective, RandomSearch({{"seconds": [{seconds}]}}), 1000, log=os.path.join({folder!r}, "log"), workers=2)
"""


@pytest.fixture
def script(tmp_path):
    """Start a script that searches, in a process group of its own; none of its processes outlives the test."""
    folder = tmp_path / "pids"
    folder.mkdir()
    started = []

    def start(guard='__name__ == "__main__"', seconds=3600.0):
        path = tmp_path / "script.py"
        path.write_text(SCRIPT.format(folder=str(folder), guard=guard, seconds=seconds))
        started.append(
            subprocess.Popen(
                [sys.executable, str(path)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
                # tests that run in the background may inherit an ignored SIGINT
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        )
        return started[-1], folder

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()


def pids(folder, count):
    """The workers' process ids, once ``count`` of them have begun a trial."""
    end = time.monotonic() + 120
    while len(found := [int(path.name) for path in folder.iterdir() if path.name.isdigit()]) < count:
        assert time.monotonic() < end, "the workers do not start"
        time.sleep(0.02)
    return found


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
class TestEnds:
    def test_workers_end_with_a_killed_parent(self, script):
        """In the middle of their trials."""
        process, folder = script()
        workers = pids(folder, 2)
        process.kill()
        output, _ = process.communicate(timeout=60)  # returns when all that write to the pipe have ended
        assert process.returncode == -signal.SIGKILL
        assert output == ""
        end = time.monotonic() + 30
        while any(is_running(worker) for worker in workers):
            assert time.monotonic() < end
            time.sleep(0.02)

    def test_ctrl_c(self, script):
        """A terminal sends it to all processes: only the parent says something, and it says that all is kept."""
        process, folder = script()
        workers = pids(folder, 2)
        os.killpg(process.pid, signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert process.returncode == -signal.SIGINT
        assert output.count("Traceback") == 1
        assert output.endswith("log holds 0 trials; the same call continues from there\n")
        assert not any(is_running(worker) for worker in workers)

    def test_a_script_without_a_guard(self, script):
        process, folder = script(guard="True", seconds=0.0)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 1
        assert 'InputError: run: expected a call under `if __name__ == "__main__":`, got one by a worker' in output
        assert "InputError: workers: expected processes that start, got one that ended with exit status 1" in output
        assert read_log(folder / "log").lines == []


def is_running(pid):
    """Whether a process is there and not a zombie, which nobody may have waited for in a container."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False

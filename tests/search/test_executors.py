# SPDX-License-Identifier: MIT
"""Other executors: threads, Python's own processes, one that loses workers, and Dask."""

from __future__ import annotations

import importlib
import sys
import types
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor

import pytest

import freewire as fw
from freewire.search import RandomSearch, read_log, run
from freewire.search.executors import InExecutor
from tests.search import objectives
from tests.search.disordered import as_text, timeless
from tests.search.strategies import Listed
from tests.support.messages import assert_refused

SEARCH = RandomSearch(objectives.SPACE)


@pytest.fixture
def log(tmp_path):
    return tmp_path / "search.jsonl"


@pytest.fixture
def alone(tmp_path):
    """The lines of a search in this process."""
    path = tmp_path / "alone.jsonl"
    run(objectives.often_fails, SEARCH, 20, log=path, workers=0, progress=False)
    return as_text(timeless(path))


class Answering(Executor):
    """Answers a call by an error, or runs it."""

    def __init__(self, *errors):
        self.errors = list(errors)

    def submit(self, function, /, *arguments):
        error = self.errors.pop(0) if self.errors else None
        future = Future()
        if error is None:
            future.set_result(function(*arguments))
        elif isinstance(error, RuntimeError):
            raise error
        else:
            future.set_exception(error)
        return future


class LostWorkerError(Exception):
    """As Dask's KilledWorker."""


class TestAny:
    def test_threads(self, log, alone):
        with ThreadPoolExecutor(3) as executor:
            run(objectives.often_fails, SEARCH, 20, executor, log, progress=False)
            assert executor.submit(int).result() == 0  # it stays open
        assert as_text(timeless(log)) == alone

    @pytest.mark.slow
    def test_processes(self, log, alone):
        with ProcessPoolExecutor(2) as executor:
            run(objectives.often_fails, SEARCH, 20, executor, log, progress=False)
        assert as_text(timeless(log)) == alone

    @pytest.mark.slow
    def test_a_broken_pool(self, log):
        """It cannot go on. What had ended is kept, and processes of our own continue."""
        strategy = Listed([{"what": "fine"}, {"what": "dies"}, {"what": "better"}])
        expected = (
            r"executor: expected one that goes on, got one that is shut down or broken \(BrokenProcessPool: .*\)\. "
            r"Continue from the log with a new one, or with executor=None"
        )
        with ProcessPoolExecutor(1) as executor:
            assert_refused(
                lambda: run(objectives.trouble, strategy, 3, executor, log, progress=False), expected, fw.InputError
            )
        assert len(read_log(log).lines) == 1
        best = run(objectives.trouble, strategy, 3, log=log, progress=False)
        assert best.counts == {"finished": 2, "killed": 1}

    def test_lost_workers(self, log):
        executor = Answering(None, LostWorkerError("worker 3"), None)
        best = run(objectives.hill, SEARCH, 3, executor, log, progress=False)
        assert best.counts == {"finished": 2, "killed": 1}
        [line] = [line for line in read_log(log).lines if line["status"] == "killed"]
        assert line["error"] == "the executor lost the trial's worker: LostWorkerError: worker 3"
        assert line["value"] is None
        assert line["seconds"] >= 0

    @pytest.mark.parametrize("error", [ModuleNotFoundError("no module named 'x'"), AttributeError("no objective")])
    def test_workers_that_cannot_import(self, log, error):
        expected = rf"objective: expected a function that workers can import, got one .* \({type(error).__name__}: no"
        assert_refused(
            lambda: run(objectives.hill, SEARCH, 3, Answering(error), log, progress=False), expected, fw.InputError
        )

    def test_workers_that_cannot_import_the_objective(self, log, monkeypatch):
        module = types.ModuleType("freewire_test_only_here")
        exec("def objective(): return 1", module.__dict__)
        monkeypatch.setitem(sys.modules, module.__name__, module)

        class Forgetful(Answering):
            def submit(self, function, /, *arguments):
                monkeypatch.delitem(sys.modules, module.__name__, raising=False)
                return super().submit(function, *arguments)

        expected = (
            "objective: expected a function that workers can import, got one that they cannot .ModuleNotFoundError"
        )
        assert_refused(
            lambda: run(module.objective, SEARCH, 3, Forgetful(), log, progress=False), expected, fw.InputError
        )

    def test_a_module_that_exits_as_it_is_imported(self, log, monkeypatch, tmp_path):
        monkeypatch.syspath_prepend(tmp_path)
        name = "freewire_test_that_exits"
        (tmp_path / f"{name}.py").write_text("def objective(): return 1\n")
        objective = importlib.import_module(name).objective
        (tmp_path / f"{name}.py").write_text("import sys; sys.exit('not today')\n")

        class Forgetful(Answering):
            def submit(self, function, /, *arguments):
                monkeypatch.delitem(sys.modules, name, raising=False)
                return super().submit(function, *arguments)

        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        importlib.invalidate_caches()
        expected = r"objective: expected a function that workers can import, got .* \(SystemExit: not today\)"
        assert_refused(lambda: run(objective, SEARCH, 3, Forgetful(), log, progress=False), expected, fw.InputError)

    def test_workers_that_cannot_import_the_strategy(self, log, monkeypatch):
        module = types.ModuleType("freewire_test_only_here")
        module.Listed = Listed
        exec("class Own(Listed): pass", module.__dict__)
        monkeypatch.setitem(sys.modules, module.__name__, module)

        class Forgetful(Answering):
            def submit(self, function, /, *arguments):
                monkeypatch.delitem(sys.modules, module.__name__, raising=False)
                return super().submit(function, *arguments)

        expected = (
            r"strategy: expected a class that workers can import, got one that they cannot \(ModuleNotFoundError: "
            r"No module named 'freewire_test_only_here'\)\. Define it, and what it needs, in a module"
        )
        assert_refused(
            lambda: run(objectives.hill, module.Own([{}]), 1, Forgetful(), log, progress=False), expected, fw.InputError
        )

    def test_shut_down(self, log):
        executor = ThreadPoolExecutor(1)
        executor.shutdown()
        expected = (
            "executor: expected one that goes on, got one that is shut down or broken .RuntimeError: cannot schedule"
        )
        assert_refused(lambda: run(objectives.hill, SEARCH, 3, executor, log, progress=False), expected, fw.InputError)

    def test_how_many_tasks_wait(self):
        with ThreadPoolExecutor(3) as threads:
            assert InExecutor(threads, objectives.hill, None)._most == 6
            assert InExecutor(threads, objectives.hill, 4)._most == 4
        assert InExecutor(Answering(), objectives.hill, None)._most == 1000


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # Dask's own
class TestDask:
    def test_two_workers(self, log, alone):
        """The same search, with a trial that kills its worker, which Dask replaces."""
        distributed = pytest.importorskip("distributed")
        dask = pytest.importorskip("dask")
        options = {"distributed.scheduler.allowed-failures": 0, "distributed.logging.distributed": "critical"}
        with (
            dask.config.set(options),
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=None
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            run(objectives.often_fails, SEARCH, 20, client.get_executor(), log, progress=False)
            assert as_text(timeless(log)) == alone
            strategy = Listed([{"what": what} for what in ("fine", "dies", "better")])
            best = run(objectives.trouble, strategy, 3, client.get_executor(), log.with_name("dies"), progress=False)
            assert best.counts == {"finished": 2, "killed": 1}
            assert "KilledWorker" in read_log(log.with_name("dies")).lines[1]["error"]
            best = run(lambda params: params["x"], SEARCH, 3, client.get_executor(), log.with_name("l"), progress=False)
            assert best.counts == {"finished": 3}  # by value

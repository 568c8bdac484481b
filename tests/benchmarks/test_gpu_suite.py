# SPDX-License-Identifier: MIT
"""benchmarks/suites/gpu.py on the CPU: its checks before timing, its reports of failing peers, and what it writes."""

from __future__ import annotations

import contextlib
import json
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import freewire as fw
from benchmarks.harness import machine
from benchmarks.harness.correctness import WrongResultError
from benchmarks.harness.measure import Candidate, Task, forward_task, measure, own, step_task
from benchmarks.harness.workloads import WORKLOADS
from benchmarks.peers.dense_layers import DENSE
from benchmarks.peers.layout import Layout
from benchmarks.peers.loop import LoopPeer
from benchmarks.suites import gpu, predict
from tests.support import ROOT
from tests.support.benchmark_networks import BATCH, layered_network, mixed_network

pytestmark = pytest.mark.usefixtures("one_thread")


class TestGpu:
    """On the CPU with simulated CUDA graphs: a replay calls the task again and overwrites the captured results."""

    @pytest.fixture
    def graphs(self, monkeypatch: pytest.MonkeyPatch) -> type[FakeGraph]:
        monkeypatch.setattr(FakeGraph, "broken", False)
        stream = type("Stream", (), {"wait_stream": lambda self, other: None})
        fakes = {"Stream": stream, "current_stream": stream, "CUDAGraph": FakeGraph, "synchronize": lambda: None}
        fakes |= {"stream": lambda stream: contextlib.nullcontext(), "graph": FakeGraph.capture}
        for name, value in fakes.items():
            monkeypatch.setattr(torch.cuda, name, value)
        return FakeGraph

    @pytest.mark.parametrize("what", ["forward", "step"])
    def test_captured_call_computes_the_same(self, graphs: type[FakeGraph], what: str) -> None:
        task = task_of(what)
        with torch.set_grad_enabled(what == "step"):
            replay = gpu.captured("freewire", task)
            with torch.no_grad():
                task.x.fill_(0.5)
            for got, want in zip(replay.run(), task.run(), strict=True):
                assert torch.equal(got, want)

    def test_captured_call_draws_its_second_input_on_the_cpu(self, graphs: type[FakeGraph]) -> None:
        """After a failed capture, torch's generator on the GPU can raise."""
        task = task_of("forward")
        before = task.x.clone()
        with torch.no_grad(), Draws() as draws:
            gpu.captured("freewire", task)
        assert draws.found == [("aten::randn", torch.device("cpu"))]
        assert not torch.equal(task.x, before)

    def test_graph_that_replays_the_old_results_is_caught(self, graphs: type[FakeGraph]) -> None:
        graphs.broken = True
        with pytest.raises(WrongResultError, match=r"captured call's results to be the call's within .* relative"):
            gpu.captured("peer", task_of("step"))

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "out of memory"),
            (RuntimeError("CUDA error: CUSPARSE_STATUS_X\nmore"), "RuntimeError: CUDA error: CUSPARSE_STATUS_X"),
        ],
    )
    def test_failing_peer_is_reported(self, graphs: type[FakeGraph], error: Exception, said: str) -> None:
        def fail() -> Sequence[Tensor]:
            raise error

        task = Task(fail, torch.zeros(1))
        assert gpu.prepare_on_gpu("peer", task) == {"peer": said, "peer, graph": said}
        with pytest.raises(type(error)):
            gpu.prepare_on_gpu("freewire", task)

    def test_peer_that_cannot_be_captured_is_still_timed(self, graphs: type[FakeGraph]) -> None:
        graphs.broken, task = True, task_of("forward")
        with torch.no_grad():
            prepared = gpu.prepare_on_gpu("peer", task)
        assert prepared["peer"] is task
        assert "expected the captured call's results" in str(prepared["peer, graph"])

    def test_slow_peer_is_skipped(self, graphs: type[FakeGraph], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gpu, "_LONGEST", 0.0)
        assert gpu.prepare_on_gpu("peer", task_of("forward"))["peer"] == "0.0 s a call"

    def test_dense_network_has_the_depth_and_widths_of_the_graph(self) -> None:
        dense, levels = gpu.competing()[-1].make(mixed_network()), Layout.of(mixed_network().graph).levels
        linear = [layer for layer in dense if isinstance(layer, nn.Linear)]
        assert [layer.out_features for layer in linear[:-1]] == [level.end - level.begin for level in levels[:-1]]
        assert (linear[0].in_features, linear[-1].out_features) == (3, 3)
        with Draws() as draws:  # all random numbers are drawn on the CPU
            made = DENSE.make(mixed_network().to("meta", torch.float64))
        assert {device.type for _, device in draws.found} == {"cpu"}
        assert {(value.device.type, value.dtype) for value in made.parameters()} == {("meta", torch.float64)}
        assert "see nn.Sequential" in str(gpu.competing()[-1].refusal(layered_network()))

    def test_failing_peer_gets_a_refusal_and_freewire_raises(self) -> None:
        def broken(net: fw.Network) -> nn.Module:
            raise RuntimeError("no room")

        workload, failing = WORKLOADS["W2"].quick(), Candidate("peer", broken, None)
        settings = {"rounds": 1, "threads": 1, "block": 1e-4, "tolerated": (RuntimeError,)}
        rows = measure(workload, [own(), failing], **settings)
        assert [row.get("refusal") for row in rows] == ["RuntimeError: no room", None, None]
        with pytest.raises(RuntimeError, match="no room"):
            measure(workload, [failing], **settings)

    def test_numba_loop_refuses_a_gpu(self) -> None:
        pytest.importorskip("numba")
        assert LoopPeer.refusal(mixed_network().to("meta")) == "its loops run on the CPU only"

    def test_quick_run_writes_json_and_a_table(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        folder = tmp_path / "results"
        gpu.main(["--device", "cpu", "--quick", "--cases", "W1:256", "W4:256", "--commit", "abc", "--out", str(folder)])
        results = json.loads((folder / "cpu.json").read_text())
        assert (results["quick"], results["machine"]["commit"]) == (True, "abc")
        for name in ("W1", "W4"):
            for candidate in gpu.competing():
                rows = [r for r in results["rows"] if (r["workload"], r["candidate"]) == (name, candidate.label)]
                refused = candidate.label == {"W1": "nn.Sequential", "W4": "dense MLP"}[name]
                assert [r.get("measure") for r in rows] == ([None] if refused else ["forward", "step"])
                assert all("refusal" in r if refused else r["median"] > 0 for r in rows)
        table = (folder / "cpu.md").read_text()
        assert table in capsys.readouterr().out
        assert "| workload | batch | pass | freewire | torch CSR | masked dense | dense MLP | nn.Sequential |" in table
        assert "- W1, 35, nn.Sequential: not a chain of fully connected layers" in table
        assert next(line for line in table.splitlines() if line.startswith("| W1 | 35 | step |")).endswith(" - |")

    def test_results_are_named_by_the_chip(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The GPU parts of `main`, with the networks on the CPU."""
        chip = {"name": "NVIDIA H200", "major": 9, "minor": 0, "multi_processor_count": 132, "total_memory": 1 << 37}
        chip |= {"pci_domain_id": 0, "pci_bus_id": 5, "pci_device_id": 0}
        output = "580.1, 1980 MHz, 3201 MHz, 1980 MHz, 700.00 W, 40"
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda: types.SimpleNamespace(**chip))
        monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
        monkeypatch.setattr(machine, "_output", lambda *command: output if "--id=00000000:05:00.0" in command else None)
        monkeypatch.setattr(gpu, "captured", lambda label, task: task)
        monkeypatch.setattr(gpu, "measure", lambda *a, device, **k: measure(*a, device="cpu", **k))
        gpu.main(["--quick", "--cases", "W2:1024", "--commit", "abc", "--out", str(tmp_path)])
        assert sorted(path.name for path in tmp_path.iterdir()) == ["nvidia-h200.json", "nvidia-h200.md"]
        results = json.loads((tmp_path / "nvidia-h200.json").read_text())
        assert results["machine"]["gpu"]["driver"] == "580.1"
        table = (tmp_path / "nvidia-h200.md").read_text()
        assert "\n# NVIDIA H200\n" in table
        assert "driver 580.1, 132 multiprocessors, clocks 1980 MHz of 1980 MHz, memory 3201 MHz at the end" in table
        assert "| freewire | freewire, graph | torch CSR | torch CSR, graph |" in table

    def test_errors_on_the_command_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match=r"--cases: expected names of W1, .* with a batch, as W1:256, got 'W9:1'"):
            gpu.main(["--cases", "W9:1"])
        if not torch.cuda.is_available():
            with pytest.raises(SystemExit, match="expected a GPU that this torch can use, got none"):
                gpu.main(["--out", str(tmp_path)])
        gpu.main(["--device", "cpu", "--quick", "--minutes", "0", "--out", str(tmp_path)])
        assert "skipped, 0.0 minutes have passed" in capsys.readouterr().out
        assert not list(tmp_path.iterdir())


class Draws(TorchDispatchMode):
    """Record operators that draw random numbers: their names, and the devices of their results."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, torch.device]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.found.append((func.name().partition(".")[0], result.device))
        return result


class FakeGraph:
    """A fake `torch.cuda.CUDAGraph`: a replay calls the task of `task_of` again and overwrites its first results.

    If ``broken``, a replay leaves the results unchanged.
    """

    broken = False
    last_call: tuple[Task, Sequence[Tensor]]

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        yield
        self.task, self.results = self.last_call

    def replay(self) -> None:
        if not self.broken:
            for to, value in zip(self.results, self.task.run(), strict=True):
                to.copy_(value)


def task_of(what: str) -> Task:
    plain = {"forward": forward_task, "step": step_task}[what](mixed_network(), torch.randn(BATCH, 3))

    def call() -> Sequence[Tensor]:
        results = plain.run()
        FakeGraph.last_call = plain, results
        return results

    return Task(call, plain.x)


def test_predictions_in_the_docs_are_printed_by_the_command() -> None:
    assert predict.table() in (ROOT / "docs" / "gpu-performance.md").read_text()

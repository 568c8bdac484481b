# SPDX-License-Identifier: MIT
"""The memory that a call is estimated to take against what it takes, and calls that would take too much."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import freewire as fw
from benchmarks.harness.memory import peak_bytes
from freewire._native.planner import planner
from freewire.nn import placement
from freewire.plan import make_plan, memory
from tests.support import simt_torch
from tests.support.graphs import CASES, recurrent_graph

GRAPH = fw.generators.random_graph(64, 3000, 10, 8, seed=0)
WIDE = 10**12  # samples that take no memory: one, shown again and again

# The process's own high-water mark counts everything that is allocated. What was there before is subtracted.
MEASURE = """
import resource, sys, torch, freewire as fw
nodes, batch, dtype, mode = int(sys.argv[1]), int(sys.argv[2]), getattr(torch, sys.argv[3]), sys.argv[4]
net = fw.Network(fw.generators.random_graph(64, nodes, 10, 8, seed=0), dtype=dtype, checkpoint=mode == "checkpoint")

def call(x):
    if mode == "inference":
        with torch.no_grad():
            return net(x)
    net(x).sum().backward()

def status(key):
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(key))

x = torch.randn(batch, 64).to(dtype).requires_grad_()
for threads in (1, 2):
    torch.set_num_threads(threads)
    call(x[:64].detach().requires_grad_())  # everything that is loaded late is there
    net.zero_grad()
    x.grad = None
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the high-water mark starts again
    before = status("VmRSS")
    call(x)
    print(status("VmHWM") - before, net.memory(batch, training=mode != "inference"))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the high-water mark is reset by Linux's /proc")
@pytest.mark.parametrize("mode", ["training", "checkpoint", "inference"])
@pytest.mark.parametrize("dtype", ["float32", pytest.param("float64", marks=pytest.mark.nightly), "bfloat16"])
def test_the_whole_process_takes_what_is_estimated(dtype: str, mode: str) -> None:
    nodes, batch = (1_000_000, 256) if mode == "inference" else (20_000, 4096)
    command = [sys.executable, "-c", MEASURE, str(nodes), str(batch), dtype, mode]
    # Otherwise glibc keeps freed memory for the next call, which then seems to take less.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    one, two = (tuple(map(int, line.split())) for line in done.stdout.splitlines())
    for taken, estimated in (one, two):
        assert estimated > 50 << 20, "too small to see beside the process"
        assert taken < 1.1 * estimated + (16 << 20), f"{taken / 2**20:.0f} MiB, estimated {estimated / 2**20:.0f}"
    # On a busy machine one of two threads may be done, and its rows freed, before the other has begun.
    assert one[0] > 0.85 * one[1], f"{one[0] / 2**20:.0f} MiB, estimated {one[1] / 2**20:.0f}"
    assert two[1] > one[1]


@pytest.mark.compiler
@pytest.mark.parametrize("tile", ["0", None], ids=["streamed", "resident"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize(("case", "batch"), [("random", 33), ("random", 2500), ("mixed_aggregations", 700)])
def test_a_gpu_takes_what_is_estimated(
    case: str, batch: int, dtype: torch.dtype, training: bool, tile: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measured on the shim, whose operators allocate the same memory as on a GPU."""
    if tile is not None:
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)
    net = fw.Network(CASES[case], dtype=dtype).requires_grad_(training)
    x = torch.randn(batch, len(net.graph.inputs)).to(dtype).requires_grad_(training)

    def call() -> object:
        x.grad = net.weight.grad = net.bias.grad = None
        y = net(x)
        return y.sum().backward() if training else y

    with simt_torch.played():
        taken = peak_bytes(call)
    shared = 0 if tile else 227 << 10  # the H100 that the shim simulates
    estimated = memory.gpu_call_bytes(net.plan, batch, dtype.itemsize, training=training, shared_bytes=shared)
    taken -= net._placed.words.nbytes  # the shim copies the plan
    assert 0.85 * estimated < taken < 1.02 * estimated + 4096, f"{taken:,} taken, {estimated:,} estimated"


@pytest.mark.compiler
@pytest.mark.parametrize("tile", ["0", None], ids=["streamed", "resident"])
@pytest.mark.parametrize("mode", ["inference", "training", "checkpoint"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@pytest.mark.parametrize(("steps", "batch"), [(5, 300), (2, 2100)])
def test_a_sequence_on_a_gpu_takes_what_is_estimated(
    steps: int, batch: int, dtype: torch.dtype, mode: str, tile: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operators alone: around them `Recurrent` has states of its own, and torch what they become."""
    if tile is not None:
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)
    every = 4 if mode == "checkpoint" else 0
    net = fw.Recurrent(recurrent_graph(0), dtype=dtype)
    plan, packed = net.plan, net.plan.pack()
    words = torch.from_numpy(packed.words)
    x, h = torch.randn(steps, batch, 4).to(dtype), torch.randn(batch, plan.num_states).to(dtype)
    weight, bias = (None if p is None else p.detach() for p in net.step_parameters(net.weight, net.bias))
    call = (x, h, weight, bias, words, packed.header)

    def run() -> object:
        y, last, kept = torch.ops.freewire.sequence(*call, plan.num_results, plan.tape_rows, every, mode != "inference")
        if mode == "inference":
            return y, last
        grads = torch.empty_like(y), torch.empty_like(last)
        return torch.ops.freewire.sequence_backward(*grads, kept, *call, every, True, True, True)

    with simt_torch.played():
        taken = peak_bytes(run)
    shared = 0 if tile else 227 << 10  # the H100 that the shim simulates
    training = mode != "inference"
    estimated = memory.gpu_sequence_bytes(
        plan, batch, steps, every, dtype.itemsize, training=training, shared_bytes=shared
    )
    taken -= words.nbytes  # the shim copies the plan
    assert 0.85 * estimated < taken < 1.02 * estimated + 4096, f"{taken:,} taken, {estimated:,} estimated"


class TestEstimate:
    def test_training_grows_with_nodes_times_batch(self) -> None:
        net = fw.Network(GRAPH)
        step = net.memory(64_000) - net.memory(32_000)
        assert net.memory(96_000) - net.memory(64_000) == pytest.approx(step, rel=1e-3)
        assert step == pytest.approx(32_000 * 4 * (net.plan.tape_rows + 2 * 10 + 64), rel=1e-3)

    def test_inference_reuses_rows(self) -> None:
        chain = fw.Network(CASES["chain"])
        assert chain.plan.inference_rows == 2
        assert chain.memory(10_000, training=False) < chain.memory(10_000) / 30

    def test_16_bits_take_half_the_tape(self) -> None:
        assert fw.Network(GRAPH, dtype=torch.float16).memory(100_000) < 0.52 * fw.Network(GRAPH).memory(100_000)

    def test_nothing_quadratic(self) -> None:
        """100,000 nodes: their square is 10,000 million."""
        plan = make_plan(fw.generators.random_graph(10, 100_000, 1, 4, seed=0))
        assert memory.call_bytes(plan, 1, 4, training=True, threads=2) < 400 * (plan.num_edges + plan.num_slots)


class TestTile:
    """Which tile a GPU's forward takes, by the rule of csrc/cuda/network/workspace.h."""

    PLAN = make_plan(GRAPH)

    def tile(self, batch: int, shared_bytes: int, itemsize: int = 4, training: bool = False) -> int:
        return planner.gpu_forward_tile(self.PLAN.sizes, batch, itemsize, training, shared_bytes, 132)

    def test_as_wide_as_fits(self) -> None:
        beside = 4 * (self.PLAN.num_slots + self.PLAN.num_levels + 1)
        for columns in (2, 4, 8, 16, 32):
            fits = 4 * columns * (self.PLAN.scratch_rows + 1) + beside
            assert self.tile(10**6, fits) == columns
            assert self.tile(10**6, fits - 1) == (columns // 2 if columns > 2 else 0)

    def test_a_kept_tape_has_a_row_per_slot(self) -> None:
        assert self.PLAN.scratch_rows < self.PLAN.num_slots
        fits = 8 * (self.PLAN.scratch_rows + 1) + 4 * (self.PLAN.num_slots + self.PLAN.num_levels + 1)
        assert (self.tile(10**6, fits), self.tile(10**6, fits, training=True)) == (2, 0)

    def test_narrower_where_multiprocessors_would_be_idle(self) -> None:
        assert [self.tile(batch, 1 << 30) for batch in (10**6, 16 * 132 + 1, 16 * 132, 8 * 132, 1)] == [
            32,
            32,
            16,
            8,
            2,
        ]

    def test_half_the_bytes_fit_twice_the_columns(self) -> None:
        assert self.tile(10**6, 100_000, itemsize=2) == 2 * self.tile(10**6, 100_000, itemsize=4)


class TestTooLarge:
    def test_it_is_refused_before_anything_is_allocated(self) -> None:
        net = fw.Network(GRAPH)
        x = torch.ones(1, 64, requires_grad=True).expand(WIDE, 64)
        gib = net.memory(WIDE) / 2**30
        with pytest.raises(
            fw.OutOfMemoryError,
            match=r"x: expected a batch that fits into the [\d,.]+ GiB left on cpu, got 1,000,000,000,000 samples, for "
            rf"which a training step takes {gib:,.1f} GiB\. Use smaller batches, or torch\.no_grad\(\) "
            r"where no gradient is wanted; net\.memory\(batch\) returns the bytes that a call needs\.",
        ):
            net(x)
        with torch.no_grad(), pytest.raises(MemoryError, match="for which a forward takes"):
            net(x)
        with pytest.raises(fw.OutOfMemoryError, match="for which a training step takes"):
            net.activations(x)

    def test_what_fits_is_not_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(placement, "_LARGE", 100)
        net = fw.Network(GRAPH)
        x, needed = torch.ones(300, 64, requires_grad=True), net.memory(300)
        monkeypatch.setattr(memory, "available_bytes", lambda: needed)
        net(x).sum().backward()
        monkeypatch.setattr(memory, "available_bytes", lambda: needed - 1)
        with pytest.raises(fw.OutOfMemoryError):
            net(x)
        with torch.no_grad():
            net(x)
        net(x.detach())  # no memory is needed for the gradient of x
        net.requires_grad_(False)(x)  # nor for those of parameters
        net.requires_grad_(True)
        monkeypatch.setattr(memory, "available_bytes", lambda: None)  # a system that does not report it
        net(x)

    def test_a_shape_alone_is_not_refused(self) -> None:
        net = fw.Network(GRAPH, device="meta")
        assert net(torch.empty(WIDE, 64, device="meta")).shape == (WIDE, 10)
        net = fw.Network(GRAPH)
        with FakeTensorMode(allow_non_fake_inputs=True):
            assert net(torch.empty(WIDE, 64)).shape == (WIDE, 10)

    def test_edges_count_too(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A small batch of a network of many edges, whose sums take the memory."""
        monkeypatch.setattr(placement, "_LARGE", 16 * GRAPH.num_edges)
        net = fw.Network(GRAPH)
        monkeypatch.setattr(memory, "available_bytes", lambda: 1000)
        with pytest.raises(fw.OutOfMemoryError, match="got 1 samples"):
            net(torch.ones(1, 64))

    @pytest.mark.parametrize("batch", [-1, 2.5, "8", True, None])
    def test_no_number_of_samples(self, batch: Any) -> None:
        with pytest.raises(fw.InputError, match=r"batch: expected a number of samples, got .*\. Pass a whole number"):
            fw.Network(GRAPH).memory(batch)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's /proc reports it")
class TestAvailable:
    def test_it_lies_between_nothing_and_the_machine(self) -> None:
        lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        most = sum(int(lines[name].split()[0]) for name in ("MemTotal", "SwapTotal")) << 10
        left = memory.available_bytes()
        assert left is not None
        assert 0 < left <= most

    def test_a_control_group_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        files = {
            "meminfo": "MemTotal: 1000 kB\nMemAvailable:  900 kB\nSwapFree:  50 kB\n",
            "memory.max": "600000\n",
            "memory.current": "500000\n",
            "memory.stat": "anon 300000\nfile 500000\ninactive_file 150000\nactive_file 50000\nshmem 300000\n",
            "cgroup": "0::/user.slice/job\n",
        }
        read = []
        monkeypatch.setattr(Path, "read_text", lambda path: read.append(str(path)) or files[path.name])
        assert memory.available_bytes() == 300_000
        assert [path for path in read if path.endswith("memory.max")] == [
            f"/sys/fs/cgroup{group}/memory.max" for group in ("/user.slice/job", "/user.slice", "")
        ]
        files["memory.max"] = "max\n"
        assert memory.available_bytes() == 950 << 10
        files["cgroup"] = "12:memory:/old\n"  # version 1
        assert memory.available_bytes() == 950 << 10

    def test_a_system_that_does_not_tell(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(path: Path) -> str:
            raise OSError(path)

        monkeypatch.setattr(Path, "read_text", refuse)
        assert memory.available_bytes() is None

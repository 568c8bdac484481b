# SPDX-License-Identifier: MIT
"""`Recurrent` at its limits: memory, what is refused, and arguments at the end of their range."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import freewire as fw
from freewire.nn import placement
from freewire.plan import memory
from tests.support.graphs import CASES, RECURRENT
from tests.support.recurrent import (
    every_kind,
    recurrent,
    sequence_of,
    wired,
    with_parameters_of,
)
from tests.support.tensors import DTYPES

pytestmark = pytest.mark.usefixtures("one_thread")

GRAPH = wired(0)  # 3 inputs, 4 outputs, leaks, delays to 3
KINDS = every_kind()
BATCHES = (0, 1, 2, 3, 5, 8, 16, 17, 40)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=str)

# As tests/plan/test_memory.py measures a network: the process's own high-water mark.
MEASURE = """
import torch, freewire as fw
torch.set_num_threads(1)
n = 4000
src, dst = torch.randint(0, n, (2, 8 * n), generator=torch.Generator().manual_seed(0)).numpy()
dst[dst < 64] += 64
graph = fw.Graph.from_edges(src, dst, num_nodes=n, inputs=range(64), outputs=range(n - 10, n), delay=1, leak=0.5)

def status(key):
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith(key))

def call(net, x, h, training):
    if training:
        return net(x, h)[0].sum().backward()
    with torch.no_grad():
        return net(x, h)

for training, batch, steps, every in ((True, 32, 20, None), (True, 64, 40, 8), (False, 512, 40, None)):
    net = fw.Recurrent(graph, checkpoint_every=every)
    x, h = torch.randn(steps, batch, 64).requires_grad_(), torch.randn(batch, net.num_states).requires_grad_(training)
    call(net, x[:2].detach().requires_grad_(), h, training)
    net.zero_grad()
    x.grad = h.grad = None
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")
    before = status("VmRSS")
    call(net, x, h, training)
    print(status("VmHWM") - before, net.memory(steps, batch, training=training))
"""


class TestMemory:
    @pytest.mark.slow
    @pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the high-water mark is reset by Linux")
    def test_the_process_takes_what_is_estimated(self) -> None:
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(1 << 17)}
        command = [sys.executable, "-c", MEASURE]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        for taken, estimated in (map(int, line.split()) for line in done.stdout.splitlines()):
            found = f"{taken / 2**20:.1f} MiB, estimated {estimated / 2**20:.1f}"
            assert estimated > 10 << 20, "too small to see beside the process"
            assert 0.85 * estimated - (2 << 20) < taken < 1.1 * estimated + (4 << 20), found

    def test_it_grows_with_steps(self) -> None:
        net = recurrent(KINDS, torch.float32)
        taken = [net.memory(steps, 16) for steps in (100, 200, 300)]
        assert taken[2] - taken[1] == taken[1] - taken[0]
        assert taken[2] - taken[1] == 100 * 16 * 4 * (net.plan.tape_rows + 2 * 30 + 4)
        held = 2 * 200 * 16 * 4 * len(net.graph.inputs)  # x, once for each step, and its gradient
        assert with_parameters_of(net, steps=2).memory(100, 16) == taken[1] + held
        assert net.memory(2**40, 2**24) == pytest.approx(net.memory(2**16, 2**24) * 2**24, rel=1e-2)
        quiet = [net.memory(steps, 16, training=False) for steps in (100, 200)]
        assert quiet[1] - quiet[0] == 100 * 16 * 4 * 30
        lean = with_parameters_of(net, checkpoint_every=10)
        assert lean.memory(1000, 16) < net.memory(1000, 16) / 3

    @pytest.mark.parametrize("every", [None, 3])
    def test_what_is_kept_is_counted(self, every: int | None) -> None:
        net = recurrent(KINDS, torch.float32, checkpoint_every=every)
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nbytes) or t, lambda t: t):
            net(sequence_of(net, 7, 16))
        rows = 7 * net.plan.tape_rows if every is None else 3 * net.num_states
        assert max(sizes) == max(rows * 16 * 4, net._placed.words.nbytes)

    def test_a_sequence_that_does_not_fit_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        net = recurrent(GRAPH, torch.float32)
        x = torch.ones(1, 1, 3).expand(10**7, 10**5, 3)
        gib = net.memory(10**7, 10**5) / 2**30
        with pytest.raises(
            fw.OutOfMemoryError,
            match=r"x: expected a batch that fits into the [\d,.]+ GiB left on cpu, got 10,000,000 steps of 100,000 "
            rf"samples, for which a training step takes {gib:,.1f} GiB\. Use shorter sequences, .* net\.memory\(steps",
        ):
            net(x.requires_grad_())
        with torch.no_grad(), pytest.raises(fw.OutOfMemoryError, match="a forward takes"):
            net(x)
        monkeypatch.setattr(placement, "_LARGE", 100)
        net = recurrent(GRAPH, torch.float32)
        needed = net.memory(50, 8)
        monkeypatch.setattr(memory, "available_bytes", lambda: needed)
        net(sequence_of(net, 50, 8).requires_grad_())
        monkeypatch.setattr(memory, "available_bytes", lambda: needed - 1)
        with pytest.raises(fw.OutOfMemoryError):
            net(sequence_of(net, 50, 8).requires_grad_())

    @pytest.mark.parametrize("bad", [-1, 2.5, "8", True, None])
    def test_no_numbers(self, bad: Any) -> None:
        net = recurrent(GRAPH)
        with pytest.raises(fw.InputError, match="steps: expected a whole number of at least 0"):
            net.memory(bad, 1)
        with pytest.raises(fw.InputError, match="batch: expected a whole number of at least 0"):
            net.memory(1, bad)


# ---------------------------------------------------------------------------------- refused


class TestRefused:
    """Each message: what was expected, what came, what to do."""

    NET = recurrent(GRAPH, torch.float32)
    H = torch.zeros(2, NET.num_states)
    X = torch.zeros(4, 2, 3)

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (lambda n, x, h: n(x, h[:1]), r"h: expected a state of shape \[2, \d+\], got \[1, \d+\]\. Pass what an"),
            (lambda n, x, h: n(x, h[:, 1:]), r"h: expected a state of shape \[2, \d+\], got \[2, \d+\]\. Pass what"),
            (lambda n, x, h: n(x[:, 0], h), r"h: expected a state of shape \[\d+\], got \[2, \d+\]\."),
            (lambda n, x, h: n(x, "h"), r"h: expected a state of shape \[2, \d+\], got str\. .*or None"),
            (lambda n, x, h: n(x, (h, h)), r"h: expected a state of shape"),
            (lambda n, x, h: n(x, h.double()), r"h: expected torch.float32 on cpu, as x, got torch.float64 on cpu\."),
            (lambda n, x, h: n.double()(x.double(), h), r"h: expected torch.float64 on cpu, as x, got torch.float32"),
            (lambda n, x, h: n(x, h.to("meta")), r"h: expected torch.float32 on cpu, as x, got torch.float32 on meta"),
            (lambda n, x, h: n.activations(x, h[:1]), r"h: expected a state of shape \[2, \d+\], got \[1, \d+\]\."),
            (lambda n, x, h: n.step(x[0], h[:1]), r"h: expected a state of shape \[2, \d+\], got \[1, \d+\]\."),
            (lambda n, x, h: n(x.double()), r"x: expected torch.float32, the network's type, got torch.float64"),
            (lambda n, x, h: n(x[..., :2]), r"x: expected shape \[..., 3\], one feature per input, got \[4, 2, 2\]"),
            (lambda n, x, h: n.step(x[0, :, :2]), r"x: expected shape \[..., 3\], one feature per input, got \[2, 2\]"),
            (lambda n, x, h: n(x[0, 0]), r"x: expected shape \[T, B, 3\] or \[T, 3\], got \[3\]\. Put time and batch"),
            (lambda n, x, h: n(x[None]), r"x: expected shape \[T, B, 3\] or \[T, 3\], got \[1, 4, 2, 3\]\."),
            (
                lambda n, x, h: n.step(x),
                r"x: expected one frame, \[B, 3\] or \[3\], got \[4, 2, 3\]\. Call the network",
            ),
            (lambda n, x, h: n(x.numpy()), r"x: expected a torch.Tensor, got ndarray"),
            (lambda n, x, h: n(x.to("meta")), r"x: expected device cpu, the network's, got meta"),
            (lambda n, x, h: fw.reference(n, x, h[:1]), r"h: expected a state of shape"),
            (lambda n, x, h: fw.reference(fw.Network(CASES["random"]), torch.zeros(1, 9), h), r"h: expected None for"),
            (lambda n, x, h: fw.Recurrent(n.graph, batch_first=True)(x[0, 0]), r"x: expected shape \[B, T, 3\] or \[T"),
            (lambda n, x, h: fw.Recurrent(n.graph, steps=0), r"steps: expected a whole number of at least 1, got 0\."),
            (
                lambda n, x, h: fw.Recurrent(n.graph, steps=1.5),
                r"steps: expected a whole number of at least 1, got 1\.5",
            ),
            (lambda n, x, h: fw.Recurrent(n.graph, checkpoint_every=0), r"checkpoint_every: expected a whole number"),
            (lambda n, x, h: fw.Recurrent(n.graph, dtype=torch.int8), r"dtype: expected torch.float32, torch.float64"),
        ],
    )
    def test_calls(self, call: Callable[..., object], message: str) -> None:
        with pytest.raises(fw.InputError, match=message):
            call(recurrent(GRAPH, torch.float32), self.X, self.H)

    def test_graphs(self) -> None:
        with pytest.raises(
            fw.GraphError, match=r"graph: expected a recurrent graph, got one without delays\. Build it"
        ):
            fw.Recurrent(CASES["random"])
        with pytest.raises(fw.GraphError, match=r"graph: expected a freewire Graph, got int"):
            fw.Recurrent(3)
        with pytest.raises(fw.GraphError, match=r"graph: expected one without delays, got a recurrent graph"):
            fw.Network(GRAPH)

    def test_state_dicts(self) -> None:
        with pytest.raises(fw.InputError, match=r"state_dict: expected that of a recurrent network with this wiring"):
            recurrent(GRAPH).load_state_dict(recurrent(KINDS).state_dict())


class TestLimits:
    """Arguments at their limits."""

    @pytest.mark.parametrize("every", [2**31, 2**62, 2**63 - 1, 2**80])
    def test_checkpoint_every_of_never(self, every: int) -> None:
        net = recurrent(GRAPH, checkpoint_every=every)
        plain = with_parameters_of(net)
        found, expected = (torch.autograd.grad(n(sequence_of(n, 4, 3))[0].sum(), n.weight)[0] for n in (net, plain))
        assert torch.equal(found, expected)

    def test_the_operator_with_any_number(self) -> None:
        net = recurrent(GRAPH, torch.float64)
        placed, x = net._placed, sequence_of(net, 4, 3)
        weight, bias = (p.detach() for p in net.step_parameters(net.weight, net.bias))
        states, plan = x.new_zeros(3, net.num_states), net.plan
        call = placed.words, None, plan.num_results, plan.tape_rows, 2**63 - 1, True
        kept = torch.ops.freewire.sequence(x, states, weight, bias, *call)[2]
        assert len(kept) == net.num_states * 4

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_a_leak_out_of_range_is_exactly_the_limit(self, dtype: torch.dtype) -> None:
        net = recurrent(RECURRENT, dtype, learn_leak=True)
        with torch.no_grad():
            net.leak[0], net.leak[1] = -5000.0, 3.0
        leaks = {v: data["leak"] for v, data in net.to_networkx().nodes(data=True) if "leak" in data}
        assert set(leaks.values()) >= {1.0, torch.tensor(1e-4, dtype=dtype).item()}
        assert fw.Graph.from_networkx(net.to_networkx()).recurrent

    def test_learnt_leaks_need_stored_ones(self) -> None:
        graph = fw.Graph.from_edges([0, 1], [1, 1], outputs=[1], recurrent=True)
        with pytest.raises(fw.InputError, match=r"learn_leak: expected a graph that stores leaks, got one without\."):
            fw.Recurrent(graph, learn_leak=True)

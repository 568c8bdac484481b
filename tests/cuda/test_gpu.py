# SPDX-License-Identifier: MIT
"""What only a GPU can show: CUDA graphs, streams, memory.

Every test runs with the network resident in shared memory and with one launch per level, by the `device` fixture of
conftest.py. ``make test-gpu`` runs them. The operators' results on a GPU are tested in tests/ops/test_ops.py, `Network`
in tests/cuda/test_gpu_network.py, and what the shim can show in tests/cuda/test_binding.py.
"""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

import freewire as fw
from freewire.nn import placement
from tests.support.graphs import CASES, recurrent_graph
from tests.support.tensors import DTYPES, assert_same_bits, batch_of, gradients, network

pytestmark = [
    pytest.mark.parametrize("device", ["cuda", "cuda_streamed"], indirect=True),
    pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype feature:UserWarning"),
    pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream does not match:UserWarning"),
]

GRAPH = CASES["random"]  # 9 inputs, 5 outputs
SLEEP = 400_000_000  # clocks: a fifth of a second or more


def cloned(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def warm(stream: torch.cuda.Stream, body: Callable[[], object]) -> None:
    """Run a body on a stream, as capturing wants it."""
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            body()
    torch.cuda.current_stream().wait_stream(stream)


class TestGraphs:
    """CUDA graphs; that a capture succeeds also shows that nothing waits, copies from the host or calls cudaMalloc."""

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("case", ["random", "mixed_aggregations", "dead"])
    def test_forward(self, device: str, case: str, dtype: torch.dtype) -> None:
        net = network(CASES[case], dtype).to(device)
        x, _ = batch_of(net, 300)
        with torch.no_grad():
            warm(torch.cuda.Stream(), lambda: net(x))
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                y = net(x)
            for seed in (2, 3):
                x.copy_(batch_of(net, 300, seed)[0])
                graph.replay()
                assert_same_bits([y], [net(x)])

    @pytest.mark.parametrize("checkpoint", [False, True])
    @pytest.mark.parametrize("case", ["random", "mixed_aggregations"])
    def test_forward_and_backward(self, device: str, case: str, checkpoint: bool) -> None:
        net = network(CASES[case], torch.float32, checkpoint=checkpoint).to(device)
        x, grad_y = batch_of(net, 2100)
        warm(torch.cuda.Stream(), lambda: gradients(net, net, x, grad_y))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = gradients(net, net, x, grad_y)
        for seed in (2, 3):
            for static, fresh in zip((x, grad_y), batch_of(net, 2100, seed), strict=True):
                static.copy_(fresh)
            with torch.no_grad():
                net.weight.mul_(1.01)  # a replay reads the weights as they are then
            graph.replay()
            assert_same_bits(found, gradients(net, net, x, grad_y))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.parametrize("every", [None, 3])
    def test_a_sequence(self, device: str, every: int | None, dtype: torch.dtype) -> None:
        net = fw.Recurrent(recurrent_graph(0), checkpoint_every=every, dtype=dtype, device=device)
        x = torch.randn(7, 300, 4, device=device).to(dtype).requires_grad_()
        h = torch.randn(300, net.num_states, device=device).to(dtype).requires_grad_()
        leaves = [x, h, *net.parameters()]

        def run() -> list[Tensor]:
            y, last = net(x, h)
            return [y.detach(), last.detach(), *torch.autograd.grad((y.sum(), last.sum()), leaves)]

        warm(torch.cuda.Stream(), run)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            found = run()
        for _ in range(2):
            with torch.no_grad():
                x.normal_()
                net.weight.mul_(1.01)
            graph.replay()
            assert_same_bits(found, run())

    def test_a_whole_training_step(self, device: str) -> None:
        """As torch's manual captures one: losses and weights are the eager loop's."""
        nets = [network(GRAPH, torch.float32).to(device) for _ in range(2)]
        optimizers = [torch.optim.SGD(net.parameters(), lr=1e-3) for net in nets]
        x, target = batch_of(nets[0], 64)

        def step(which: int) -> Tensor:
            optimizers[which].zero_grad(set_to_none=True)
            loss = (nets[which](x) - target).square().mean()
            loss.backward()
            optimizers[which].step()
            return loss

        warm(torch.cuda.Stream(), lambda: step(0))
        for _ in range(3):
            step(1)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = step(0)
        for _ in range(4):
            graph.replay()
            assert_same_bits([captured.detach()], [step(1).detach()])
        assert_same_bits(list(nets[0].parameters()), list(nets[1].parameters()))

    def test_make_graphed_callables(self, device: str) -> None:
        net = network(GRAPH, torch.float32).to(device)
        plain = copy.deepcopy(net)
        x, grad_y = batch_of(net, 33)
        graphed = torch.cuda.make_graphed_callables(net, (x.clone().requires_grad_(),))
        for seed in (2, 3):
            x, grad_y = batch_of(net, 33, seed)
            assert_same_bits(cloned(gradients(graphed, net, x, grad_y)), gradients(plain, plain, x, grad_y))


class TestStreams:
    @pytest.mark.parametrize("case", ["random", "mixed_aggregations"])
    def test_a_call_runs_on_the_callers_stream_and_does_not_wait(self, device: str, case: str) -> None:
        """x comes late, and only on that stream: whoever works on another reads NaN."""
        net = network(CASES[case], torch.float32).to(device)
        x, grad_y = batch_of(net, 300)
        want = gradients(net, net, x, grad_y)
        late = [torch.full_like(tensor, float("nan")) for tensor in (x, grad_y)]
        stream = torch.cuda.Stream()
        torch.cuda.synchronize()
        with torch.cuda.stream(stream):
            gradients(net, net, *late)  # its memory is this stream's
            torch.cuda._sleep(SLEEP)
            for to, value in zip(late, (x, grad_y), strict=True):
                to.copy_(value)
            found = gradients(net, net, *late)
            assert not stream.query(), "the calls waited for the GPU"
        stream.synchronize()
        assert_same_bits(found, want)

    def test_memory_of_a_call_is_not_handed_on_too_early(self, device: str) -> None:
        """Workspaces are freed while kernels that use them still wait."""
        net = network(GRAPH, torch.float32).to(device)
        x, grad_y = batch_of(net, 300)
        want = gradients(net, net, x, grad_y)
        torch.cuda._sleep(SLEEP)
        found = []
        for _ in range(10):
            found.append(gradients(net, net, x, grad_y))
            torch.full((1 << 20,), float("nan"), device=device)
        for result in found:
            assert_same_bits(result, want)

    def test_nothing_synchronises(self, device: str) -> None:
        net = network(GRAPH, torch.float32).to(device)
        x, grad_y = batch_of(net, 300)
        gradients(net, net, x, grad_y)
        torch.cuda.set_sync_debug_mode("error")
        try:
            gradients(net, net, x, grad_y)
            with torch.no_grad():
                net(x)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    def test_threads_each_with_a_stream(self, device: str) -> None:
        net = network(GRAPH, torch.float32).to(device)
        x, grad_y = batch_of(net, 300)
        want = gradients(net, net, x, grad_y)
        torch.cuda.synchronize()
        found: list[list[Tensor]] = []

        def work() -> None:
            stream = torch.cuda.Stream()
            with torch.cuda.stream(stream):
                for _ in range(20):
                    found.append(gradients(net, net, x, grad_y))
            stream.synchronize()

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 80
        for result in found:
            assert_same_bits(result, want)

    @pytest.mark.parametrize("case", ["random", "mixed_aggregations"])
    def test_the_same_bits_whatever_else_runs(self, device: str, case: str) -> None:
        net = network(CASES[case], torch.float32).to(device)
        x, grad_y = batch_of(net, 20_000)
        want = gradients(net, net, x, grad_y)
        busy, load = torch.cuda.Stream(), torch.randn(2048, 2048, device=device)
        for _ in range(10):
            with torch.cuda.stream(busy):
                for _ in range(10):
                    load @ load
            assert_same_bits(gradients(net, net, x, grad_y), want)


class TestMemory:
    @pytest.mark.parametrize("checkpoint", [False, True])
    def test_all_of_it_comes_back(self, device: str, checkpoint: bool) -> None:
        net = network(GRAPH, torch.float32, checkpoint=checkpoint).to(device)
        x, grad_y = batch_of(net, 10_000)
        net.activations(x)  # makes a plan of every node, which stays
        gc.collect()
        before = torch.cuda.memory_allocated()
        for _ in range(3):
            gradients(net, net, x, grad_y)
            net(x)
            net.activations(x)
        gc.collect()
        assert torch.cuda.memory_allocated() == before

    def test_what_is_kept_between_forward_and_backward(self, device: str) -> None:
        """The tape and y in training; y alone without gradients and with checkpoint=True."""
        batch = 10_000
        kept = {}
        for mode in ("training", "no_grad", "checkpoint"):
            net = network(GRAPH, torch.float32, checkpoint=mode == "checkpoint").to(device)
            x, _ = batch_of(net, batch)
            net(x)
            before = torch.cuda.memory_allocated()
            with torch.set_grad_enabled(mode != "no_grad"):
                y = net(x)
            kept[mode] = torch.cuda.memory_allocated() - before
            del y
        tape, slack = net.plan.tape_bytes(batch, 4), 64 << 10  # the allocator rounds up
        y_bytes = batch * 5 * 4
        assert tape <= kept["training"] - y_bytes < tape + slack + (2 << 20)
        assert kept["no_grad"] < y_bytes + slack
        assert kept["checkpoint"] < y_bytes + slack

    @pytest.mark.parametrize("asked", [True, False], ids=["refused by the network", "refused by the allocator"])
    def test_out_of_memory_is_an_error_like_any_other(
        self, device: str, asked: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A call this large first asks what memory is left; one that does not ask fails where memory is allocated."""
        if not asked:
            monkeypatch.setattr(placement, "_LARGE", 1 << 62)
        net = network(GRAPH, torch.float32).to(device)
        x, _ = batch_of(net, 33)
        want = net(x)
        free, _ = torch.cuda.mem_get_info()
        error, message = (fw.OutOfMemoryError, "left on cuda") if asked else (RuntimeError, "out of memory")
        with pytest.raises(error, match=message):
            net(x[:1].expand(free // 4, 9))
        assert_same_bits([net(x)], [want])

    @pytest.mark.parametrize("batch", [2_097_152 + 1, 5_000_000])
    def test_a_long_batch(self, device: str, batch: int) -> None:
        """More tiles and slices than a grid has blocks in its second direction."""
        net = network(CASES["diamond"], torch.float32).to(device)
        x = torch.randn(batch, 1, device=device)
        grad_y = torch.zeros(batch, 1, device=device)
        grad_y[-1000:] = 1
        found = gradients(net, net, x, grad_y)
        want = gradients(net, net, x[-1000:], grad_y[-1000:])
        torch.testing.assert_close(found[0][-1000:], want[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found[1][-1000:], want[1], rtol=1e-5, atol=1e-5)
        assert not found[1][:-1000].any()
        for got, other in zip(found[2:], want[2:], strict=True):
            torch.testing.assert_close(got, other, rtol=1e-4, atol=1e-3)

    def test_more_than_2_to_the_31_numbers_in_each_array(self, device: str) -> None:
        """x, y, tape and gradients: 1,032 inputs, as many outputs, two million samples, of which some are compared."""
        width, batch, some = 1032, (1 << 21) - 64, 500
        assert width * batch > 1 << 31
        need = 4 * width * batch * 12
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info()
        if free < need:
            pytest.skip(f"needs {need >> 30} GiB of free GPU memory, got {free >> 30}")
        inputs = np.arange(width)
        src, dst = np.concatenate((inputs, np.roll(inputs, 1))), np.tile(inputs + width, 2)
        graph = fw.Graph.from_edges(src, dst, output_activation="tanh")
        net = network(graph, torch.float32).to(device)
        x = torch.empty(batch, width, device=device).normal_()
        grad_y = torch.zeros(batch, width, device=device)
        parts = [slice(0, some), slice(batch // 2, batch // 2 + some), slice(batch - some, batch)]
        for part in parts:
            grad_y[part].normal_()
        found = gradients(net, net, x, grad_y)
        few = [torch.cat([tensor[part] for part in parts]) for tensor in (x, grad_y)]
        want = gradients(net, net, *few)
        for got, other in zip(found[:2], want[:2], strict=True):
            torch.testing.assert_close(torch.cat([got[part] for part in parts]), other, rtol=1e-5, atol=1e-5)
        assert not found[1][some : batch // 2].any()
        for got, other in zip(found[2:], want[2:], strict=True):
            torch.testing.assert_close(got, other, rtol=1e-4, atol=1e-3)
        del found, x, grad_y
        torch.cuda.empty_cache()

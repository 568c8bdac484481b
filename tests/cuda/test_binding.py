# SPDX-License-Identifier: MIT
"""csrc/cuda/common/torch_stream.h and its users: tile widths, guards, streams, memory, and every message.

On the CPU shim, and on a GPU too where that makes sense. What only a GPU can show is tested in tests/cuda/test_gpu.py,
the operators' results in tests/ops/test_ops.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch
from torch import Tensor

import freewire as fw
from freewire.nn import placement
from tests.support import simt_torch
from tests.support.graphs import CASES
from tests.support.tensors import DTYPES, assert_same_bits, assert_within, batch_of, exact, gradients, network

TILES = (0, 2, 4, 8, 16, 32)

anywhere = pytest.mark.parametrize("device", ["simt", "cuda"], indirect=True)


@pytest.fixture
def shim() -> Iterator[None]:
    """The CUDA operators on CPU tensors."""
    with simt_torch.played():
        yield


def everything(net: fw.Network, x: Tensor, grad_y: Tensor) -> list[Tensor]:
    """y without gradients, y, and all gradients."""
    with torch.no_grad():
        y = net(x)
    return [y, *gradients(net, net, x, grad_y)]


def refused(message: str, graph: str = "random", modes: Sequence[bool] = (False, True)) -> None:
    """Assert that a call raises this message, with and without gradients (or as ``modes`` says)."""
    net = network(CASES[graph], torch.float32)
    x, _ = batch_of(net, 3)
    for requires_grad in modes:
        with pytest.raises(RuntimeError, match=message):
            net.requires_grad_(requires_grad)(x)


@anywhere
class TestTileWidth:
    """$FREEWIRE_CUDA_TILE."""

    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    @pytest.mark.parametrize("case", ["random", "mixed_aggregations", "all_activations", "fan_in_33"])
    def test_every_width_agrees_with_the_reference(
        self, device: str, monkeypatch: pytest.MonkeyPatch, case: str, dtype: torch.dtype
    ) -> None:
        net = network(CASES[case], dtype).to(device)
        x, grad_y = batch_of(net, 67)
        want, rough = exact(net, x, grad_y), gradients(lambda x: fw.reference(net, x), net, x, grad_y)
        for tile in (None, *TILES):
            if tile is None:
                monkeypatch.delenv("FREEWIRE_CUDA_TILE", raising=False)
            else:
                monkeypatch.setenv("FREEWIRE_CUDA_TILE", str(tile))
            for name, got, exactly, plain in zip(
                ("inference", "y", "grad_x", "grad_weight", "grad_bias"),
                everything(net, x, grad_y),
                (want[0], *want),
                (rough[0], *rough),
                strict=True,
            ):
                assert_within(got, exactly, plain, f"{name}, tile {tile}")

    def test_the_backward_need_not_have_the_forwards_width(self, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
        net = network(CASES["random"], torch.float32).to(device)
        x, grad_y = batch_of(net, 100)
        want = gradients(net, net, x, grad_y)
        for forward, backward in ((0, 32), (32, 0), (2, 16)):
            monkeypatch.setenv("FREEWIRE_CUDA_TILE", str(forward))
            y = net(x)
            monkeypatch.setenv("FREEWIRE_CUDA_TILE", str(backward))
            for got, other in zip(torch.autograd.grad(y, list(net.parameters()), grad_y), want[2:], strict=True):
                torch.testing.assert_close(got, other, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("value", ["", "1", "3", "64", "-2", "02", "8.0", "wide", "auto"])
    def test_no_such_width(self, device: str, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        net = network(CASES["random"], torch.float32).to(device)
        x, _ = batch_of(net, 3)
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", value)
        with pytest.raises(
            RuntimeError,
            match=f'FREEWIRE_CUDA_TILE: expected 0, 2, 4, 8, 16 or 32, got "{value}"\\. Unset it\\.',
        ):
            net(x)

    def test_a_width_that_no_gpu_holds(self, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
        net = network(fw.generators.mlp([4, 2000, 1], activation="tanh")).to(device)  # 32 columns are half a MiB
        x, _ = batch_of(net, 3)
        want = net(x)  # such a width is never chosen
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", "32")
        with pytest.raises(RuntimeError, match=r"FREEWIRE_CUDA_TILE: expected at most \d+ columns, .* got 32\. Set it"):
            net(x)
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", "0")
        torch.testing.assert_close(net(x), want)


@anywhere
class TestMemory:
    """What the operators read and write."""

    @pytest.mark.parametrize("tile", ["0", "2", "32"])
    def test_a_tape_that_is_part_of_a_larger_tensor(
        self, device: str, monkeypatch: pytest.MonkeyPatch, tile: str
    ) -> None:
        """As where saved activations are moved away and back: contiguous, and at an address no wide load can take."""
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)
        net = network(CASES["random"], torch.float32).to(device)
        x, grad_y = batch_of(net, 100)
        want = gradients(net, net, x, grad_y)

        def inside(saved: Tensor) -> Tensor:
            buffer = saved.new_empty(saved.numel() + 1)
            buffer[1:] = saved.flatten()
            return buffer[1:].view(saved.shape)

        with torch.autograd.graph.saved_tensors_hooks(inside, lambda saved: saved):
            assert_same_bits(gradients(net, net, x, grad_y), want)

    @pytest.mark.parametrize("tile", ["0", "8"])
    @pytest.mark.parametrize("case", ["random", "mixed_aggregations", "dead"])
    def test_gradients_of_the_parameters_alone(
        self, device: str, monkeypatch: pytest.MonkeyPatch, case: str, tile: str
    ) -> None:
        """Then the inputs' gradients are not computed; the parameters' are the same."""
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)
        net = network(CASES[case], torch.float32).to(device)
        x, grad_y = batch_of(net, 100)
        want = gradients(net, net, x, grad_y)[2:]
        assert_same_bits(torch.autograd.grad(net(x), list(net.parameters()), grad_y), want)

    @pytest.mark.parametrize("tile", ["0", "8"])
    @pytest.mark.parametrize("case", ["random", "mixed_aggregations", "dead", "no_edges", "fan_in_0"])
    @pytest.mark.parametrize("batch", [0, 1, 65, 2100])
    def test_what_nothing_wrote_is_not_read(
        self, device: str, monkeypatch: pytest.MonkeyPatch, case: str, batch: int, tile: str
    ) -> None:
        """Torch's deterministic mode fills fresh memory with NaN, or with the largest integer."""
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)
        for dtype in (torch.float32, torch.bfloat16) if batch < 2000 else (torch.float32,):
            net = network(CASES[case], dtype).to(device)
            x, grad_y = batch_of(net, batch)
            want = everything(net, x, grad_y)
            torch.use_deterministic_algorithms(True)
            try:
                assert_same_bits(everything(net, x, grad_y), want)
            finally:
                torch.use_deterministic_algorithms(False)
            assert all(value.isfinite().all() for value in want)

    @pytest.mark.parametrize("tile", ["0", "8"])
    @pytest.mark.parametrize("how", ["transposed", "strided", "expanded", "offset"])
    def test_tensors_that_are_not_contiguous(
        self, device: str, monkeypatch: pytest.MonkeyPatch, how: str, tile: str
    ) -> None:
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)
        net = network(CASES["random"], torch.float32).to(device)

        def odd(width: int) -> Tensor:
            wide = torch.randn(2 * width, 160, generator=torch.Generator().manual_seed(width)).to(device)
            return {
                "transposed": lambda: wide[:width, :70].T,
                "strided": lambda: wide.T[:70, ::2],
                "expanded": lambda: wide[0, :width].expand(70, width),
                "offset": lambda: wide.reshape(-1)[3 : 3 + 70 * width].view(70, width),  # aligned to 4 bytes only
            }[how]()

        x, grad_y = odd(9), odd(5)
        assert_same_bits(everything(net, x, grad_y), everything(net, x.contiguous().clone(), grad_y.contiguous()))

    def test_parameters_that_stand_anywhere(self, device: str) -> None:
        """Weights are a slice of a longer vector, as optimizers that flatten parameters make them."""
        net = network(CASES["random"], torch.float32).to(device)
        x, grad_y = batch_of(net, 70)
        want = everything(net, x, grad_y)
        for parameter in net.parameters():
            longer = torch.zeros(len(parameter) + 1, device=device)
            longer[1:] = parameter.data
            parameter.data = longer[1:]
        assert_same_bits(everything(net, x, grad_y), want)

    @pytest.mark.parametrize("tile", ["0", "8"])
    def test_an_empty_batch(self, device: str, monkeypatch: pytest.MonkeyPatch, tile: str) -> None:
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", tile)
        net = network(CASES["random"], torch.float32).to(device)
        x = torch.empty(0, 9, device=device, requires_grad=True)
        y = net(x)
        y.sum().backward()
        assert (y.shape, x.grad.shape) == ((0, 5), (0, 9))
        assert not net.weight.grad.any()
        assert not net.bias.grad.any()


class TestDevice:
    """Which GPUs are accepted, and the messages about those that are not."""

    def test_the_driver_is_too_old(self, shim: None) -> None:
        with simt_torch.device(driver=12040):
            refused(
                r"CUDA driver: expected one for CUDA 13, which freewire was built with, or newer, got one for CUDA "
                r"12\.4\. Update the driver, or rebuild freewire with an older nvcc\."
            )

    @pytest.mark.parametrize("driver", [13000, 13010, 14020])
    def test_an_equal_or_newer_driver_serves(self, shim: None, driver: int) -> None:
        with simt_torch.device(driver=driver):
            network(CASES["diamond"])(torch.ones(2, 1, dtype=torch.float64))

    @pytest.mark.parametrize(("capability", "name"), [(70, "7.0"), (61, "6.1"), (0, "0.0")])
    def test_the_chip_is_too_old(self, shim: None, capability: int, name: str) -> None:
        with simt_torch.device(capability=capability):
            refused(rf'GPU: expected compute capability 7\.5 \(Turing\) or newer, got {name}\. Use net\.to\("cpu"\)\.')

    def test_the_oldest_chip_serves(self, shim: None) -> None:
        with simt_torch.device(capability=75, shared_bytes=64 << 10, multiprocessors=68):
            network(CASES["diamond"])(torch.ones(2, 1, dtype=torch.float64))

    def test_a_width_that_this_gpu_does_not_hold(self, shim: None, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", "16")
        slots = network(CASES["random"]).plan.num_slots
        with simt_torch.device(shared_bytes=16 * slots * 4):  # 16 columns, but nothing else that a block needs
            refused(
                r"FREEWIRE_CUDA_TILE: expected at most [248] columns, the most that fit into this GPU's shared memory "
                rf"for this network's {slots} rows, got 16\. Set it to 0 to stream, or unset it\.",
                modes=[True],
            )
            with torch.no_grad():  # nothing is kept, so that rows are used again, and they fit
                network(CASES["random"], torch.float32)(torch.ones(3, 9))

    def test_what_fits_no_block_is_streamed(self, shim: None) -> None:
        net = network(CASES["fan_in_1000"], torch.float32)
        x, grad_y = batch_of(net, 3)
        want = everything(net, x, grad_y)
        with simt_torch.device(shared_bytes=6000):  # two columns take 8,000; the streamed kernels' own arrays 4,224
            before = simt_torch.launches()
            found = everything(net, x, grad_y)
            started = {name for name, times in simt_torch.launches().items() if times > before.get(name, 0)}
        assert {name for name in started if name.startswith("resident")} == set()
        assert {"level_forward_kernel", "level_backward_kernel"} <= started
        for got, other in zip(found, want, strict=True):
            torch.testing.assert_close(got, other, rtol=1e-4, atol=1e-4)

    def test_out_of_memory(self, shim: None, monkeypatch: pytest.MonkeyPatch) -> None:
        """In torch's words, which those who look for a batch that fits search for."""
        monkeypatch.setattr(placement, "_LARGE", 1 << 62)  # or the network would refuse before it is tried
        net = network(CASES["diamond"], torch.float32)
        with pytest.raises(RuntimeError, match=rf"CUDA out of memory: expected {4 << 45} bytes to be free on the GPU"):
            net(torch.zeros(1, 1).expand(1 << 45, 1))

    def test_a_kernel_that_does_not_start(self, shim: None) -> None:
        with simt_torch.device(refuse=1):
            refused("CUDA: expected every kernel to start, got .*got the option to refuse them")

    def test_a_streams_guard_is_the_tensors(self, shim: None) -> None:
        """Every call guards its tensors' device, and asks for that device's stream while it does."""
        library = simt_torch.library()
        net = network(CASES["random"], torch.float32)
        x, grad_y = batch_of(net, 3)
        before = library.simt_guards()
        everything(net, x, grad_y)
        assert library.simt_guards() - before == 3  # two forwards, one backward
        assert library.simt_strays() == 0

    def test_a_refused_call_leaves_nothing_behind(self, shim: None, monkeypatch: pytest.MonkeyPatch) -> None:
        net = network(CASES["random"], torch.float32)
        x, grad_y = batch_of(net, 3)
        want = everything(net, x, grad_y)
        monkeypatch.setenv("FREEWIRE_CUDA_TILE", "garbage")
        refused("FREEWIRE_CUDA_TILE: expected")
        monkeypatch.delenv("FREEWIRE_CUDA_TILE")
        assert_same_bits(everything(net, x, grad_y), want)

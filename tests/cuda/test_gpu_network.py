# SPDX-License-Identifier: MIT
"""`Network` on a GPU: from device to device, and with what torch puts around a module.

Every test runs with the network resident in shared memory and with one launch per level, by the `device` fixture of
conftest.py.
"""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import freewire as fw
from tests.support.graphs import CASES
from tests.support.tensors import DTYPES, assert_same_bits, assert_within, batch_of, exact, gradients, network

pytestmark = pytest.mark.parametrize("device", ["cuda", "cuda_streamed"], indirect=True)

GRAPH = CASES["random"]  # 9 inputs, 5 outputs


class TestDevices:
    @pytest.mark.parametrize("dtype", DTYPES, ids=str)
    def test_results_are_the_cpus(self, device: str, dtype: torch.dtype) -> None:
        graph = fw.generators.random_graph(784, 1990, 10, 32, activation="tanh", seed=0)
        net = network(graph, dtype)
        x, grad_y = batch_of(net, 256)
        want, rough = exact(net, x, grad_y), gradients(net, net, x, grad_y)
        net.to(device)
        found = gradients(net, net, x.to(device), grad_y.to(device))
        for name, got, exactly, plain in zip(
            ("y", "grad_x", "grad_weight", "grad_bias"), found, want, rough, strict=True
        ):
            assert_within(got.cpu(), exactly, plain, name)

    def test_there_and_back(self, device: str) -> None:
        net = network(GRAPH, torch.float32)
        x, grad_y = batch_of(net, 33)
        want = gradients(net, net, x, grad_y)
        assert net.to(device).weight.device.type == "cuda"
        net(x.to(device))
        assert_same_bits(gradients(net.to("cpu"), net, x, grad_y), want)
        assert net.cuda().cpu().double()(x.double()).dtype == torch.float64

    def test_made_on_the_gpu(self, device: str) -> None:
        net = fw.Network(GRAPH, device=device)
        x = torch.randn(33, 9, device=device)
        torch.testing.assert_close(net(x), fw.reference(net, x), rtol=1e-3, atol=1e-3)
        with torch.device(device):
            assert fw.Network(GRAPH)(torch.randn(33, 9)).device.type == "cuda"
        meta = fw.Network(GRAPH, device="meta").to_empty(device=device)
        meta.load_state_dict(net.state_dict())
        assert_same_bits([meta(x)], [net(x)])

    def test_files(self, device: str, tmp_path: Path) -> None:
        net = network(GRAPH, torch.float32).to(device)
        x, _ = batch_of(net, 33)
        path = tmp_path / "net.safetensors"
        fw.save(net, path)
        assert_same_bits([fw.load(path, device=device)(x)], [net(x)])
        assert fw.load(path).weight.device.type == "cpu"
        assert_same_bits([fw.load(path).to(device)(x)], [net(x)])

    @pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
    def test_copies(self, device: str, how: str) -> None:
        net = network(GRAPH, torch.float32).to(device)
        x, _ = batch_of(net, 33)
        if how == "deepcopy":
            other = copy.deepcopy(net)
        elif how == "pickle":
            other = pickle.loads(pickle.dumps(net))
        else:
            file = io.BytesIO()
            torch.save(net, file)
            file.seek(0)
            other = torch.load(file, weights_only=False)
        assert other.weight.device.type == "cuda"
        assert_same_bits([net(x), *net.activations(x).values()], [other(x), *other.activations(x).values()])

    def test_state_dicts_cross_devices(self, device: str) -> None:
        net, other = network(GRAPH, torch.float32, seed=1).to(device), network(GRAPH, torch.float32, seed=2)
        other.load_state_dict(net.state_dict())
        assert_same_bits([other.weight.detach()], [net.weight.detach().cpu()])
        file = io.BytesIO()
        torch.save(net.state_dict(), file)
        file.seek(0)
        third = network(GRAPH, torch.float32, seed=3).to(device)
        third.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        x, _ = batch_of(net, 33)
        assert_same_bits([third(x)], [net(x)])

    def test_weights_assigned_from_another_device(self, device: str) -> None:
        """The parameters moved without telling the module: its plan follows."""
        net, gpu = network(GRAPH, torch.float32), network(GRAPH, torch.float32).to(device)
        x, _ = batch_of(gpu, 33)
        net.load_state_dict(gpu.state_dict(), assign=True)
        assert_same_bits([net(x), *net.activations(x).values()], [gpu(x), *gpu.activations(x).values()])

    def test_a_gpu_that_is_not_the_current_one(self, device: str) -> None:
        if torch.cuda.device_count() < 2:
            pytest.skip("needs two GPUs")
        nets = [network(GRAPH, torch.float32).to(f"cuda:{i}") for i in (0, 1)]
        samples = [batch_of(net, 300) for net in nets]
        want = [value.cpu() for value in gradients(nets[0], nets[0], *samples[0])]
        for current in (0, 1):
            with torch.cuda.device(current):
                found = gradients(nets[1], nets[1], *samples[1])
                assert torch.cuda.current_device() == current
            assert {value.device.index for value in found} == {1}
            assert_same_bits([value.cpu() for value in found], want)
        with pytest.raises(fw.InputError, match=r"x: expected device cuda:1, the network's, got cuda:0\. Move one"):
            nets[1](samples[0][0])

    def test_mixed_devices(self, device: str) -> None:
        net = network(GRAPH, torch.float32)
        x, _ = batch_of(net, 3)
        with pytest.raises(
            fw.InputError, match=r"^x: expected device cpu, the network's, got cuda:0\. Move one of them"
        ):
            net(x.to(device))
        net.to(device)
        with pytest.raises(
            fw.InputError, match=r"^x: expected device cuda:0, the network's, got cpu\. Move one of them"
        ):
            net(x)
        net.bias.data = net.bias.data.cpu()
        with pytest.raises((fw.InputError, RuntimeError), match=r"bias: expected (the )?device"):
            net(x.to(device))

    @pytest.mark.parametrize("elsewhere", range(1, 15))
    def test_mixed_devices_of_the_forward_operator(self, device: str, elsewhere: int) -> None:
        """x, weight, bias and plan, each on the CPU or on the GPU, in every combination."""
        net = network(GRAPH, torch.float32).to(device)
        x, _ = batch_of(net, 3)
        words, header, _, num_outputs, *_ = net._placed
        tensors = [x, net.weight.detach(), net.bias.detach(), words]
        tensors = [tensor.cpu() if elsewhere >> i & 1 else tensor for i, tensor in enumerate(tensors)]
        with pytest.raises(RuntimeError, match=r"(weight|bias|plan): expected (the )?device"):
            torch.ops.freewire.forward(*tensors, header, num_outputs, 0)

    @pytest.mark.parametrize("elsewhere", range(1, 15))
    def test_mixed_devices_of_the_backward_operator(self, device: str, elsewhere: int) -> None:
        net = network(GRAPH, torch.float32).to(device)
        x, grad_y = batch_of(net, 3)
        weight, bias = net.weight.detach(), net.bias.detach()
        words, header, num_inputs, num_outputs, tape_rows, *_ = net._placed
        _, tape = torch.ops.freewire.forward(x, weight, bias, words, header, num_outputs, tape_rows)
        tensors = [grad_y, tape, weight, words]
        tensors = [tensor.cpu() if elsewhere >> i & 1 else tensor for i, tensor in enumerate(tensors)]
        with pytest.raises(RuntimeError, match=r"(weight|tape|plan): expected (the )?device"):
            torch.ops.freewire.backward(*tensors, header, num_inputs, len(bias), True, True)
        assert_same_bits([net(x)], [net(x)])  # nothing stuck


class TestTorch:
    """What torch puts around a module, on a GPU."""

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")  # of TF32 and of the compiler's workers: none of ours
    @pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
    def test_compile(self, device: str, mode: str) -> None:
        torch._dynamo.reset()
        net = network(GRAPH, torch.float32)
        model = nn.Sequential(nn.Linear(4, 9), net, nn.Tanh()).to(device)
        run = torch.compile(model, fullgraph=True, mode=mode)
        for seed in range(4):  # graphs are captured at the second call
            x = torch.randn(64, 4, generator=torch.Generator().manual_seed(seed)).to(device)
            torch.compiler.cudagraph_mark_step_begin()
            with torch.no_grad():
                torch.testing.assert_close(run(x).clone(), model(x), rtol=1e-4, atol=1e-4)
            want, got = (
                [grad.clone() for grad in torch.autograd.grad(m(x).square().sum(), list(model.parameters()))]
                for m in (model, run)
            )
            for a, b in zip(got, want, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
        torch._dynamo.reset()

    @pytest.mark.parametrize("target", [torch.bfloat16, torch.float16])
    def test_autocast(self, device: str, target: torch.dtype) -> None:
        net = network(GRAPH, torch.float32).to(device)
        x = batch_of(net, 33)[0].requires_grad_()
        with torch.autocast("cuda", dtype=target):
            y = net(x)
            again = net(x.to(target))
        narrow = copy.deepcopy(net).to(target)
        assert_same_bits([y, again], [narrow(x.to(target))] * 2)
        y.float().sum().backward()
        assert (x.grad.dtype, net.weight.grad.dtype) == (torch.float32, torch.float32)

    def test_gradient_scaling(self, device: str) -> None:
        net = network(GRAPH, torch.float32).to(device)
        x, target = batch_of(net, 64)
        optimizer, scaler = torch.optim.SGD(net.parameters(), lr=1e-3), torch.amp.GradScaler("cuda", init_scale=256.0)
        before = net.weight.detach().clone()
        with torch.autocast("cuda", dtype=torch.float16):
            loss = (net(x) - target).float().square().mean()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        assert not torch.equal(before, net.weight)
        assert net.weight.isfinite().all()

    @pytest.mark.parametrize("checkpoint", [False, True])
    def test_it_trains(self, device: str, checkpoint: bool) -> None:
        torch.manual_seed(0)
        graph = fw.generators.random_graph(2, 40, 1, fan_in=6, activation="tanh", seed=0)
        net = fw.Network(graph, init="xavier", checkpoint=checkpoint).to(device)
        x = (torch.rand(256, 2) * 2 - 1).to(device)
        target = (x[:, :1] * x[:, 1:]).sign()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.02, fused=True)
        losses = []
        for _ in range(300):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(net(x), target)
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())
        assert losses[0] > 0.8
        assert losses[-1] < 0.25

    @pytest.mark.parametrize("case", ["random", "mixed_aggregations"])
    def test_checkpoint_gives_the_same_bits(self, device: str, case: str) -> None:
        net, lean = (network(CASES[case], checkpoint=c).to(device) for c in (False, True))
        x, grad_y = batch_of(net, 300)
        assert_same_bits(gradients(net, net, x, grad_y), gradients(lean, lean, x, grad_y))

    def test_functional_derivatives(self, device: str) -> None:
        net = network(fw.generators.mlp([3, 4, 2], activation="tanh")).to(device)
        x = torch.randn(3, dtype=torch.float64, device=device)
        many, v = torch.randn(4, 5, 3, dtype=torch.float64, device=device), torch.ones_like(x)

        def plain(x: Tensor) -> Tensor:
            return fw.reference(net, x)

        transforms: list[Callable[[Any], Tensor]] = [
            lambda f: torch.func.vmap(f)(many),
            lambda f: torch.func.vmap(f, in_dims=1)(many),
            lambda f: torch.func.jacrev(f)(x),
            lambda f: torch.func.jacfwd(f)(x),
            lambda f: torch.func.jvp(f, (x,), (v,))[1],
            lambda f: torch.func.vmap(torch.func.jacrev(f))(many[0]),
            lambda f: torch.func.hessian(lambda x: f(x).square().sum())(x),
        ]
        for transform in transforms:
            torch.testing.assert_close(transform(net), transform(plain))

    def test_per_sample_gradients(self, device: str) -> None:
        net = network(GRAPH).to(device)
        x, _ = batch_of(net, 4)

        def loss(weight: Tensor, x: Tensor) -> Tensor:
            return torch.func.functional_call(net, {"weight": weight}, (x,)).square().sum()

        got = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(net.weight.detach(), x)
        for i in range(4):
            torch.testing.assert_close(got[i], torch.autograd.grad(loss(net.weight, x[i]), net.weight)[0])

    def test_activations(self, device: str) -> None:
        net = network(CASES["dead"])
        x, _ = batch_of(net, 33)
        want = net.activations(x)
        net.to(device)
        found = net.activations(x.to(device))
        assert list(found) == list(want)
        for node, values in found.items():
            torch.testing.assert_close(values.cpu(), want[node])
        sum(values.sum() for values in found.values()).backward()
        assert net.weight.grad.all()

    @pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (2, 0, 3)])
    def test_any_leading_shape(self, device: str, shape: tuple[int, ...]) -> None:
        net = network(GRAPH).to(device)
        x = torch.randn(*shape, 9, dtype=torch.float64, device=device, requires_grad=True)
        y = net(x)
        assert y.shape == (*shape, 5)
        torch.testing.assert_close(y, fw.reference(net, x), rtol=1e-12, atol=1e-12)
        y.sum().backward()
        assert x.grad.shape == x.shape

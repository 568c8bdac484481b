# SPDX-License-Identifier: MIT
"""Constrained networks in torch's transforms, programs and types, and in several processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import freewire as fw
from tests.support.constrained import batch, constrained, drawn

SETS = [("sign",), ("frozen",), ("group",), ("sign", "frozen", "group")]
ALL = SETS[-1]


def results(run, net: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    net.zero_grad()
    y = run(x)
    y.square().sum().backward()
    return [y.detach(), *(parameter.grad for parameter in net.parameters())]


@pytest.mark.parametrize("names", SETS)
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_compile(names, backend):
    torch._dynamo.reset()
    net = constrained(*names)
    x, _ = batch()
    run = torch.compile(net, fullgraph=True, backend=backend)
    want = results(net, net, x)
    torch.testing.assert_close(results(run, net, x), want)
    with torch.no_grad():
        torch.testing.assert_close(run(x), want[0])


@pytest.mark.filterwarnings("ignore:`isinstance.treespec, LeafSpec.` is deprecated:FutureWarning")
@pytest.mark.parametrize("strict", [False, True])
def test_export(strict):
    torch._dynamo.reset()
    net = constrained(*ALL)
    x, _ = batch()
    program = torch.export.export(net, (x,), strict=strict).module()
    torch.testing.assert_close(program(x), net(x))
    program(x).square().sum().backward()
    assert len([p for p in program.parameters() if p.grad is not None]) == len(list(net.parameters()))


def test_functional_call_and_transforms():
    net = constrained(*ALL)
    x, _ = batch()
    parameters = dict(net.named_parameters())
    double = {name: 2 * value.detach() for name, value in parameters.items()}
    other = torch.func.functional_call(net, double, (x,))
    with torch.no_grad():
        want = net(x)
        for name, value in parameters.items():
            value.copy_(double[name])
    torch.testing.assert_close(other, net(x))
    assert not torch.allclose(other, want)

    def loss(values: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(net, values, (x,)).square().sum()

    grads = torch.func.grad(loss)(parameters)
    found = results(net, net, x)[1:]
    torch.testing.assert_close(list(grads.values()), found)
    stacked = {name: torch.stack([value, value]) for name, value in parameters.items()}
    both = torch.func.vmap(lambda values: torch.func.functional_call(net, values, (x,)))(stacked)
    torch.testing.assert_close(both[1], net(x))


@pytest.mark.parametrize("names", SETS)
def test_autocast_and_types(names):
    net = constrained(*names)
    x, _ = batch()
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x)
    assert y.dtype == torch.bfloat16
    y.sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in net.parameters())
    for dtype in (torch.float64, torch.bfloat16, torch.float16):
        net.to(dtype)
        assert net.weight.dtype == dtype
        assert torch.equal(net.weight, torch.tensor(drawn()["weight"]).to(dtype))
        assert net(x.to(dtype)).dtype == dtype
    net.double()
    torch.testing.assert_close(net(x.double()), fw.reference(net, x.double()))
    assert net.activations(x.double()).keys() == set(net.graph.nodes)


def test_gradcheck():
    net = constrained(*ALL, dtype=torch.float64)
    x, _ = batch(3, torch.float64)
    names, values = zip(*net.named_parameters(), strict=True)

    def run(*given: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(net, dict(zip(names, given, strict=True)), (x,))

    assert torch.autograd.gradcheck(run, values)


def work(rank: int, folder: str) -> None:
    """A step under DDP and one under FSDP2 in each of two processes."""
    from torch.distributed.fsdp import fully_shard

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # where this machine's name cannot be resolved
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    x, _ = batch()
    found = {}
    for names in SETS:
        net = constrained(*names)
        run = nn.parallel.DistributedDataParallel(net)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        run(x[rank::2]).square().mean().backward()
        optimizer.step()
        found["ddp", names] = net.weight.detach()
        with torch.device("meta"):
            net = constrained(*names, stored=names == ALL)
        fully_shard(net)
        net.to_empty(device="cpu")
        torch.manual_seed(rank)  # each process draws other numbers
        net.reset_parameters()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        y = net(x)
        y.square().mean().backward()
        optimizer.step()
        found["fsdp", names] = y.detach(), net(x).detach()
    torch.save(found, os.path.join(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
def test_two_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    x, _ = batch()
    for (kind, names), result in first.items():
        torch.testing.assert_close(second[kind, names], result)
        if kind == "ddp":
            net = constrained(*names)
            optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
            net(x).square().mean().backward()
            optimizer.step()
            torch.testing.assert_close(result, net.weight.detach())
        else:
            assert not torch.equal(*result)

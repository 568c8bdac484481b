# SPDX-License-Identifier: MIT
"""`Recurrent` in several processes, as DDP and FSDP run it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

import freewire as fw
from tests.support.graphs import RECURRENT
from tests.support.recurrent import recurrent, sequence_of, wired

GRAPH = wired(0)  # 3 inputs, 4 outputs, leaks, delays to 3
SMALL = fw.Graph.from_edges(
    [0, 0, 1, 2, 2], [1, 2, 2, 1, 2], outputs=[2], delay=[0, 1, 0, 1, 2], leak=[1, 0.5, 1], activation="tanh"
)


def work(rank: int, folder: str) -> None:
    """A step under DDP and one under FSDP2 in each of two processes."""
    from torch.distributed.fsdp import fully_shard

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # where this machine's name cannot be resolved
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    net = recurrent(RECURRENT, learn_leak=True)
    run = nn.parallel.DistributedDataParallel(net)
    run(sequence_of(net, 4, 6)[:, rank::2])[0].square().mean().backward()
    found = {"ddp": [p.grad for p in net.parameters()]}
    with torch.device("meta"):
        net = fw.Recurrent(RECURRENT, learn_leak=True, dtype=torch.float64)
    fully_shard(net)
    net.to_empty(device="cpu")
    torch.manual_seed(rank)  # each process draws other numbers
    net.reset_parameters()
    full = {name: p.full_tensor() for name, p in net.named_parameters()}
    x = torch.ones(4, 2, 1, dtype=torch.float64)
    y, _ = net(x)
    y.square().sum().backward()
    grads = {name: p.grad.full_tensor() for name, p in net.named_parameters()}
    torch.save((found["ddp"], full, y.detach(), grads), os.path.join(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
def test_two_processes(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(work, (str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    torch.testing.assert_close(first, second)
    ddp, full, y, grads = first
    net = recurrent(RECURRENT, learn_leak=True)
    net(sequence_of(net, 4, 6))[0].square().mean().backward()
    for got, parameter in zip(ddp, net.parameters(), strict=True):
        torch.testing.assert_close(got, parameter.grad)
    net.load_state_dict(full, strict=False)
    net.zero_grad()
    want, _ = net(torch.ones(4, 2, 1, dtype=torch.float64))
    torch.testing.assert_close(y, want)
    want.square().sum().backward()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, net.get_parameter(name).grad)
    assert full["leak"].tolist() == [0.5, 1, 0.25]

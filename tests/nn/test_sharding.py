# SPDX-License-Identifier: MIT
"""Networks under FSDP2, built on the meta device: two processes on this machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import freewire as fw

STORED = fw.Graph.from_edges([0, 0, 1], [2, 3, 3], weight=[0.5, -2.0, 3.0], bias=[0, 0, 1.5, -1])
GRAPHS = {
    "drawn": fw.generators.random_graph(8, 33, 3, 4, seed=0),
    "stored": STORED,
    "without edges": fw.Graph.from_edges([], [], num_nodes=4, inputs=[0], outputs=[1, 2, 3]),
}


def constant(weight: Tensor, _: fw.Graph) -> Tensor:
    return nn.init.constant_(weight, 0.25)


INITS: dict[str, str | Callable[..., Any] | None] = {"default": None, "xavier": "xavier", "constant": constant}


def train(rank: int, folder: str) -> None:
    """torch's recipe for large models; each process writes the whole weights and the gradients that it found."""
    from torch.distributed.fsdp import fully_shard

    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")  # where this machine's name cannot be resolved
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.set_num_threads(1)
    found = {}
    for graph_name, graph in GRAPHS.items():
        for init_name, init in INITS.items():
            torch.manual_seed(rank)  # each process draws other numbers
            with torch.device("meta"):
                net = fw.Network(graph, init=init)
                model = nn.Sequential(nn.Linear(3, len(graph.inputs)), net)
            fully_shard(net)
            fully_shard(model)
            model.to_empty(device="cpu")
            for module in model:
                module.reset_parameters()
            weights = {name: p.full_tensor() for name, p in net.named_parameters()}
            x = torch.ones(2, 3)
            y = model(x)
            y.square().sum().backward()
            grads = {name: p.grad.full_tensor() for name, p in net.named_parameters() if p.grad is not None}
            first = {name: p.full_tensor() for name, p in model[0].named_parameters()}
            found[graph_name, init_name] = first, weights, grads, y.detach()
    torch.save(found, os.path.join(folder, f"{rank}.pt"))
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch was built without torch.distributed")
def test_the_meta_recipe_of_fsdp(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(train, (str(tmp_path),), nprocs=2)
    results = [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for (name, init), (first, weights, grads, y) in results[0].items():
        torch.testing.assert_close(results[1][name, init], (first, weights, grads, y))
        graph = GRAPHS[name]
        alone = nn.Sequential(nn.Linear(3, len(graph.inputs)), fw.Network(graph))
        alone[0].load_state_dict(first)
        alone[1].load_state_dict(weights, strict=False)
        want = alone(torch.ones(2, 3))
        torch.testing.assert_close(y, want)
        want.square().sum().backward()
        assert set(grads) == {"weight", "bias"} - ({"weight"} if not graph.num_edges else set())
        for key, grad in grads.items():  # both processes have the same batch
            torch.testing.assert_close(grad, alone[1].get_parameter(key).grad)
        if init == "default" and name == "stored":
            torch.testing.assert_close(weights["weight"], torch.tensor(graph.weight, dtype=torch.float32))
            torch.testing.assert_close(weights["bias"], torch.tensor([1.5, -1.0]))
        elif graph.num_edges and init != "constant":
            assert weights["weight"].std() > 0.1


def test_a_network_without_edges_trains() -> None:
    net = fw.Network(GRAPHS["without edges"])
    net(torch.ones(5, 1)).square().sum().backward()
    assert net.weight.grad is None  # FSDP cannot divide an empty gradient
    assert net.bias is not None
    torch.testing.assert_close(net.bias.grad, torch.zeros(3))

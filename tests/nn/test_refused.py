# SPDX-License-Identifier: MIT
"""What a network refuses, and with which message."""

from __future__ import annotations

from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import nn

import freewire as fw
from freewire.nn.checks import check_input
from tests.support.graphs import CASES
from tests.support.tensors import network

GRAPH = CASES["random"]  # 9 inputs, 5 outputs


class TestRefused:
    """Each message: what was expected, what came, what to do."""

    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (
                torch.zeros(3, 8),
                r"x: expected shape \[..., 9\], one feature per input, got \[3, 8\]\. Put the features last",
            ),
            (torch.zeros(()), r"x: expected shape \[..., 9\], one feature per input, got \[\]"),
            (torch.zeros(0), r"x: expected shape \[..., 9\], one feature per input, got \[0\]"),
            (
                torch.zeros(3, 9, dtype=torch.float64),
                r"x: expected torch.float32, the network's type, got torch.float64\. Conv",
            ),
            (torch.zeros(3, 9, dtype=torch.int64), r"got torch.int64\. Convert it: x.to\(torch.float32\)\.$"),
            (np.zeros((3, 9)), r"x: expected a torch.Tensor, got ndarray\. Convert it: torch.as_tensor\(x\)"),
            ([[0.0] * 9], r"x: expected a torch.Tensor, got list\. Convert it"),
            (torch.zeros(3, 9, device="meta"), r"x: expected device cpu, the network's, got meta\. Move one"),
        ],
    )
    def test_input(self, x: Any, message: str) -> None:
        with pytest.raises(fw.InputError, match=message):
            fw.Network(GRAPH)(x)

    def test_other_types(self) -> None:
        known = "expected torch.float32, torch.float64, torch.bfloat16 or torch.float16, got"
        net = fw.Network(GRAPH).to(torch.float8_e5m2)
        with pytest.raises(fw.InputError, match=rf"network: {known} torch.float8_e5m2\. There"):
            net(torch.zeros(3, 9).to(torch.float8_e5m2))
        with pytest.raises(fw.InputError, match=rf"dtype: {known} torch.complex64"):
            fw.Network(GRAPH, dtype=torch.complex64)

    @pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")
    def test_a_gpu_without_a_torch_for_it(self) -> None:
        net = network(GRAPH)
        for move in (
            lambda: net.to("cuda"),
            net.cuda,
            lambda: nn.Sequential(net).to("cuda"),
            lambda: fw.Network(GRAPH, device="cuda"),
        ):
            with pytest.raises(fw.BuildError, match=r"torch: expected one built for CUDA, got .* Install one"):
                move()
        assert net.weight.device.type == "cpu"

    def test_other_devices(self) -> None:
        """No such device is needed to see the message: the check reads only the tensor's label."""
        net = fw.Network(GRAPH)
        fake = torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True)
        with fake:
            x = torch.empty(2, 9, device="xpu")
            with pytest.raises(fw.InputError, match=r"x: expected device cpu, the network's, got xpu"):
                net(x)
            weight = nn.Parameter(torch.empty_like(net.weight, device="xpu"))
            with pytest.raises(
                fw.InputError,
                match=r"x: expected the CPU or a CUDA GPU, got xpu.*no kernels for xpu\. Move",
            ):
                check_input(x, weight, 9)
        with pytest.raises(fw.InputError, match=r"device: expected the CPU or a CUDA GPU, got xpu"):
            fw.Network(GRAPH, device="xpu")
        if not torch.xpu.is_available():
            with pytest.raises(AssertionError, match="XPU"):  # torch's own error, which says what is missing
                fw.Network(GRAPH).to("xpu")

    def test_arguments(self) -> None:
        with pytest.raises(fw.GraphError, match=r"graph: expected a freewire Graph, got DiGraph\. Convert it first"):
            fw.Network(nx.DiGraph())
        with pytest.raises(fw.InputError, match=r"init: expected None, 'he', 'xavier', .* got 'kaiming'\. Choose"):
            fw.Network(GRAPH, init="kaiming")
        stored = fw.Graph.from_edges([0], [1], bias=[0.0, 2.0])
        with pytest.raises(fw.InputError, match=r"bias: expected True, since the graph stores biases, got False"):
            fw.Network(stored, bias=False)

    def test_errors_are_value_errors(self) -> None:
        assert issubclass(fw.InputError, ValueError)
        assert issubclass(fw.GraphError, ValueError)
        assert issubclass(fw.GraphError, fw.FreewireError)

# SPDX-License-Identifier: MIT
"""`freewire.reference`: arguments, types, and where it differs from torch's own functions."""

from __future__ import annotations

import pytest
import torch

import freewire as fw
from tests.support.graphs import CASES
from tests.support.tensors import DTYPES, network, x_of

GRAPH = CASES["random"]  # 9 inputs, 5 outputs


def test_another_number_of_features() -> None:
    for features in (8, 10):
        with pytest.raises(
            fw.InputError, match=rf"x: expected shape \[..., 9\], one feature per input, got \[2, {features}\]"
        ):
            fw.reference(network(GRAPH), torch.zeros(2, features))


def test_hard_sigmoid_is_flat_from_its_corners_on() -> None:
    net = fw.Network(fw.Graph.from_edges([0], [1], weight=[1.0], output_activation="hard_sigmoid"), dtype=torch.float64)
    x = torch.tensor([[-3.0], [3.0], [0.0]], dtype=torch.float64, requires_grad=True)
    for run in (net, lambda x: fw.reference(net, x)):
        assert torch.autograd.grad(run(x).sum(), x)[0].tolist() == [[0.0], [0.0], [1 / 6]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_any_type(device: str, dtype: torch.dtype) -> None:
    net = network(GRAPH, dtype).to(device)
    x = x_of(net, 3)
    for other in (torch.float32, torch.float64, torch.bfloat16):
        assert fw.reference(net, x.to(other)).dtype == other

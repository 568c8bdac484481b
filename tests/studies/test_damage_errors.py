# SPDX-License-Identifier: MIT
"""Every message of a damage study."""

from __future__ import annotations

import pytest
from torch import nn

import freewire as fw
from freewire import studies
from freewire.models import GraphStage, RandWire
from tests.studies.networks import DAG, data, loader, net
from tests.support.messages import assert_refused

pytestmark = pytest.mark.usefixtures("one_thread")


class TestErrors:
    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"model": 3}, "model: expected an nn.Module, got int."),
            (
                {"model": nn.Conv2d(1, 4, 3)},
                "model: expected a network with at least one GraphStage, got Conv2d without one.",
            ),
            ({"nodes": False, "edges": False}, "nodes: expected True where edges is False, got False."),
            ({"loader": 3}, "loader: expected an iterable of .images, labels., got int."),
            ({"loader": []}, "loader: expected at least one image, got none. A generator"),
            ({"loader": data()}, "loader: expected batches .images, labels., two tensors, got Tensor."),
            ({"loader": [{"x": 1}]}, "loader: expected batches .images, labels., two tensors, got dict."),
            ({"loader": [()]}, "loader: expected batches .images, labels., two tensors, got tuple of nothing."),
            (
                {"loader": [(data()[0], [0, 1])]},
                "loader: expected batches .images, labels., two tensors, got tuple of Tensor, list.",
            ),
            (
                {"loader": [(data()[0], data()[1] + 1)]},
                "loader: expected labels from 0 to 3, as the network has 4 outputs, got 4. Number the classes",
            ),
            (
                {"loader": [(data()[0], data()[1] - 1)]},
                "loader: expected labels from 0 to 3, as the network has 4 outputs, got -1.",
            ),
            (
                {"loader": [(data()[0], data()[1][1:])]},
                r"loader: expected integer labels of shape \[24\], one per image, got torch.int64 \[23\].",
            ),
            (
                {"loader": [(data()[0], data()[1].float())]},
                "loader: expected integer labels of shape .*, got torch.float32",
            ),
            (
                {"model": GraphStage(DAG, 1, 4)},
                r"model: expected outputs of shape \[batch, classes\], got \[10, 4, 5, 5\]",
            ),
            (
                {"model": RandWire([DAG] * 3, 4, "small", in_channels=1, features_only=True), "loader": [data(2, 32)]},
                r"model: expected outputs of shape \[batch, classes\], got list. Pass a metric",
            ),
            ({"metric": lambda outputs, labels: 0.5}, "metric: expected a pair .correct images, images., got float."),
        ],
    )
    def test_each_says_what_is_wrong(self, changed, said):
        given = {"model": net(), "loader": [data(10)], **changed}
        assert_refused(lambda: studies.damage(**given), said, fw.InputError)

    def test_a_loader_that_is_used_up(self):
        batches = (batch for batch in loader())
        studies.damage(net(), batches)
        assert_refused(lambda: studies.damage(net(), batches), "loader: expected at least one image", fw.InputError)

# SPDX-License-Identifier: MIT
"""Small networks with two stages, and the data and metric that the tests of studies measure them with."""

from __future__ import annotations

import copy

import networkx as nx
import torch
from torch import Tensor, nn

from freewire.models import GraphStage

#: a and b receive the input; d and e are the sinks; two parallel edges go from b to c; e receives from c alone.
DAG = nx.MultiDiGraph([("a", "c"), ("b", "c"), ("b", "c"), ("a", "d"), ("c", "d"), ("c", "e")])
CLASSES = 4


class Head(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, CLASSES))


class Net(nn.Module):
    """Two stages after a convolution, and between them operations that are not modules."""

    def __init__(self, between: str = "nothing") -> None:
        super().__init__()
        self.between = between
        self.stem = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
        self.stages = nn.ModuleList([GraphStage(DAG, 3, 5), GraphStage(DAG, 5, 5, stride=1)])
        self.act = nn.ReLU(inplace=True)
        self.head = Head(5)

    def forward(self, x: Tensor) -> Tensor:
        if self.between == "overwrites its input":
            x.mul_(2.0).sub_(0.5)
        x = self.stem(x)
        if self.between == "functions":
            x = torch.tanh(x) + 0.1
        x = self.stages[0](x)
        if self.between == "writes":
            x += 0.3
            self.act(x)
        x = self.stages[1](x)
        if self.between == "one stage twice":
            x = self.stages[1](x)
        if self.between == "a module that writes":
            x = self.act(x)
        return self.head(x)


def trained(model: nn.Module, images: Tensor) -> nn.Module:
    """Change every batch norm and every edge weight, as training would."""
    model.train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for _ in range(3):
            model(images.clone())
    return model


def data(count: int = 24, side: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(count, 1, side, side, generator=generator),
        torch.randint(CLASSES, (count,), generator=generator),
    )


def net(between: str = "nothing") -> nn.Module:
    torch.manual_seed(0)
    return trained(Net(between), data()[0])


def loader(batch: int = 10) -> list[tuple[Tensor, Tensor]]:
    images, labels = data()
    return list(zip(images.split(batch), labels.split(batch), strict=True))


def total_margin(outputs: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """A metric that differs for any two networks."""
    return outputs.double().softmax(1).gather(1, labels[:, None]).sum(), len(labels)


@torch.no_grad()
def plainly(model: nn.Module, stage: str = "stages.0", **missing: list) -> float:
    """The metric above for the model itself: nothing is folded, and no result is used twice."""
    model = copy.deepcopy(model).eval()
    right = 0.0
    for images, labels in loader():
        with model.get_submodule(stage).without(**missing):
            outputs = model(images.clone())
        right += float(total_margin(outputs, labels)[0])
    return right / len(data()[0])

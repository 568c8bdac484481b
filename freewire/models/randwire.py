# SPDX-License-Identifier: MIT
"""Randomly wired convolutional networks: the image classifiers of RandWire, and stages of any wiring.

Enters: how to draw graphs, how wide to be. Leaves: `RandWire` and the paper's three sizes of it, ``nn.Module`` each.

References:
    Xie, Kirillov, Girshick, He: Exploring randomly wired neural networks for image recognition, ICCV 2019. Every
    figure of a class or an argument named "the paper's" is from there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx
import numpy as np
import torch
import torch.fx
from torch import Tensor, nn

from freewire.errors import InputError
from freewire.generators.dags import barabasi_albert_dag, erdos_renyi_dag, watts_strogatz_dag
from freewire.generators.draws import Draws
from freewire.graph import Graph
from freewire.models.blocks import SeparableConv, conv_bn, fold_batch_norms, initialise
from freewire.models.checkpoint import checkpointed
from freewire.models.stage import GraphStage, NodeFactory

__all__ = [
    "BA",
    "ER",
    "WS",
    "RandWire",
    "randwire_ws_regular109",
    "randwire_ws_regular154",
    "randwire_ws_small",
]

Generator = Callable[[int, int], nx.DiGraph]  # (number of nodes, seed) -> DAG

HEAD_CHANNELS = 1280
#: Regime -> of each stage, its nodes and its channels in units of ``channels``.
REGIMES = {"small": ((32, 1), (32, 2), (32, 4)), "regular": ((16, 1), (32, 2), (32, 4), (32, 8))}


@dataclass(frozen=True)
class ER:
    """Erdos-Renyi graphs: ``ER(p)(n, seed)`` is ``fw.generators.erdos_renyi_dag(n, p, seed)``."""

    p: float = 0.2

    def __call__(self, n: int, seed: int) -> nx.DiGraph:
        """Draw one."""
        return erdos_renyi_dag(n, self.p, seed)


@dataclass(frozen=True)
class BA:
    """Barabasi-Albert graphs: ``BA(m)(n, seed)`` is ``fw.generators.barabasi_albert_dag(n, m, seed)``."""

    m: int = 5

    def __call__(self, n: int, seed: int) -> nx.DiGraph:
        """Draw one."""
        return barabasi_albert_dag(n, self.m, seed)


@dataclass(frozen=True)
class WS:
    """Watts-Strogatz graphs: ``WS(k, p)(n, seed)`` is ``fw.generators.watts_strogatz_dag(n, k, p, seed)``."""

    k: int = 4
    p: float = 0.75

    def __call__(self, n: int, seed: int) -> nx.DiGraph:
        """Draw one."""
        return watts_strogatz_dag(n, self.k, self.p, seed)


class RandWire(nn.Module):
    """A randomly wired network for images (Xie et al. 2019, table 1).

    A plain convolution halves the image; in the small regime a second one does, then come three stages, in the regular
    regime four; each stage halves once. Then a 1x1 convolution, the mean over the image, and a linear layer.
    Convolutions are ReLU-convolution-BN triplets but for the first, which has no relu.

    Args:
        generator: `ER`, `BA`, `WS`, or any callable of a number of nodes and a seed that returns a DAG: each stage
            draws its own. Or a DAG for all stages, or a sequence of DAGs, one a stage, of any size.
        channels: C: half of it, rounded down, after the first convolution.
        regime: "small" or "regular".
        node: What makes a node, as `GraphStage` takes it: `SeparableConv`, `Conv`, `MaxPoolConv`, `AvgPoolConv`, ...
        seed: Of the graphs; the same wiring every time. Weights come from torch's generator.
        num_classes: Outputs; 0: the result is ``[B, 1280]``, what the linear layer would hear.
        in_channels: Of the images.
        edge_drop: Chance that a training batch goes without one edge, drawn among all whose target hears others too.
        dropout: Chance that the linear layer's input is dropped while training.
        features_only: The result is a list of feature maps, of strides 2, 4, 8, 16 and 32 (`feature_info`); there is no
            head.
        checkpoint: Keep nothing inside a stage for the backward, and run it twice: less memory, more time.
        weight: That every edge starts with (`GraphStage`).

    Raises:
        InputError: An argument out of range.
        GraphError: A DAG that `GraphStage` refuses.

    Example:
        >>> import torch
        >>> model = RandWire(WS(4, 0.75), channels=16, regime="small", num_classes=10)
        >>> model(torch.rand(2, 3, 64, 64)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        generator: Generator | nx.DiGraph | Sequence[nx.DiGraph],
        channels: int,
        regime: str,
        node: NodeFactory = SeparableConv,
        seed: int = 0,
        num_classes: int = 1000,
        in_channels: int = 3,
        edge_drop: float = 0.0,
        dropout: float = 0.0,
        features_only: bool = False,
        checkpoint: bool = False,
        weight: float = 0.0,
    ) -> None:
        super().__init__()
        if regime not in REGIMES:
            raise InputError(f"regime: expected {' or '.join(map(repr, REGIMES))}, got {regime!r}. Choose one.")
        if channels < 2:
            raise InputError(f"channels: expected at least 2, got {channels}. The first convolution has half of them.")
        for name, value in (("edge_drop", edge_drop), ("dropout", dropout)):
            if not 0 <= value <= 1:
                raise InputError(f"{name}: expected a probability from 0 to 1, got {value}. Give a chance.")
        _check_classes(num_classes)
        self.num_classes, self.num_features = num_classes, HEAD_CHANNELS
        self.edge_drop, self.features_only, self.checkpoint = edge_drop, features_only, checkpoint

        half = channels // 2
        self.stem = nn.ModuleList([nn.Sequential(conv_bn(in_channels, half, 3, 2))])
        width = half
        if regime == "small":
            self.stem.append(nn.Sequential(OrderedDict(relu=nn.ReLU(), **conv_bn(half, channels, 3, 2))))
            width = channels
        sizes = REGIMES[regime]
        stages = []
        for dag, (_, times) in zip(_dags(generator, [n for n, _ in sizes], seed), sizes, strict=True):
            stages.append(GraphStage(dag, width, times * channels, node, weight=weight))
            width = times * channels
        self.stages = nn.ModuleList(stages)
        self._drop_ranks = _drop_ranks([stage.graph for stage in stages])
        #: Of each feature map of `features_only`: its channels, its stride, and the module that makes it.
        self.feature_info = [
            {"num_chs": module.out_channels if isinstance(module, GraphStage) else module.conv.out_channels}
            | {"reduction": 2 ** (i + 1), "module": name}
            for i, (name, module) in enumerate(self._halving())
        ]
        if not features_only:
            self.head = nn.Sequential(OrderedDict(relu=nn.ReLU(), **conv_bn(width, HEAD_CHANNELS, 1)))
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.dropout = nn.Dropout(dropout)
            self.fc: nn.Module = nn.Linear(HEAD_CHANNELS, num_classes) if num_classes else nn.Identity()
        for part in (self.stem, *(() if features_only else (self.head, self.fc))):  # nodes begin as they were made
            part.apply(initialise)

    def _halving(self) -> list[tuple[str, Any]]:
        """The modules that each halve the image, by name."""
        parts = {"stem": self.stem, "stages": self.stages}
        return [(f"{name}.{i}", module) for name, modules in parts.items() for i, module in enumerate(modules)]

    def forward_maps(self, x: Tensor, count: int | None = None) -> list[Tensor]:
        """The feature maps after every halving.

        Args:
            x: ``[B, in_channels, H, W]``, H and W at least 32 and as different as you like.
            count: How many of them, from the first on; None: all.

        Returns:
            Tensors ``[B, num_chs, ceil(H / reduction), ceil(W / reduction)]``, as `feature_info` says.

        Raises:
            InputError: x is no batch of images, or they are too small.
        """
        x = _checked(x, self.feature_info[-1]["reduction"])
        kept = _kept_edges(x, self._drop_ranks, self.edge_drop) if self.training and self.edge_drop else None
        maps = []
        for stem in list(self.stem)[:count]:
            x = stem(x)
            maps.append(x)
        for i, stage in enumerate(self.stages):
            if len(maps) == count:
                break
            edges = None if kept is None else kept[i]
            x = checkpointed(stage, x, edges) if self.checkpoint and torch.is_grad_enabled() else stage(x, edges)
            maps.append(x)
        return maps

    def forward_features(self, x: Tensor) -> Tensor:
        """The result of the last convolution, ``[B, 1280, H / 32, W / 32]``, of images ``[B, in_channels, H, W]``."""
        self._check_head()
        return self.head(self.forward_maps(x)[-1])

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Classes ``[B, num_classes]`` of `forward_features`' result; with ``pre_logits`` what ``fc`` would hear."""
        pooled = self.dropout(self.pool(features).flatten(1))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Classify images.

        Args:
            x: ``[B, in_channels, H, W]``, H and W at least 32; either memory format, channels_last being the faster.

        Returns:
            ``[B, num_classes]``; see ``num_classes`` and ``features_only`` for others.

        Raises:
            InputError: x is no batch of images, or they are too small.
        """
        return self.forward_maps(x) if self.features_only else self.forward_head(self.forward_features(x))

    def fuse(self) -> RandWire:
        """A copy for inference, batch norms folded into convolutions (`fold_batch_norms`); this one stays."""
        return fold_batch_norms(self)  # type: ignore[return-value]

    def get_classifier(self) -> nn.Module:
        """The linear layer.

        Raises:
            InputError: There is no head.
        """
        self._check_head()
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh linear layer in its place; 0 classes: none.

        Args:
            num_classes: At least 0.
            global_pool: "avg" or None: the mean over the image is all there is.

        Raises:
            InputError: Another pooling, a negative number of classes, or there is no head.
        """
        if global_pool not in (None, "avg"):
            raise InputError(
                f"global_pool: expected 'avg', got {global_pool!r}. Pool forward_features' result yourself."
            )
        self._check_head()
        _check_classes(num_classes)
        self.num_classes = num_classes
        self.fc = self._new_classifier(HEAD_CHANNELS, num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turn ``checkpoint`` on or off."""
        self.checkpoint = enable

    def _check_head(self) -> None:
        if self.features_only:
            raise InputError(
                "features_only: expected False, got True. Such a network has no head; make one without, and load these "
                "weights into it with strict=False."
            )

    def _new_classifier(self, in_features: int, num_classes: int) -> nn.Module:
        like = next(self.parameters())
        classifier = nn.Linear(in_features, num_classes) if num_classes else nn.Identity()
        return classifier.apply(initialise).to(like.device, like.dtype)


def _check_classes(num_classes: int) -> None:
    if num_classes < 0:
        raise InputError(f"num_classes: expected at least 0, got {num_classes}. 0 is a network without classifier.")


@torch.fx.wrap  # a tracer keeps the call, as it cannot follow what depends on a size
def _checked(x: Tensor, least: int) -> Tensor:
    """Images that no stage makes vanish, or an `InputError`."""
    if x.dim() != 4 or min(x.shape[2:]) < least:
        raise InputError(
            f"x: expected shape [batch, channels, height, width], height and width at least {least}, which is the "
            f"stride of the last stage, got {list(x.shape)}. Resize the images."
        )
    return x


@torch.fx.wrap  # or a tracer would keep one draw
def _kept_edges(x: Tensor, drop_ranks: Sequence[Sequence[int]], chance: float) -> list[Tensor]:
    """Of each stage which edges count this time: all, or all but one."""
    droppable = sum([sum([rank >= 0 for rank in ranks]) for ranks in drop_ranks])
    chosen = torch.randint(max(1, droppable), (1,), device=x.device)
    spared = torch.rand(1, device=x.device) >= chance
    return [spared | (torch.tensor(ranks, dtype=torch.int64, device=x.device) != chosen) for ranks in drop_ranks]


def _dags(
    generator: Generator | nx.DiGraph | Sequence[nx.DiGraph], sizes: Sequence[int], seed: int
) -> Sequence[nx.DiGraph]:
    if isinstance(generator, nx.Graph):
        return [generator] * len(sizes)
    if isinstance(generator, type):
        raise InputError(
            f"generator: expected {generator.__name__}(...), got the class. Give its parameters, or () for the paper's."
        )
    if callable(generator):
        draws = Draws(seed)
        return [generator(size, draws.one_below(2**32)) for size in sizes]
    dags = list(generator)
    if len(dags) != len(sizes):
        raise InputError(
            f"generator: expected {len(sizes)} DAGs, one a stage, got {len(dags)}. Give one for each, or a single one."
        )
    return dags


def _drop_ranks(graphs: Sequence[Graph]) -> list[list[int]]:
    """Of each graph's edges their numbers among those of all graphs whose target hears others too; -1: not of them."""
    ranks, following = [], 0
    for graph in graphs:
        target = graph.edge_index[1]
        droppable = np.bincount(target, minlength=graph.num_nodes)[target] > 1
        ranks.append(np.where(droppable, following + np.cumsum(droppable) - 1, -1).tolist())
        following += int(droppable.sum())
    return ranks


def randwire_ws_small(seed: int = 0, num_classes: int = 1000, **options: Any) -> RandWire:
    """The paper's small regime, WS(4, 0.75), C = 78: 5.6 M parameters, 583 M multiply-adds at 224 x 224.

    Args:
        seed: Of the graphs; the figures are means over seeds.
        num_classes: Outputs.
        options: `RandWire`'s others.
    """
    return RandWire(WS(4, 0.75), 78, "small", seed=seed, num_classes=num_classes, **options)


def randwire_ws_regular109(seed: int = 0, num_classes: int = 1000, **options: Any) -> RandWire:
    """The paper's regular regime, WS(4, 0.75), C = 109: 31.9 M parameters, 4.0 G multiply-adds at 224 x 224.

    With the regularisation that the paper trains it by: ``edge_drop=0.1``, ``dropout=0.2``.

    Args:
        seed: Of the graphs; the figures are means over seeds.
        num_classes: Outputs.
        options: `RandWire`'s others.
    """
    return _regular(109, seed, num_classes, options)


def randwire_ws_regular154(seed: int = 0, num_classes: int = 1000, **options: Any) -> RandWire:
    """The same with C = 154: 61.5 M parameters, 7.9 G multiply-adds at 224 x 224.

    Args:
        seed: Of the graphs; the figures are means over seeds.
        num_classes: Outputs.
        options: `RandWire`'s others.
    """
    return _regular(154, seed, num_classes, options)


def _regular(channels: int, seed: int, num_classes: int, options: dict[str, Any]) -> RandWire:
    options = {"edge_drop": 0.1, "dropout": 0.2, **options}
    return RandWire(WS(4, 0.75), channels, "regular", seed=seed, num_classes=num_classes, **options)

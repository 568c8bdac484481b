# SPDX-License-Identifier: MIT
"""Randomly wired convolutional networks for image classification: `RandWire`, and the paper's three sizes of it.

References:
    Xie, Kirillov, Girshick, He: Exploring randomly wired neural networks for image recognition, ICCV 2019. "The paper"
    means this one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import networkx as nx
import torch
import torch.fx
from torch import Tensor, nn

from freewire.errors import InputError, shown
from freewire.models.blocks import SeparableConv, conv_bn, fold_batch_norms, initialise
from freewire.models.checkpoint import checkpointed
from freewire.models.edge_drop import drop_ranks, kept_edges
from freewire.models.generators import Generator, draw_dags
from freewire.models.settings import HEAD_CHANNELS, PAPER_GENERATOR, REGIMES, SIZES
from freewire.models.stage import GraphStage, NodeFactory
from freewire.nn.checks import check_probability, check_whole

__all__ = ["RandWire", "check_classes", "randwire_ws_regular109", "randwire_ws_regular154", "randwire_ws_small"]

torch.fx.wrap("kept_edges")  # or a tracer would record a single draw


class RandWire(nn.Module):
    """A randomly wired network for images (Xie et al. 2019, table 1).

    A plain convolution halves the image, and in the small regime so does a second one. Then come three stages in the
    small regime and four in the regular one, each of which halves the image once; then a 1x1 convolution, the mean over
    the image, and a linear layer. Convolutions are ReLU-convolution-BN triplets, except the first, which has no relu.

    Args:
        generator: `ER`, `BA`, `WS`, or any callable of a number of nodes and a seed that returns a DAG: each stage
            draws its own. Or a DAG for all stages, or a sequence of DAGs of any size, one per stage.
        channels: The paper's C, the number of channels of the first stage. The first convolution has half of it,
            rounded down.
        regime: "small" or "regular".
        node: Node factory, as for `GraphStage`: `SeparableConv`, `Conv`, `MaxPoolConv`, `AvgPoolConv`, or your own.
        seed: Seed of the graphs; it determines the wiring. Weights come from torch's generator.
        num_classes: Number of outputs. 0: no linear layer, the result is its input, ``[B, 1280]``.
        in_channels: Number of channels of the images.
        edge_drop: Probability that a training batch runs without one edge, drawn from all edges whose target has
            other in-edges.
        dropout: Probability with which the linear layer's inputs are dropped in training.
        features_only: Return a list of feature maps, of strides 2, 4, 8, 16 and 32 (`feature_info`), and have no head.
        checkpoint: Keep nothing inside a stage for the backward, and run it twice: less memory, more time.
        weight: Initial weight of every edge (`GraphStage`).

    Raises:
        InputError: An argument is out of range.
        GraphError: `GraphStage` rejects a DAG.

    Example:
        >>> import torch
        >>> from freewire.models import WS
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
        if not isinstance(regime, str) or regime not in REGIMES:
            raise InputError(f"regime: expected {' or '.join(map(repr, REGIMES))}, got {shown(regime)}. Choose one.")
        channels = check_whole("channels", channels, 2, "The first convolution has half of them.")
        in_channels = check_whole("in_channels", in_channels, 1, "Pass the number of channels of the images.")
        edge_drop, dropout = check_probability("edge_drop", edge_drop), check_probability("dropout", dropout)
        num_classes = check_classes(num_classes)
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
        for dag, (_, times) in zip(draw_dags(generator, [n for n, _ in sizes], seed), sizes, strict=True):
            stages.append(GraphStage(dag, width, times * channels, node, weight=weight))
            width = times * channels
        self.stages = nn.ModuleList(stages)
        self._drop_ranks = drop_ranks([stage.graph for stage in stages])
        #: For each feature map of `features_only`: its channels, its stride, and the name of its module.
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
        self.stem.apply(initialise)  # and not the stages: node factories initialise their modules
        if not features_only:
            self.head.apply(initialise)
            self.fc.apply(initialise)

    def _halving(self) -> list[tuple[str, Any]]:
        """The modules that each halve the image, by name."""
        parts = {"stem": self.stem, "stages": self.stages}
        return [(f"{name}.{i}", module) for name, modules in parts.items() for i, module in enumerate(modules)]

    def forward_maps(self, x: Tensor, count: int | None = None) -> list[Tensor]:
        """Compute the feature maps after every halving.

        Args:
            x: Images ``[B, in_channels, H, W]``, H and W at least 32, not necessarily equal.
            count: How many maps, from the first on. None: all.

        Returns:
            Tensors ``[B, num_chs, ceil(H / reduction), ceil(W / reduction)]``, by `feature_info`.

        Raises:
            InputError: x is not a batch of images, or they are too small.
        """
        x = _checked(x, self.feature_info[-1]["reduction"])
        kept = kept_edges(x, self._drop_ranks, self.edge_drop) if self.training and self.edge_drop else None
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
        """Compute the last convolution's result, ``[B, 1280, H / 32, W / 32]``, from ``[B, in_channels, H, W]``."""
        self._check_head()
        return self.head(self.forward_maps(x)[-1])

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Compute logits ``[B, num_classes]`` from `forward_features`' result, or with ``pre_logits`` fc's input."""
        pooled = self.dropout(self.pool(features).flatten(1))
        return pooled if pre_logits else self.fc(pooled)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Classify images.

        Args:
            x: Images ``[B, in_channels, H, W]``, H and W at least 32, in either memory format; channels_last is the
                faster one.

        Returns:
            Logits ``[B, num_classes]``; see ``num_classes`` and ``features_only`` for other results.

        Raises:
            InputError: x is not a batch of images, or they are too small.
        """
        return self.forward_maps(x) if self.features_only else self.forward_head(self.forward_features(x))

    def fuse(self) -> RandWire:
        """Return a copy for inference, with batch norms folded into convolutions (`fold_batch_norms`)."""
        return fold_batch_norms(self)  # type: ignore[return-value]

    def get_classifier(self) -> nn.Module:
        """Return the linear layer.

        Raises:
            InputError: The network has no head.
        """
        self._check_head()
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the linear layer with a new one.

        Args:
            num_classes: Number of outputs; 0 removes the layer.
            global_pool: "avg" or None; the mean over the image is the only pooling.

        Raises:
            InputError: Another pooling, a negative number of classes, or a network without a head.
        """
        if global_pool not in (None, "avg"):
            raise InputError(
                f"global_pool: expected 'avg', got {shown(global_pool)}. Pool forward_features' result yourself."
            )
        self._check_head()
        self.num_classes = num_classes = check_classes(num_classes)
        self.fc = self._new_classifier(HEAD_CHANNELS, num_classes)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Turn ``checkpoint`` on or off."""
        self.checkpoint = enable

    def _check_head(self) -> None:
        if self.features_only:
            raise InputError(
                "features_only: expected False, got True. Such a network has no head: build one with "
                "features_only=False, and load these weights into it with strict=False."
            )

    def _new_classifier(self, in_features: int, num_classes: int) -> nn.Module:
        like = next(self.parameters())
        classifier = nn.Linear(in_features, num_classes) if num_classes else nn.Identity()
        return classifier.apply(initialise).to(like.device, like.dtype)


def check_classes(num_classes: int) -> int:
    """The number of classes as an int; `InputError` unless it is a whole number of at least 0."""
    return check_whole("num_classes", num_classes, 0, "Use 0 for no classifier.")


@torch.fx.wrap  # a tracer keeps the call, since it cannot follow a comparison of sizes
def _checked(x: Tensor, least: int) -> Tensor:
    """Images that are large enough for the last stage, or an `InputError`."""
    if x.dim() != 4 or min(x.shape[2:]) < least:
        raise InputError(
            f"x: expected shape [batch, channels, height, width], height and width at least {least} (the "
            f"stride of the last stage), got {list(x.shape)}. Resize the images."
        )
    return x


def randwire_ws_small(seed: int = 0, num_classes: int = 1000, **options: Any) -> RandWire:
    """The paper's small regime, WS(4, 0.75), C = 78: 5.6 M parameters, 583 M multiply-adds at 224 x 224.

    Args:
        seed: Seed of the graphs; the figures are means over seeds.
        num_classes: Number of outputs.
        options: Other arguments of `RandWire`.
    """
    return _published("randwire_ws_small", seed, num_classes, options)


def randwire_ws_regular109(seed: int = 0, num_classes: int = 1000, **options: Any) -> RandWire:
    """The paper's regular regime, WS(4, 0.75), C = 109: 31.9 M parameters, 4.0 G multiply-adds at 224 x 224.

    It comes with the regularisation that the paper trains it with: ``edge_drop=0.1`` and ``dropout=0.2``.

    Args:
        seed: Seed of the graphs; the figures are means over seeds.
        num_classes: Number of outputs.
        options: Other arguments of `RandWire`.
    """
    return _published("randwire_ws_regular109", seed, num_classes, options)


def randwire_ws_regular154(seed: int = 0, num_classes: int = 1000, **options: Any) -> RandWire:
    """`randwire_ws_regular109` with C = 154: 61.5 M parameters, 7.9 G multiply-adds at 224 x 224.

    Args:
        seed: Seed of the graphs; the figures are means over seeds.
        num_classes: Number of outputs.
        options: Other arguments of `RandWire`.
    """
    return _published("randwire_ws_regular154", seed, num_classes, options)


def _published(name: str, seed: int, num_classes: int, options: dict[str, Any]) -> RandWire:
    size = SIZES[name]
    options = {"edge_drop": size.edge_drop, "dropout": size.dropout, **options}
    return RandWire(PAPER_GENERATOR, size.channels, size.regime, seed=seed, num_classes=num_classes, **options)

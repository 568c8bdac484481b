# SPDX-License-Identifier: MIT
"""RandWire in timm: ``import freewire.timm``, then ``timm.create_model("randwire_ws_small")``.

Importing this module registers the three published sizes. They are built as `TimmRandWire`, which has the arguments,
attributes and methods of timm's own models, so that timm's training script, optimizers and feature extraction work with
it. Parameters have the same names as `RandWire`'s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from freewire.errors import BuildError, InputError, cut, shown
from freewire.models.randwire import check_classes
from freewire.models.settings import PAPER_GENERATOR, SIZES
from freewire.models.timm_methods import TimmMethods

try:
    import timm
except ImportError as error:
    got = "none" if error.name == "timm" else f"one that cannot be imported ({cut(error)})"
    raise BuildError(f"timm: expected it to be installed, got {got}. Run `pip install timm`.") from error

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import SelectAdaptivePool2d, is_scriptable
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

# A list, because timm appends to it.
__all__ = ["TimmRandWire", "randwire_ws_regular109", "randwire_ws_regular154", "randwire_ws_small"]

#: "" does not pool.
POOLS = ("avg", "max", "avgmax", "catavgmax", "")

default_cfgs = generate_default_cfgs(
    {
        name: {
            "num_classes": 1000,
            "input_size": (3, 224, 224),
            "min_input_size": (3, 32, 32),
            "pool_size": (7, 7),
            "crop_pct": 0.875,
            "interpolation": "bilinear",
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "first_conv": "stem.0.conv",
            "classifier": "fc",
            "license": "mit",
            "paper_ids": "arXiv:1904.01569",
            "paper_name": "Exploring Randomly Wired Neural Networks for Image Recognition",
        }
        for name in SIZES
    }
)


class TimmRandWire(TimmMethods):
    """`RandWire` of WS(4, 0.75) with the interface of timm's models.

    Args:
        channels: The paper's C, as for `RandWire`.
        regime: "small" or "regular".
        num_classes: Number of outputs. 0: no classifier, the result is its input.
        in_chans: Number of channels of the images.
        global_pool: One of `POOLS`. "", which does not pool, requires ``num_classes=0``.
        drop_rate: Probability with which the classifier's inputs are dropped in training.
        drop_path_rate: 0, since stages have no residual paths. The paper uses ``edge_drop``.
        drop_block_rate: 0.
        bn_momentum: Momentum of every batch norm. None: torch's default.
        bn_eps: Epsilon of every batch norm. None: torch's default.
        device: Device of the parameters.
        dtype: Type of the parameters.
        options: Other arguments of `RandWire`, ``seed`` in particular: a checkpoint belongs to one wiring.

    Raises:
        InputError: An argument is out of range.

    Example:
        >>> import freewire.timm, timm, torch
        >>> timm.list_models("randwire*")
        ['randwire_ws_regular109', 'randwire_ws_regular154', 'randwire_ws_small']
        >>> model = timm.create_model("randwire_ws_small", features_only=True, out_indices=(2, 4), seed=3)
        >>> model.feature_info.channels(), model.feature_info.reduction()
        ([78, 312], [8, 32])
        >>> [list(m.shape) for m in model(torch.rand(1, 3, 64, 64))]
        [[1, 78, 8, 8], [1, 312, 2, 2]]
    """

    def __init__(
        self,
        channels: int,
        regime: str,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        drop_block_rate: float = 0.0,
        bn_momentum: float | None = None,
        bn_eps: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        for name, rate in (("drop_path_rate", drop_path_rate), ("drop_block_rate", drop_block_rate)):
            if rate:
                raise InputError(
                    f"{name}: expected 0, got {shown(rate)}. Randomly wired stages have no residual paths and no such "
                    "blocks: pass edge_drop, the probability that a batch runs without one edge."
                )
        if is_scriptable():
            raise InputError(
                "scriptable: expected False, got True. TorchScript cannot express a wiring: use torch.compile or "
                "torch.export."
            )
        super().__init__(
            PAPER_GENERATOR,
            channels,
            regime,
            num_classes=num_classes,
            in_channels=in_chans,
            dropout=drop_rate,
            **options,
        )
        self.in_chans = in_chans
        del self.pool  # replaced by `global_pool`
        self.global_pool = SelectAdaptivePool2d(pool_type="avg", flatten=True)
        self.head_hidden_size = self.num_features
        if global_pool != "avg":
            self.reset_classifier(num_classes, global_pool)
        for norm in self.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.momentum = norm.momentum if bn_momentum is None else bn_momentum
                norm.eps = norm.eps if bn_eps is None else bn_eps
        self.to(device=device, dtype=dtype)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        """Compute logits ``[B, num_classes]`` from `forward_features`' result, or with ``pre_logits`` fc's input."""
        pooled = self.dropout(self.global_pool(features))
        return pooled if pre_logits else self.fc(pooled)

    def get_classifier(self, name_only: bool = False) -> Any:
        """Return the linear layer, or its name."""
        return "fc" if name_only else self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the linear layer with a new one.

        Args:
            num_classes: Number of outputs; 0 removes the layer.
            global_pool: One of `POOLS`. None: keep the present one.

        Raises:
            InputError: Another pooling, no pooling before a classifier, or a negative number of classes.
        """
        pool = self.global_pool.pool_type if global_pool is None else global_pool
        if not isinstance(pool, str) or pool not in POOLS:
            raise InputError(
                f"global_pool: expected one of {', '.join(map(repr, POOLS))}, got {shown(pool)}. Choose one."
            )
        num_classes = check_classes(num_classes)
        if num_classes and not pool:
            raise InputError(
                f"global_pool: expected pooling before {num_classes} classes, got ''. Pass num_classes=0 for feature "
                "maps, or choose a pooling."
            )
        self.num_classes = num_classes
        self.global_pool = SelectAdaptivePool2d(pool_type=pool, flatten=bool(pool)).train(self.training)
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        self.fc = self._new_classifier(self.head_hidden_size, num_classes).train(self.training)


def _registered(entry: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Register an entry point with timm, unless it is registered already."""
    name = entry.__name__
    if not timm.is_model(name):
        return register_model(entry)
    owner = timm.models.model_entrypoint(name).__module__
    if owner != __name__:
        raise BuildError(
            f"{name}: expected a name that is free in timm's registry, got one that {owner} has registered. "
            "Do not import both."
        )
    return entry


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    arguments = SIZES[name]._asdict()
    arguments["drop_rate"] = arguments.pop("dropout")  # timm's name
    arguments |= options
    if pretrained:
        source = timm.models.resolve_pretrained_cfg(
            name, options.get("pretrained_cfg"), options.get("pretrained_cfg_overlay")
        )
        if not source.has_weights and not source.state_dict:
            raise InputError(
                f"pretrained: expected False, got True. There are no pretrained weights of {name}: train it, "
                "or set checkpoint_path to a file of your own."
            )
    # "getter": feature maps come from forward_intermediates
    return build_model_with_cfg(TimmRandWire, name, pretrained, feature_cfg={"feature_cls": "getter"}, **arguments)


@_registered
def randwire_ws_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """`freewire.models.randwire_ws_small` for timm; ``options`` are arguments of `TimmRandWire`."""
    return _create("randwire_ws_small", pretrained, options)


@_registered
def randwire_ws_regular109(pretrained: bool = False, **options: Any) -> nn.Module:
    """`freewire.models.randwire_ws_regular109` for timm; ``options`` are arguments of `TimmRandWire`."""
    return _create("randwire_ws_regular109", pretrained, options)


@_registered
def randwire_ws_regular154(pretrained: bool = False, **options: Any) -> nn.Module:
    """`freewire.models.randwire_ws_regular154` for timm; ``options`` are arguments of `TimmRandWire`."""
    return _create("randwire_ws_regular154", pretrained, options)

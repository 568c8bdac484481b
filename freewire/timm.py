# SPDX-License-Identifier: MIT
"""RandWire in timm: ``import freewire.timm``, then ``timm.create_model("randwire_ws_small")``.

Enters: timm's registry. Leaves: three entries in it, and `TimmRandWire`, which is `RandWire` with the arguments,
attributes and methods that timm's own models have, so that its training script, optimizers and feature extraction take
it for one of theirs. Names of parameters are the same in both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from freewire.errors import BuildError, InputError
from freewire.models.randwire import WS, RandWire, _check_classes

try:
    import timm
except ImportError as error:
    got = "none" if error.name == "timm" else f"one that cannot be imported ({error})"
    raise BuildError(f"timm: expected it to be installed, got {got}. Run `pip install timm`.") from error

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.layers import SelectAdaptivePool2d, is_scriptable
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model

# timm appends to it, so it is a list
__all__ = ["TimmRandWire", "randwire_ws_regular109", "randwire_ws_regular154", "randwire_ws_small"]

#: "" leaves feature maps as they are.
POOLS = ("avg", "max", "avgmax", "catavgmax", "")

_REGULAR = {"regime": "regular", "edge_drop": 0.1, "drop_rate": 0.2}
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "randwire_ws_small": {"channels": 78, "regime": "small"},
    "randwire_ws_regular109": {"channels": 109, **_REGULAR},
    "randwire_ws_regular154": {"channels": 154, **_REGULAR},
}

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
        for name in _ARGUMENTS
    }
)


class TimmRandWire(RandWire):
    """`RandWire` of WS(4, 0.75) as timm has its models.

    Args:
        channels: As `RandWire`'s, and so are ``regime``, ``num_classes`` and ``options``.
        regime: "small" or "regular".
        num_classes: Outputs; 0: none, the result is what the classifier would hear.
        in_chans: Of the images.
        global_pool: One of `POOLS`. "", which pools nothing, needs ``num_classes=0``.
        drop_rate: Chance that the classifier's input is dropped while training.
        drop_path_rate: 0; stages have no residual paths. ``edge_drop`` is the paper's way.
        drop_block_rate: 0.
        bn_momentum: Of every batch norm; None: torch's.
        bn_eps: Of every batch norm; None: torch's.
        device: Of the parameters.
        dtype: Of the parameters.
        options: `RandWire`'s others, ``seed`` above all: a checkpoint belongs to one wiring.

    Raises:
        InputError: An argument out of range.

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
                    f"{name}: expected 0, got {rate}. Randomly wired stages have no residual paths and no such blocks: "
                    "give edge_drop, the chance that a batch goes without one edge."
                )
        if is_scriptable():
            raise InputError(
                "scriptable: expected False, got True. TorchScript cannot take a wiring: use torch.compile or "
                "torch.export."
            )
        super().__init__(
            WS(4, 0.75), channels, regime, num_classes=num_classes, in_channels=in_chans, dropout=drop_rate, **options
        )
        self.in_chans = in_chans
        del self.pool  # `global_pool` stands for it
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
        """Classes ``[B, num_classes]`` of `forward_features`' result; with ``pre_logits`` what ``fc`` would hear."""
        pooled = self.dropout(self.global_pool(features))
        return pooled if pre_logits else self.fc(pooled)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Feature maps, as timm's feature extraction asks for them.

        Args:
            x: ``[B, in_chans, H, W]``, H and W at least 32.
            indices: Which of `feature_info`; negative from the end, a number n: the last n, None: all.
            norm: Nothing to do: every map has been through its batch norms.
            stop_early: Run no further than the last of them.
            output_fmt: "NCHW".
            intermediates_only: Leave the first result out.

        Returns:
            `forward_features`' result, or the last map that was run for; and the maps, ``[B, num_chs, H / reduction,
            W / reduction]`` each.

        Raises:
            InputError: No such map, another format, or x as in `forward_maps`.
        """
        if output_fmt != "NCHW":
            raise InputError(f"output_fmt: expected 'NCHW', got {output_fmt!r}. Permute the maps yourself.")
        places = self._places(indices)
        wanted = max(places) + 1 if stop_early or intermediates_only else len(self.feature_info)
        maps = self.forward_maps(x, wanted)
        taken = [maps[place] for place in places]
        if intermediates_only:
            return taken
        return (self.head(maps[-1]) if wanted == len(self.feature_info) else maps[-1]), taken

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Take away, for good, what `forward_intermediates` does not run for these maps.

        Args:
            indices: As there.
            prune_norm: Nothing to do.
            prune_head: Take the last convolution and the classifier away too; they go anyway without the last map.

        Returns:
            The maps' places, counted from the first on.

        Raises:
            InputError: No such map.
        """
        places = self._places(indices)
        count = max(places) + 1
        if prune_head or count < len(self.feature_info):
            self.head = nn.Sequential()
            self.num_features = self.feature_info[count - 1]["num_chs"]
            self.reset_classifier(0, "")
        left = max(0, count - len(self.stem))
        self.stem, self.stages = self.stem[:count], self.stages[:left]
        self._drop_ranks, self.feature_info = self._drop_ranks[:left], self.feature_info[:count]
        return places

    def get_classifier(self, name_only: bool = False) -> Any:
        """The linear layer, or its name."""
        return "fc" if name_only else self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put a fresh linear layer in its place; 0 classes: none.

        Args:
            num_classes: At least 0.
            global_pool: One of `POOLS`; None: as it is.

        Raises:
            InputError: Another pooling, or none with a classifier; a negative number of classes.
        """
        pool = self.global_pool.pool_type if global_pool is None else global_pool
        if pool not in POOLS:
            raise InputError(f"global_pool: expected one of {', '.join(map(repr, POOLS))}, got {pool!r}. Choose one.")
        _check_classes(num_classes)
        if num_classes and not pool:
            raise InputError(
                f"global_pool: expected a pooling before {num_classes} classes, got ''. Give num_classes=0 for feature "
                "maps, or pool."
            )
        self.num_classes = num_classes
        self.global_pool = SelectAdaptivePool2d(pool_type=pool, flatten=bool(pool)).train(self.training)
        self.head_hidden_size = self.num_features * self.global_pool.feat_mult()
        self.fc = self._new_classifier(self.head_hidden_size, num_classes).train(self.training)

    def group_matcher(self, coarse: bool = False) -> dict[str, str] | Callable[[str], tuple[float, ...]]:
        """How timm groups parameters, for learning rates that fall from layer to layer: by depth.

        Args:
            coarse: A group a stage; otherwise one for all nodes of a stage that are equally far from its input. A
                stage's weights of edges go with the first of them.

        Returns:
            Patterns; or a function from a parameter's name to what groups are sorted by.
        """
        if coarse:
            return {"stem": r"^stem", "stages": r"^stages\.(\d+)"}
        stages: list[Any] = list(self.stages)
        levels = [stage.graph.level.tolist() for stage in stages]

        def depth(name: str) -> tuple[float, ...]:
            part, _, rest = name.partition(".")
            if part == "stem":
                return (0.0,)
            if part != "stages":
                return (float("inf"),)
            stage, kind, node, *_ = [*rest.split("."), ""]
            return (1.0, float(stage), float(levels[int(stage)][int(node)]) if kind == "nodes" else 0.0)

        return depth

    def _places(self, indices: int | Sequence[int] | None) -> list[int]:
        """Of feature maps, counted from the first on."""
        count = len(self.feature_info)
        if indices is None:
            indices = count
        if isinstance(indices, int) and 0 < indices <= count:
            return list(range(count - indices, count))
        if isinstance(indices, int) or not indices or not all(-count <= i < count for i in indices):
            raise InputError(
                f"indices: expected a number from 1 to {count}, or places from {-count} to {count - 1}, got "
                f"{indices!r}. There are {count} feature maps."
            )
        return [i % count for i in indices]


def _registered(entry: Callable[..., nn.Module]) -> Callable[..., nn.Module]:
    """Put it into timm's registry, where it is not there already."""
    name = entry.__name__
    if not timm.is_model(name):
        return register_model(entry)
    owner = timm.models.model_entrypoint(name).__module__
    if owner != __name__:
        raise BuildError(
            f"{name}: expected a name that nobody has in timm's registry, got one that {owner} has registered. "
            "Import freewire.timm without it."
        )
    return entry


def _create(name: str, pretrained: bool, options: dict[str, Any]) -> nn.Module:
    arguments = {**_ARGUMENTS[name], **options}
    if pretrained:
        source = timm.models.resolve_pretrained_cfg(
            name, options.get("pretrained_cfg"), options.get("pretrained_cfg_overlay")
        )
        if not source.has_weights and not source.state_dict:
            raise InputError(
                f"pretrained: expected False, got True. There are no weights of {name}: train it, or give "
                "checkpoint_path a file of your own."
            )
    # "getter": feature maps come from forward_intermediates
    return build_model_with_cfg(TimmRandWire, name, pretrained, feature_cfg={"feature_cls": "getter"}, **arguments)


@_registered
def randwire_ws_small(pretrained: bool = False, **options: Any) -> nn.Module:
    """`freewire.models.randwire_ws_small` for timm; ``options`` are `TimmRandWire`'s."""
    return _create("randwire_ws_small", pretrained, options)


@_registered
def randwire_ws_regular109(pretrained: bool = False, **options: Any) -> nn.Module:
    """`freewire.models.randwire_ws_regular109` for timm; ``options`` are `TimmRandWire`'s."""
    return _create("randwire_ws_regular109", pretrained, options)


@_registered
def randwire_ws_regular154(pretrained: bool = False, **options: Any) -> nn.Module:
    """`freewire.models.randwire_ws_regular154` for timm; ``options`` are `TimmRandWire`'s."""
    return _create("randwire_ws_regular154", pretrained, options)

# SPDX-License-Identifier: MIT
"""The methods that timm expects of a model and that need nothing from timm.

They return feature maps by index, remove the modules that those do not need, and group parameters by depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from freewire.errors import InputError, shown
from freewire.graph.arguments import check_ordered, whole
from freewire.models.randwire import RandWire

__all__ = ["TimmMethods"]


class TimmMethods(RandWire):
    """`RandWire` with timm's methods for feature extraction and layer decay."""

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | Sequence[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Compute some feature maps.

        Args:
            x: Images ``[B, in_channels, H, W]``, H and W at least 32.
            indices: Indices into `feature_info`, counted from the end if negative; or n for the last n maps; or None
                for all.
            norm: Has no effect: every map has been through its batch norms.
            stop_early: Whether to run no further than the last of these maps.
            output_fmt: "NCHW".
            intermediates_only: Whether to return only the maps, and run no further than the last of them.

        Returns:
            `forward_features`' result, or the last map if the run stopped there; and the maps, each
            ``[B, num_chs, ceil(H / reduction), ceil(W / reduction)]``.

        Raises:
            InputError: There is no such map, another format is asked for, or `forward_maps` rejects x.
        """
        if output_fmt != "NCHW":
            raise InputError(f"output_fmt: expected 'NCHW', got {shown(output_fmt)}. Permute the maps yourself.")
        chosen = self._chosen(indices)
        count = max(chosen) + 1 if stop_early or intermediates_only else len(self.feature_info)
        maps = self.forward_maps(x, count)
        found = [maps[i] for i in chosen]
        if intermediates_only:
            return found
        return (self.head(maps[-1]) if count == len(self.feature_info) else maps[-1]), found

    def prune_intermediate_layers(
        self, indices: int | Sequence[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the modules that `forward_intermediates` does not run for these maps.

        Args:
            indices: As in `forward_intermediates`.
            prune_norm: Has no effect.
            prune_head: Whether to remove the last convolution and the classifier too. Without the last map they are
                removed in any case.

        Returns:
            The maps' indices into `feature_info`, from 0.

        Raises:
            InputError: There is no such map.
        """
        chosen = self._chosen(indices)
        count = max(chosen) + 1
        if prune_head or count < len(self.feature_info):
            self.head = nn.Sequential()
            self.num_features = self.feature_info[count - 1]["num_chs"]
            self.reset_classifier(0, "")
        left = max(0, count - len(self.stem))
        self.stem, self.stages = self.stem[:count], self.stages[:left]
        self._drop_ranks, self.feature_info = self._drop_ranks[:left], self.feature_info[:count]
        return chosen

    def group_matcher(self, coarse: bool = False) -> dict[str, str] | Callable[[str], tuple[float, ...]]:
        """Return how timm groups parameters by depth, for learning rates that decay from layer to layer.

        Args:
            coarse: Whether to make one group per stage, instead of one per level of a stage's graph. A stage's edge
                weights belong to the first of its groups.

        Returns:
            Regular expressions by group; or a function from a parameter's name to a key that groups are sorted by.
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

    def _chosen(self, indices: int | Sequence[int] | None) -> list[int]:
        """Indices of feature maps, from 0."""
        count = len(self.feature_info)
        if indices is None:
            indices = count
        check_ordered(indices, "indices", InputError)
        last = whole(indices)
        if last is not None and 0 < last <= count:
            return list(range(count - last, count))
        chosen = [whole(i) for i in indices] if isinstance(indices, Iterable) else []
        found = [i % count for i in chosen if i is not None and -count <= i < count]
        if not found or len(found) < len(chosen):
            raise InputError(
                f"indices: expected a number from 1 to {count}, or indices from {-count} to {count - 1}, got "
                f"{shown(indices)}. There are {count} feature maps."
            )
        return found

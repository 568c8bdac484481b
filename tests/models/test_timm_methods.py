# SPDX-License-Identifier: MIT
"""freewire/models/timm_methods.py without timm; tests/vision/test_timm.py tests what timm does with it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import freewire as fw
from freewire.models import WS
from freewire.models.timm_methods import TimmMethods
from tests.support.messages import assert_refused

pytestmark = pytest.mark.usefixtures("one_thread")


class Model(TimmMethods):
    """Allows no pooling, as `freewire.timm.TimmRandWire` does."""

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        super().reset_classifier(num_classes, global_pool or None)


@pytest.fixture
def model() -> Model:
    torch.manual_seed(0)
    return Model([WS(4, 0.75)(6, seed) for seed in range(3)], 8, "small", num_classes=5).eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("indices", "places"),
    [
        (torch.tensor([2]), [2]),
        (None, [0, 1, 2, 3, 4]),
        (2, [3, 4]),
        ([1, -1], [1, 4]),
        ((0,), [0]),
        (np.array([4, 0]), [4, 0]),
        (np.int64(1), [4]),
    ],
)
@torch.no_grad()
def test_feature_maps_by_index(model: Model, images: Tensor, indices: Any, places: list[int]) -> None:
    maps = model.forward_maps(images)
    final, some = model.forward_intermediates(images, indices)
    assert torch.equal(final, model.forward_features(images))
    only = model.forward_intermediates(images, indices, intermediates_only=True)
    for got in (some, only):
        assert len(got) == len(places)
        assert all(torch.equal(each, maps[place]) for each, place in zip(got, places, strict=True))
    last, _ = model.forward_intermediates(images, indices, stop_early=True)
    assert torch.equal(last, final if max(places) == 4 else maps[max(places)])


@torch.no_grad()
def test_pruning_keeps_the_maps(model: Model, images: Tensor) -> None:
    maps = model.forward_maps(images)
    assert model.prune_intermediate_layers([0, 3]) == [0, 3]
    assert (len(model.stem), len(model.stages), len(model.feature_info)) == (2, 2, 4)
    assert (model.num_classes, model.num_features) == (0, model.feature_info[-1]["num_chs"])
    assert all(torch.equal(got, want) for got, want in zip(model.forward_maps(images), maps, strict=False))
    model.train().edge_drop = 1.0
    assert len(model.forward_maps(images)) == 4  # edges of the removed stage are not drawn


def test_the_head_may_stay(model: Model) -> None:
    model.prune_intermediate_layers(1, prune_head=False)
    assert (model.num_classes, len(model.head)) == (5, 3)


@pytest.mark.parametrize("indices", [0, 6, (), (5,), (-6,), 2.0, "2", (1, 2.0), True])
def test_no_such_map(model: Model, images: Tensor, indices: Any) -> None:
    said = "indices: expected a number from 1 to 5, or indices from -5 to 4, got "
    assert_refused(lambda: model.forward_intermediates(images, indices), said, fw.InputError)
    assert_refused(lambda: model.prune_intermediate_layers(indices), said, fw.InputError)
    assert_refused(
        lambda: model.forward_intermediates(images, {1, 2}), "indices: expected a list or another ", fw.InputError
    )


def test_no_other_format(model: Model, images: Tensor) -> None:
    assert_refused(
        lambda: model.forward_intermediates(images, output_fmt="NLC"), "output_fmt: expected 'NCHW'", fw.InputError
    )


def test_parameters_are_grouped_by_depth(model: Model) -> None:
    depth = model.group_matcher()
    assert depth("stem.1.bn.bias") < depth("stages.0.weight")
    assert max(depth(name) for name, _ in model.named_parameters()) == depth("fc.weight") == depth("head.conv.weight")
    for number, stage in enumerate(model.stages):
        keys = [depth(f"stages.{number}.nodes.{node}.conv.weight") for node in range(len(stage.nodes))]
        assert all(keys[u] < keys[v] for u, v in stage.graph.edge_index.T.tolist())
        assert depth(f"stages.{number}.weight") == min(keys)
        assert max(keys) < (depth(f"stages.{number + 1}.weight") if number < 2 else depth("fc.weight"))
    assert set(model.group_matcher(coarse=True)) == {"stem", "stages"}

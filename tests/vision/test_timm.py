# SPDX-License-Identifier: MIT
"""freewire.timm with timm's factory, feature extraction, optimizers, and arguments of its training script."""

from __future__ import annotations

import doctest
import importlib
import sys
import types
import warnings
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
from timm.data import resolve_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.models import group_parameters, save_for_hf
from timm.optim import create_optimizer_v2
from timm.utils import ModelEmaV3

import freewire as fw
import freewire.timm
from tests.support.messages import assert_refused

NAMES = ["randwire_ws_regular109", "randwire_ws_regular154", "randwire_ws_small"]


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def small(**options) -> freewire.timm.TimmRandWire:
    torch.manual_seed(0)
    return timm.create_model("randwire_ws_small", **{"num_classes": 10, **options})


def on_meta(name: str = "randwire_ws_small", **options) -> torch.nn.Module:
    with torch.device("meta"):
        return timm.create_model(name, **options)


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


class TestInstalled:
    def test_not_the_tree(self):
        """The tests run on the package that was built and installed for this torch."""
        assert Path(sys.prefix).resolve() in Path(fw.__file__).resolve().parents

    def test_examples(self):
        done = doctest.testmod(freewire.timm)
        assert done.attempted >= 5
        assert done.failed == 0


class TestRegistry:
    def test_names(self):
        assert timm.list_models("randwire*") == NAMES
        assert timm.list_models("randwire*", pretrained=True) == []

    def test_reloading(self):
        """A second import neither warns nor changes any entry of the registry."""
        before = {name: timm.model_entrypoint(name) for name in timm.list_models()}
        assert len(before) > 1000
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            importlib.reload(freewire.timm)
        assert {name: timm.model_entrypoint(name) for name in timm.list_models()} == before

    def test_a_name_that_is_taken(self, monkeypatch):
        other = types.FunctionType((lambda: None).__code__, {"__name__": "somebody.models"}, "randwire_ws_small")
        monkeypatch.setitem(timm.models._registry._model_entrypoints, "randwire_ws_small", other)
        assert_refused(
            lambda: freewire.timm._registered(freewire.timm.randwire_ws_small),
            "randwire_ws_small: expected a name that is free .* got one that somebody.models has registered",
            fw.BuildError,
        )
        assert timm.model_entrypoint("randwire_ws_small") is other

    @pytest.mark.parametrize("name", NAMES)
    def test_models_match_those_of_freewire_models(self, name):
        """They have the same parameter names, shapes, regularisation and wiring."""
        ours = on_meta(name, seed=1)
        with torch.device("meta"):
            theirs = getattr(fw.models, name)(seed=1)
        assert shapes(ours) == shapes(theirs)
        assert (ours.edge_drop, ours.dropout.p) == (theirs.edge_drop, theirs.dropout.p)
        assert [stage.graph.wiring_hash for stage in ours.stages] == [s.graph.wiring_hash for s in theirs.stages]

    def test_the_seed_determines_the_wiring(self):
        hashes = [on_meta(seed=seed).stages[0].graph.wiring_hash for seed in (0, 1)]
        assert hashes[0] != hashes[1]

    def test_configuration(self):
        model = small()
        assert model.default_cfg is model.pretrained_cfg
        assert model.get_submodule(model.default_cfg["first_conv"]).in_channels == 3
        assert model.get_submodule(model.default_cfg["classifier"]) is model.get_classifier()
        assert model.get_classifier(name_only=True) == "fc"
        data = resolve_data_config({}, model=model)
        assert (data["input_size"], data["crop_pct"], data["interpolation"]) == ((3, 224, 224), 0.875, "bilinear")
        assert (data["mean"], data["std"]) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        with torch.device("meta"):
            features = on_meta().forward_features(torch.empty(1, *data["input_size"]))
        assert tuple(features.shape[2:]) == model.default_cfg["pool_size"]


class TestArguments:
    def test_same_result_as_freewire_models(self, images):
        ours = small(seed=2).eval()
        theirs = fw.models.randwire_ws_small(seed=2, num_classes=10).eval()
        theirs.load_state_dict(ours.state_dict())
        with torch.no_grad():
            assert torch.equal(ours(images), theirs(images))

    def test_no_classes_one_channel(self, images):
        model = small(num_classes=0, in_chans=1).eval()
        with torch.no_grad():
            assert model(images[:, :1]).shape == (2, 1280)
            features = model.forward_features(images[:, :1])
        assert features.shape == (2, 1280, 2, 2)
        assert timm.models._input.get_model_input_config(model)["input_size"] == (1, 224, 224)

    @pytest.mark.parametrize(
        ("pool", "size"), [("avg", (10,)), ("max", (10,)), ("avgmax", (10,)), ("catavgmax", (10,)), ("", (1280, 2, 2))]
    )
    def test_pooling(self, pool, size):
        model = on_meta(num_classes=10 if pool else 0, global_pool=pool)
        assert model(torch.empty(2, 3, 64, 64, device="meta")).shape == (2, *size)
        assert timm.models._input.get_model_args(model)["global_pool"] == pool

    def test_reset_classifier(self, images):
        model = small().eval()
        with torch.no_grad():
            before = model.forward_features(images)
            model.reset_classifier(7)
            assert not model.fc.training
            assert (model.num_classes, model(images).shape) == (7, (2, 7))
            pre_logits = model.forward_head(before, pre_logits=True)
            assert torch.equal(pre_logits, before.mean((2, 3)))
            assert torch.equal(model(images), model.fc(pre_logits))
            model.reset_classifier(3, "catavgmax")
            assert (model.head_hidden_size, model(images).shape) == (2560, (2, 3))
            model.reset_classifier(0, "")
            assert torch.equal(model(images), before)

    def test_drop_rate(self):
        model = small(drop_rate=0.5)
        features = torch.ones(1, 1280, 2, 2)
        dropped = model.forward_head(features, pre_logits=True)
        assert set(dropped.unique().tolist()) == {0.0, 2.0}
        assert 500 < dropped.count_nonzero() < 780
        assert torch.equal(model.eval().forward_head(features, pre_logits=True), torch.ones(1, 1280))

    def test_of_the_training_script(self):
        """Arguments omitted on its command line are None; rates for parts that the models lack are 0."""
        model = on_meta(
            "randwire_ws_regular109",
            **{"drop_rate": None, "drop_path_rate": None, "drop_block_rate": 0.0, "global_pool": None},
            **{"bn_momentum": 0.2, "bn_eps": 1e-3, "scriptable": False, "edge_drop": 0.3, "num_classes": None},
        )
        assert (model.dropout.p, model.edge_drop, model.num_classes) == (0.2, 0.3, 1000)
        norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert {(norm.momentum, norm.eps) for norm in norms} == {(0.2, 1e-3)}

    def test_device_and_dtype(self):
        model = timm.create_model("randwire_ws_small", device="meta", dtype=torch.bfloat16)
        assert {(p.device.type, p.dtype) for p in model.parameters()} == {("meta", torch.bfloat16)}

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"pretrained": True}, "pretrained: expected False, got True. There are no pretrained weights"),
            ({"drop_path_rate": 0.1}, "drop_path_rate: expected 0, got 0.1. .* pass edge_drop"),
            ({"drop_block_rate": 0.1}, "drop_block_rate: expected 0, got 0.1"),
            ({"scriptable": True}, "scriptable: expected False, got True"),
            ({"global_pool": "sum"}, "global_pool: expected one of 'avg', .*, got 'sum'"),
            ({"global_pool": ""}, "global_pool: expected pooling before 1000 classes, got ''"),
            ({"num_classes": -1}, "num_classes: expected a whole number of at least 0, got -1"),
            ({"features_only": True, "out_indices": (0, 5)}, r"indices: expected .*, got \(0, 5\)"),
            ({"features_only": True, "out_indices": 6}, "indices: expected a number from 1 to 5, .*, got 6"),
            ({"features_only": True, "out_indices": ()}, r"indices: expected .*, got \(\)"),
        ],
    )
    def test_refused(self, options, said):
        assert_refused(lambda: on_meta(**options), said, fw.InputError)

    def test_refused_by_methods(self):
        model = on_meta()
        assert_refused(
            lambda: model.reset_classifier(-2),
            "num_classes: expected a whole number of at least 0, got -2",
            fw.InputError,
        )
        x = torch.empty(1, 3, 32, 32, device="meta")
        assert_refused(
            lambda: model.forward_intermediates(x, output_fmt="NLC"), "output_fmt: expected 'NCHW'", fw.InputError
        )


class TestFeatures:
    @pytest.mark.parametrize(
        ("name", "channels"),
        [("randwire_ws_small", [39, 78, 78, 156, 312]), ("randwire_ws_regular109", [54, 109, 218, 436, 872])],
    )
    def test_all(self, name, channels):
        model = on_meta(name, features_only=True)
        assert model.feature_info.channels() == channels
        assert model.feature_info.reduction() == [2, 4, 8, 16, 32]
        maps = model(torch.empty(2, 3, 64, 64, device="meta"))
        assert [tuple(m.shape) for m in maps] == [
            (2, c, 64 // r, 64 // r) for c, r in zip(channels, (2, 4, 8, 16, 32), strict=True)
        ]
        assert not [name for name in shapes(model) if "fc" in name or "head" in name]

    @pytest.mark.parametrize("indices", [(0,), (1, 3), (-2,), 2, (4, 0)])
    def test_some(self, images, indices):
        """The maps are the whole network's, and the modules after the last one are gone."""
        model = small(features_only=True, out_indices=indices).eval()
        whole = small().eval()
        own = {name.removeprefix("model."): value for name, value in model.state_dict().items()}
        whole.load_state_dict(own, strict=False)
        with torch.no_grad():
            maps, expected = model(images), whole.forward_maps(images)
        places = range(3, 5) if indices == 2 else [i % 5 for i in indices]
        assert len(maps) == len(places)
        assert all(torch.equal(m, expected[place]) for m, place in zip(maps, places, strict=True))
        assert len(model.model.stem) + len(model.model.stages) == max(places) + 1
        assert model.feature_info.channels() == [m.shape[1] for m in maps]

    def test_smaller_images_if_fewer_stages_run(self):
        model = on_meta(features_only=True, out_indices=(0, 2))
        assert [m.shape[-1] for m in model(torch.empty(2, 3, 8, 8, device="meta"))] == [4, 1]

    def test_training_with_edges_dropped(self, images):
        for indices in (0, 2):
            model = small(features_only=True, out_indices=(indices,), edge_drop=1.0).train()
            model(images)[0].sum().backward()
            assert all(p.grad is not None for p in model.parameters())

    def test_forward_intermediates(self, images):
        model = small().eval()
        with torch.no_grad():
            final, maps = model.forward_intermediates(images, [1, -1])
            assert torch.equal(model.forward_head(final), model(images))
            assert [m.shape[1] for m in maps] == [78, 312]
            last, (only,) = model.forward_intermediates(images, [1], stop_early=True)
        assert torch.equal(last, only)
        assert torch.equal(only, maps[0])

    @pytest.mark.parametrize("cls", ["hook", "fx"])
    def test_other_ways(self, images, cls):
        """timm's other extractors find the modules that feature_info names."""
        model = small(features_only=True, feature_cls=cls, out_indices=(1, 4)).eval()
        with torch.no_grad():
            assert [tuple(m.shape) for m in model(images)] == [(2, 78, 16, 16), (2, 312, 2, 2)]


class TestTraining:
    def loss(self, model: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        return LabelSmoothingCrossEntropy(0.1)(model(images), torch.tensor([3, 4]))

    def test_checkpointing_gives_the_same_gradients(self, images):
        gradients = []
        for enable in (False, True):
            model = small()
            model.set_grad_checkpointing(enable)
            self.loss(model, images).backward()
            gradients.append([p.grad for p in model.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))

    def test_channels_last(self, images):
        model = small().eval()
        with torch.no_grad():
            expected = model(images)
            model = model.to(memory_format=torch.channels_last)
            x = images.contiguous(memory_format=torch.channels_last)
            assert model.forward_features(x).is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(model(x), expected)

    @pytest.mark.parametrize("options", [{"opt": "sgd"}, {"opt": "adamw", "layer_decay": 0.9}])
    def test_a_step(self, images, options):
        model = small()
        optimizer = create_optimizer_v2(model, lr=1e-3, weight_decay=5e-5, **options)
        ema = ModelEmaV3(model, decay=0.5)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        first = self.loss(model, images)
        first.backward()
        optimizer.step()
        ema.update(model)
        assert all(not torch.equal(p, before[name]) for name, p in model.named_parameters())
        assert self.loss(model, images) < first
        torch.testing.assert_close(ema.module.fc.weight, (before["fc.weight"] + model.fc.weight) / 2)

    def test_layers_are_by_depth(self):
        model = small()
        layers = group_parameters(model, model.group_matcher(), reverse=True)
        assert set(layers) == {name for name, _ in model.named_parameters()}
        assert layers["stem.0.conv.weight"] == layers["stem.1.bn.bias"] == 0
        assert layers["fc.weight"] == layers["head.conv.weight"] == max(layers.values())
        assert layers["stages.0.weight"] == 1
        deepest = 0
        for number, stage in enumerate(model.stages):
            u, v = stage.graph.edge_index
            depth = [layers[f"stages.{number}.nodes.{node}.conv.weight"] for node in range(len(stage.nodes))]
            assert all(depth[a] < depth[b] for a, b in zip(u, v, strict=True))
            assert min(depth) > deepest
            deepest = max(depth)
        coarse = group_parameters(model, model.group_matcher(coarse=True), reverse=True)
        assert coarse["stages.2.weight"] == coarse["stages.2.nodes.5.bn.weight"] == 3
        assert set(coarse.values()) == {0, 1, 2, 3, 4}

    def test_scales_fall_towards_the_input(self):
        model = small()
        groups = create_optimizer_v2(model, "sgd", lr=1.0, weight_decay=1e-4, layer_decay=0.9).param_groups
        scale = {id(p): group["lr_scale"] for group in groups for p in group["params"]}
        assert scale[id(model.fc.weight)] == 1.0
        assert 0 < scale[id(model.stem[0].conv.weight)] < scale[id(model.stages[2].weight)] < 1.0


class TestFiles:
    def test_checkpoint(self, images, tmp_path):
        model = small(seed=4).eval()
        path = tmp_path / "weights.safetensors"
        safetensors.torch.save_file(model.state_dict(), path)
        with torch.no_grad():
            expected = model(images)
            by_path = small(seed=4, checkpoint_path=str(path)).eval()
            by_hand = timm.create_model("randwire_ws_small", seed=4, num_classes=10).eval()
            assert not torch.equal(by_hand(images), expected)
            timm.models.load_checkpoint(by_hand, str(path))
            assert torch.equal(by_path(images), expected)
            assert torch.equal(by_hand(images), expected)

    def test_own_weights_as_pretrained(self, tmp_path):
        """A file given by the user counts as weights, and timm adapts its first convolution and classifier."""
        model = small(num_classes=1000)
        path = tmp_path / "weights.safetensors"
        safetensors.torch.save_file(model.state_dict(), path)
        grey = small(pretrained=True, pretrained_cfg_overlay={"file": str(path)}, in_chans=1, num_classes=5)
        first = [m.stem[0].conv.weight for m in (model, grey)]
        torch.testing.assert_close(first[0].sum(1, keepdim=True), first[1])
        assert torch.equal(model.head.conv.weight, grey.head.conv.weight)
        assert grey.fc.weight.shape == (5, 1280)

    def test_folder(self, images, tmp_path):
        """timm's own format stores the arguments, and with them the wiring."""
        model = small(seed=5).eval()
        save_for_hf(model, tmp_path, safe_serialization=True)
        again = timm.create_model(f"local-dir:{tmp_path}", pretrained=True).eval()
        with torch.no_grad():
            assert torch.equal(again(images), model(images))

# SPDX-License-Identifier: MIT
"""state_dicts that people average, cast and load in place: of the same wiring they load, of another never."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import freewire as fw
from tests.support.messages import assert_refused

State = dict[str, Any]


def network(seed: int, wiring: int = 0) -> fw.Network:
    torch.manual_seed(seed)
    return fw.Network(fw.generators.random_graph(4, 10, 2, fan_in=3, seed=wiring))


def stage(seed: int, wiring: int = 0) -> fw.models.GraphStage:
    torch.manual_seed(seed)
    return fw.models.GraphStage(fw.generators.watts_strogatz_dag(8, 4, 0.75, seed=wiring), 2, 3)


def cloned(state: State) -> State:
    return {name: value.clone() for name, value in state.items()}


def summed_in_place(a: State, b: State) -> State:
    a = cloned(a)
    for name in a:
        a[name] += b[name]
        a[name] = a[name] / 2 if not a[name].is_floating_point() else a[name].div_(2)
    return a


def exponential(a: State, b: State) -> State:
    """Many steps of it, as training takes."""
    a = {name: value.float().clone() for name, value in a.items()}
    for _ in range(2000):
        for name in a:
            a[name].mul_(0.999).add_(b[name].float(), alpha=0.001)
    return a


AVERAGES: dict[str, Callable[[State, State], State]] = {
    "in place": summed_in_place,
    "EMA": exponential,
    "lerp": lambda a, b: {name: torch.lerp(a[name].double(), b[name].double(), 0.3) for name in a},
    "stack": lambda a, b: {name: torch.stack([a[name].float(), b[name].float()]).mean(0) for name in a},
    "numpy": lambda a, b: {
        name: mean if "_extra_state" in name else torch.from_numpy(np.asarray(mean))
        for name, mean in ((name, np.mean([a[name].numpy(), b[name].numpy()], axis=0)) for name in a)
    },
    "half": lambda a, b: {name: (a[name].half() + b[name].half()) / 2 for name in a},
    "bfloat16": lambda a, b: {name: (a[name].bfloat16() * 0.9 + b[name].bfloat16() * 0.1) for name in a},
    "seven thirds": lambda a, b: {name: a[name] / 3 + b[name] / 3 + a[name] / 3 for name in a},
}


class TestAverages:
    @pytest.mark.parametrize("make", [network, stage])
    @pytest.mark.parametrize("average", AVERAGES)
    def test_of_one_wiring_load(self, average, make):
        a, b = make(1).state_dict(), make(2).state_dict()
        mean, module = AVERAGES[average](a, b), make(3)
        module.load_state_dict(mean)
        assert not torch.equal(a["weight"], mean["weight"]) or make is stage
        torch.testing.assert_close(module.weight, torch.as_tensor(mean["weight"]), check_dtype=False)
        assert torch.equal(module.get_extra_state(), a["_extra_state"])

    @pytest.mark.parametrize("make", [network, stage])
    @pytest.mark.parametrize("average", [name for name in AVERAGES if name != "numpy"])
    def test_of_another_wiring_are_refused(self, average, make):
        other = make(1, wiring=1).state_dict()
        module, same = make(3), make(2)
        before = module.weight.clone()
        refused = AVERAGES[average](other, other)
        if refused["weight"].shape == module.weight.shape:
            assert_refused(lambda: module.load_state_dict(refused), "state_dict: expected that of a ", fw.InputError)
        with pytest.raises((RuntimeError, fw.InputError)):  # shapes that do not match, or do and broadcast
            module.load_state_dict(AVERAGES[average](same.state_dict(), other))
        assert torch.equal(module.weight, before)

    @pytest.mark.parametrize(("others", "loads"), [(0, True), (1, False), (99, False)])
    def test_one_in_a_hundred_of_another_wiring(self, others, loads):
        """Its shape may be the same, its bits differ."""
        module = network(0)
        own = module.get_extra_state()
        mean = (own * (100 - others) + (1 - own) * others) / 100
        if loads:
            module.set_extra_state(mean)
        else:
            assert_refused(lambda: module.set_extra_state(mean), "state_dict: ", fw.InputError)

    @pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.bool, torch.int64, torch.float8_e5m2, torch.half])
    def test_casts(self, dtype):
        module = network(0)
        module.set_extra_state(module.get_extra_state().to(dtype))
        wrong = (1 - network(0).get_extra_state()).to(dtype)
        assert_refused(lambda: module.set_extra_state(wrong), "state_dict: ", fw.InputError)

    @pytest.mark.parametrize("buffers", [False, True])
    @pytest.mark.parametrize("multi", [None, get_ema_multi_avg_fn(0.9)], ids=["mean", "EMA"])
    def test_averaged_model(self, multi, buffers):
        net = network(1)
        averaged = AveragedModel(net, multi_avg_fn=multi, use_buffers=buffers)
        for seed in (2, 3):
            net.load_state_dict(network(seed).state_dict())
            averaged.update_parameters(net)
        want = [network(seed).weight for seed in (2, 3)]
        share = 0.5 if multi is None else 0.9
        torch.testing.assert_close(averaged.module.weight, want[0] * share + want[1] * (1 - share))
        file = io.BytesIO()
        torch.save(averaged.state_dict(), file)
        file.seek(0)
        AveragedModel(net, use_buffers=buffers).load_state_dict(torch.load(file, weights_only=True))
        with pytest.raises(fw.InputError, match="state_dict: expected that of a network with this wiring"):
            AveragedModel(network(1, wiring=1)).load_state_dict(averaged.state_dict())


class TestForms:
    def test_first_versions(self):
        """The 32 bytes of the hash, which averages in floating point keep too."""
        module, other = network(0), network(0, wiring=1)
        octets = torch.frombuffer(bytearray.fromhex(module.graph.wiring_hash), dtype=torch.uint8)
        for state in (octets, octets.float(), octets.half(), octets.float() * 0.999 + octets.float() * 0.001):
            module.load_state_dict({**network(1).state_dict(), "_extra_state": state})
            with pytest.raises((RuntimeError, fw.InputError)):
                other.load_state_dict({**network(1).state_dict(), "_extra_state": state})
            assert_refused(lambda state=state: other.set_extra_state(state), "state_dict: ", fw.InputError)

    @pytest.mark.parametrize("state", [np.zeros(32), torch.zeros(256), torch.zeros(32).byte()])
    def test_other_hashes(self, state):
        assert_refused(lambda: network(0).set_extra_state(state), "state_dict: expected that of a ", fw.InputError)

    @pytest.mark.parametrize("factor", [0.5, 2.0, -1.0, torch.nan])
    def test_sums_that_are_no_averages(self, factor):
        state = network(0).get_extra_state() * factor
        assert_refused(
            lambda: network(0).set_extra_state(state), "state_dict: expected the wiring's hash", fw.InputError
        )

    @pytest.mark.parametrize("state", [None, "hash" * 999, [0.0], torch.tensor(torch.nan), torch.zeros(5, 5)])
    def test_something_else(self, state):
        refused = "state_dict: expected the wiring's hash as _extra_state, got "
        assert_refused(lambda: network(0).set_extra_state(state), refused, fw.InputError)

    def test_a_hash_without_values_is_compared_by_shape(self):
        module = network(0)
        module.set_extra_state(module.get_extra_state().to("meta"))
        with torch._subclasses.FakeTensorMode() as mode:
            module.set_extra_state(mode.from_tensor(torch.empty(module.get_extra_state().shape)))
        state = network(0, wiring=1).get_extra_state().to("meta")
        assert_refused(lambda: module.set_extra_state(state), "state_dict: ", fw.InputError)

    def test_it_is_on_the_cpu_wherever_the_default_device_is(self):
        module = network(0)
        with torch.device("meta"), torch.inference_mode():
            state = module.get_extra_state()
        assert state.device.type == "cpu"
        assert not state.is_inference()

    def test_safetensors(self, tmp_path):
        save_file(network(1).state_dict(), tmp_path / "state")
        network(2).load_state_dict(load_file(tmp_path / "state"))

    def test_a_missing_hash_is_torchs_to_refuse(self):
        state = network(1).state_dict()
        del state["_extra_state"]
        with pytest.raises(RuntimeError, match="Missing key"):
            network(2).load_state_dict(state)
        network(2).load_state_dict(state, strict=False)


class TestDistributedCheckpoint:
    """It copies into the tensors of a state_dict in place, before any module can refuse."""

    @pytest.fixture(autouse=True)
    def _quiet(self):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)
            yield

    @staticmethod
    def shapes(module: nn.Module) -> list[torch.Size]:
        return [p.shape for p in module.parameters()]

    @pytest.mark.parametrize("make", [network, stage])
    def test_same_wiring(self, make, tmp_path):
        saved, module = make(1), make(2)
        dcp.save({"model": saved.state_dict()}, checkpoint_id=tmp_path, no_dist=True)
        state = {"model": module.state_dict()}
        dcp.load(state, checkpoint_id=tmp_path, no_dist=True)
        module.load_state_dict(state["model"])
        for name, value in saved.state_dict().items():
            assert torch.equal(module.state_dict()[name], value)

    @pytest.mark.parametrize("make", [network, stage])
    def test_another_wiring_is_refused_before_a_weight_changes(self, make, tmp_path):
        module = make(2, wiring=1)
        saved = next(other for other in map(lambda w: make(1, wiring=w), range(2, 50)) if self.fits(other, module))
        dcp.save({"model": saved.state_dict()}, checkpoint_id=tmp_path, no_dist=True)
        before = cloned(module.state_dict())
        for whole in ({"model": module.state_dict()}, {"model": module}):
            with pytest.raises(dcp.CheckpointException, match=r"Size mismatch .* for model\._extra_state"):
                dcp.load(whole, checkpoint_id=tmp_path, no_dist=True)
            assert_unchanged(module, before)

    def fits(self, a: nn.Module, b: nn.Module) -> bool:
        return self.shapes(a) == self.shapes(b) and a.graph.wiring_hash != b.graph.wiring_hash

    def test_shapes_tell_wirings_apart(self):
        shapes = {network(0, wiring=wiring).get_extra_state().shape for wiring in range(200)}
        assert len(shapes) == 200
        assert {shape.numel() for shape in shapes} == {256}


def assert_unchanged(module: nn.Module, before: dict[str, Tensor]) -> None:
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), name

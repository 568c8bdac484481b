# SPDX-License-Identifier: MIT
"""The predicted memory of a training step: by hand, against real tensors, and against what a process occupies."""

from __future__ import annotations

import copy
import doctest
import importlib
import os
import re
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

import freewire as fw
from freewire.models.steps import compile_steps, fuse_separable_convolutions
from tests.support.messages import assert_refused

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "imagenet"
CPU = torch.device("cpu")
MIB = 2**20


@pytest.fixture(scope="module")
def memory() -> Iterator[types.ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLE))
        yield importlib.import_module("memory")
        del sys.modules["memory"]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    """With everything that a preset of the paper has: three stages of recomputed sums, edge drop, dropout."""
    torch.manual_seed(0)
    dags = [fw.generators.watts_strogatz_dag(12, k=4, p=0.75, seed=stage) for stage in range(3)]
    model = fw.models.RandWire(dags, 16, "small", num_classes=10, edge_drop=0.5, dropout=0.2)
    return model.to(memory_format=torch.channels_last)


class TestPredictedPeak:
    def test_by_hand(self, memory):
        model = nn.Sequential(nn.Flatten(), nn.Linear(12, 10))
        parameters, images, labels, logits, scalar = 4 * (120 + 10), 4 * 12 * 1000, 8 * 1000, 4 * 10 * 1000, 4
        # When log_softmax has been differentiated there are its result, and the gradients of that and of the logits.
        tensors = parameters + images + labels + 3 * logits + 2 * scalar
        step = {"batch": 1000, "size": 2, "channels_last": False}

        def peak(**options) -> int:
            return memory.predict_peak(model, memory.TrainingStep(**step, **options))

        assert peak(states=0) == tensors
        assert peak() == tensors + parameters
        assert peak(states=2, ema=True) == tensors + 3 * parameters
        assert peak(states=0, held_gradients=True) == tensors + parameters
        # The weight's gradient needs the images as autocast has converted them; the loss is computed in float32.
        assert peak(states=0, autocast=torch.bfloat16) == tensors + images // 2

    def test_buffers_are_counted_once_and_averaged(self, memory):
        model = nn.Sequential(nn.BatchNorm2d(3, affine=False), nn.Flatten(), nn.Linear(12, 10))
        buffers = 4 * 3 + 4 * 3 + 8
        plain, averaged = (
            memory.predict_peak(model, memory.TrainingStep(batch=8, size=2, ema=ema)) for ema in (False, True)
        )
        assert averaged - plain == 4 * (120 + 10) + buffers

    @pytest.mark.parametrize("autocast", [None, torch.bfloat16], ids=str)
    def test_the_same_as_of_real_tensors(self, memory, model, autocast):
        """The same count, of a real step, node by node; the operator of a whole stage takes less."""
        step = memory.TrainingStep(batch=8, size=64, autocast=autocast, states=0)
        predicted = memory.predict_peak(model, step)
        twin = copy.deepcopy(model).train()
        for stage in twin.stages:
            stage._steps = compile_steps(stage.graph, [fuse_separable_convolutions])
        images = torch.zeros(8, 3, 64, 64).contiguous(memory_format=torch.channels_last)
        labels = torch.zeros(8, dtype=torch.int64)
        with memory._Alive([*twin.parameters(), *twin.buffers(), images, labels]) as alive:
            with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
                loss = nn.functional.cross_entropy(twin(images), labels)
            loss.backward()
        assert alive.peak > 1.5 * sum(p.nbytes for p in twin.parameters())
        assert predicted == pytest.approx(alive.peak, rel=0.01)

    def test_grows_in_proportion_to_the_batch(self, memory, model):
        one, two, three = (memory.predict_peak(model, memory.TrainingStep(batch=n, size=64)) for n in (16, 32, 48))
        assert two - one == three - two
        assert (two - one) // 16 > 400_000

    def test_recomputed_sums_are_not_counted(self, memory, model):
        step = memory.TrainingStep(batch=8, size=64)
        keeping = copy.deepcopy(model)
        for stage in keeping.stages:
            stage.recompute_sums = False
        assert memory.predict_peak(keeping, step) > 1.1 * memory.predict_peak(model, step)

    def test_nothing_else_changes(self, memory, model):
        """Neither the model nor the random numbers, nor a later step."""
        model.eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            expected = model(images)
        state = torch.get_rng_state()
        memory.predict_peak(model, memory.TrainingStep(batch=8, size=64))
        assert torch.equal(torch.get_rng_state(), state)
        assert not model.training
        assert all(p.grad is None and type(p) is nn.Parameter for p in model.parameters())
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        with torch.no_grad():
            assert torch.equal(model(images), expected)

    @pytest.mark.parametrize(
        ("call", "operator"),
        [
            (lambda x: x if x.sum() > 0 else -x, "aten._local_scalar_dense.default"),
            (lambda x: x[x > 0], "aten.nonzero.default"),
        ],
    )
    def test_a_model_that_looks_at_values(self, memory, call, operator):
        class Looks(nn.Linear):
            def forward(self, x):
                return super().forward(call(x.flatten(1)))

        step = memory.TrainingStep(batch=2, size=2)
        assert_refused(
            lambda: memory.predict_peak(Looks(12, 10), step),
            f"model: expected operators that accept tensors without values, got {operator}. The memory",
            memory.NotPredictableError,
        )
        assert memory.check_fits(Looks(12, 10), step) is None

    def test_example(self, memory):
        done = doctest.testmod(memory)
        assert done.attempted >= 2
        assert done.failed == 0


MEASURE = """
import ctypes, re, sys
import torch
import freewire as fw
import memory

def status(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

torch.set_num_threads(1)
torch.manual_seed(0)
model = fw.models.randwire_ws_small().to(memory_format=torch.channels_last)
step = memory.TrainingStep(batch=16, size=160, autocast=torch.bfloat16)
predicted = memory.check_fits(model, step, available=2**40)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)

def train(batch, size):
    images = torch.zeros(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = torch.nn.functional.cross_entropy(model(images), torch.zeros(batch, dtype=torch.int64))
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()

train(2, 64)  # libraries are loaded; the optimizer's states exist from here on
ctypes.CDLL(None).malloc_trim(0)
before = status("VmRSS") - sum(p.nbytes for p in model.parameters())
open("/proc/self/clear_refs", "w").write("5")  # the peak restarts
train(step.batch, step.size)
train(step.batch, step.size)
print(predicted, status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the peak since a moment")
def test_what_a_process_occupies(tmp_path):
    search = os.pathsep.join([str(EXAMPLE), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", MEASURE], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": search}
    )
    assert done.returncode == 0, done.stderr
    predicted, measured = map(int, done.stdout.split())
    assert predicted > 200 * MIB
    assert measured == pytest.approx(predicted, rel=0.2)


class TestAvailable:
    @pytest.fixture
    def machine(self, tmp_path):
        """Write files of a machine with 8 GiB available."""

        def write(**files: str) -> Path:
            for name, text in {"proc/meminfo": "MemTotal: 9 kB\nMemAvailable:    8388608 kB\n", **files}.items():
                path = tmp_path / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return tmp_path

        return write

    def group(self, place: str, limit: str, used: int, files: int, version: int = 2) -> dict[str, str]:
        names = {2: ("max", "current", "inactive_file"), 1: ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")}
        most, now, cache = names[version]
        place = f"sys/fs/cgroup/{place}"
        stat = f"anon 5\nnot_{cache} 7\n{cache} {files}\n"
        return {f"{place}/memory.{most}": limit, f"{place}/memory.{now}": str(used), f"{place}/memory.stat": stat}

    def test_of_the_machine(self, memory, machine):
        assert memory.available_bytes(CPU, machine()) == 8 * 2**30
        assert memory.available_bytes(CPU, machine(**{"proc/self/cgroup": "0::/\n"})) == 8 * 2**30

    def test_limited_by_an_outer_group(self, memory, machine):
        files = {"proc/self/cgroup": "0::/outer/inner\n"}
        files |= self.group("outer/inner", "max\n", 1, 1) | self.group("outer", f"{500 * MIB}\n", 300 * MIB, 100 * MIB)
        assert memory.available_bytes(CPU, machine(**files)) == 300 * MIB

    def test_limited_by_version_1(self, memory, machine):
        files = {"proc/self/cgroup": "5:cpu:/x\n4:memory,hugetlb:/a/b\n0::/\n"}
        files |= self.group("memory/a/b", str(600 * MIB), 500 * MIB, 0, version=1)
        assert memory.available_bytes(CPU, machine(**files)) == 100 * MIB

    def test_a_container_sees_its_group_as_the_top(self, memory, machine):
        files = {"proc/self/cgroup": "4:memory:/docker/0123\n"} | self.group("memory", str(MIB), 0, 0, version=1)
        assert memory.available_bytes(CPU, machine(**files)) == MIB

    def test_none_left(self, memory, machine):
        files = {"proc/self/cgroup": "0::/\n"} | self.group("", str(MIB), 2 * MIB, 0)
        assert memory.available_bytes(CPU, machine(**files)) == 0

    def test_without_proc(self, memory, tmp_path):
        assert memory.available_bytes(CPU, tmp_path) == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class TestFits:
    def test_the_batch_that_is_named_fits_and_twice_that_does_not(self, memory, model):
        step, available = memory.TrainingStep(batch=300, size=64), 2 * 100 * MIB
        with pytest.raises(fw.InputError) as caught:
            memory.check_fits(model, step, processes=2, available=available)
        said = re.fullmatch(
            r"--micro-batch: expected one that fits in memory, got 300 images of 64 pixels, which need (.+) GiB per "
            r"process, while 0\.10 GiB are available to each of 2\. "
            r"Use (\d+): gradients of more micro-batches are then accumulated\.",
            str(caught.value),
        )
        assert said
        named = int(said[2])
        assert named & (named - 1) == 0
        fitting, double = (memory.TrainingStep(batch=n, size=64) for n in (named, 2 * named))
        assert memory.check_fits(model, fitting, processes=2, available=available) <= 100 * MIB
        with pytest.raises(fw.InputError, match=f"Use {named}:"):
            memory.check_fits(model, double, processes=2, available=available)
        enough = memory.check_fits(model, step, processes=2, available=2**40)
        assert enough / 2**30 == pytest.approx(float(said[1]), abs=0.005)

    @pytest.mark.parametrize("batch", [1, 2, 8])
    def test_nothing_fits(self, memory, model, batch):
        assert_refused(
            lambda: memory.check_fits(model, memory.TrainingStep(batch=batch, size=64), available=MIB),
            rf"--micro-batch: expected one that fits in memory, got {batch} images .* Not even 2 images would fit",
            fw.InputError,
        )

    def test_a_batch_is_named_only_if_it_fits(self, memory, model, monkeypatch):
        """Where few images need as much as 40, because of the gradients, there is no such batch below 40."""
        present = sum(t.nbytes for t in (*model.parameters(), *model.buffers()))
        monkeypatch.setattr(memory, "predict_peak", lambda model, step: present + max(40, step.batch) * MIB)
        step = memory.TrainingStep(batch=128, size=64)
        for room, said in ((50, "Use 32:"), (30, "Not even 2 images would fit")):
            available = memory.LIBRARIES + int(memory.ALLOCATOR * room * MIB)
            with pytest.raises(fw.InputError, match=said):
                memory.check_fits(model, step, available=available)

    def test_what_is_available_is_looked_up(self, memory, model, monkeypatch):
        step = memory.TrainingStep(batch=8, size=64)
        assert memory.check_fits(model, step) > memory.LIBRARIES
        monkeypatch.setattr(memory, "available_bytes", lambda device: MIB if device == CPU else 2**40)
        with pytest.raises(fw.InputError, match=r"while 0\.00 GiB are available to each of 1\."):
            memory.check_fits(model, step)

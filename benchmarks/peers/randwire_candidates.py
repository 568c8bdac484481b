# SPDX-License-Identifier: MIT
"""What `benchmarks.suites.randwire` compares: one RandWire computed in several ways, and other projects' RandWires.

`CANDIDATES` are ways to build a module from the model that a `Setup` describes; `check` compares those that compute the
same network with plain PyTorch. Everything is in channels_last.

In float64, outputs and all gradients are compared on a few small images, since torch's float64 convolutions take
minutes on the large ones; they must agree to rounding. In float32 they are compared on the images that are timed. A
relu within rounding of its kink may then switch sides, so the gradients of two float32 networks differ by as much as
each differs from the float64 one: for C = 78 and 16 images of 224 x 224 by 0.8 % of the norm of all gradients, and the
outputs by 3e-5 of theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import freewire as fw
from benchmarks.harness.correctness import WrongResultError
from benchmarks.peers.randwire_checkouts import MAKERS, absent
from benchmarks.peers.randwire_plain import PlainRandWire, fold

__all__ = ["CANDIDATES", "MEASURES", "PLAIN", "Candidate", "Setup", "check", "cost", "inputs", "make", "step"]

#: Many images in eval mode without gradients, one image in the same way, and a training step with many.
MEASURES = ("inference", "latency", "training")
PLAIN = "plain PyTorch"
_ROUNDING = 1e-10  # float64, relative
_OUTPUTS = 1e-3  # float32, relative
_GRADIENTS = 5e-2  # float32, relative, all gradients together
_NARROW_OUTPUTS = 0.1  # bfloat16, relative; those of plain PyTorch differ by 0.05
_SMALL_BATCH, _SMALL_SIZE = 3, 64  # images of the comparison in float64
_TINY_NODES = 5


@dataclass(frozen=True)
class Setup:
    """What is run; enough to rebuild it in another process.

    Attributes:
        channels: Number of channels C of the small regime.
        size: Height and width of the images.
        batch: Number of images.
        classes: Number of outputs.
        threads: Number of threads that torch may use.
        compiler: Backend of `torch.compile`.
        tiny: Use 5 nodes per stage instead of 32.
        checkouts: Folders of the projects in `benchmarks.peers.randwire_checkouts`, by name.
    """

    channels: int = 78
    size: int = 224
    batch: int = 16
    classes: int = 1000
    threads: int = 1
    compiler: str = "inductor"
    tiny: bool = False
    checkouts: dict[str, str] = field(default_factory=dict)

    @property
    def about(self) -> str:
        """The model, as one would build it."""
        if self.tiny:
            return f"RandWire, {_TINY_NODES} nodes per stage, C = {self.channels}"
        if self.channels == 78:
            return "fw.models.randwire_ws_small(seed=1)"
        return f'fw.models.RandWire(fw.models.WS(4, 0.75), {self.channels}, "small", seed=1)'

    def model(self) -> fw.models.RandWire:
        """The model in training mode, with random edge weights, so that they differ, and statistics of some images."""
        torch.manual_seed(0)
        generator = fw.models.WS(4, 0.75)
        dags = [generator(_TINY_NODES, seed) for seed in range(3)] if self.tiny else generator
        model = fw.models.RandWire(dags, self.channels, "small", seed=1, num_classes=self.classes)
        norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
        with torch.no_grad():
            for stage in model.stages:
                stage.weight.normal_()
            for norm in norms:
                norm.momentum = None  # the mean over all batches so far, which is this one
            model(torch.randn(4, 3, min(self.size, 128), min(self.size, 128)))
        for norm in norms:
            norm.momentum = 0.1
        return model

    def data(self) -> tuple[Tensor, Tensor]:
        """Images, ``[B, 3, size, size]`` in channels_last, and their classes."""
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(self.batch, 3, self.size, self.size, generator=generator)
        classes = torch.randint(self.classes, (self.batch,), generator=generator)
        return images.to(memory_format=torch.channels_last), classes


@dataclass(frozen=True)
class Candidate:
    """A way to run the model.

    Attributes:
        label: Its name in the tables.
        build: Takes a model in the mode that is measured, which it may keep; returns a module, or why it cannot run.
        measures: Which of `MEASURES` it takes part in.
        same: Whether it computes the same network.
        compiled: Whether `torch.compile` compiles it. It is then compared in float32 only, since each dtype would be
            compiled separately.
        dtype: The type that it runs in. In another than float32 it is compared in that one only.
    """

    label: str
    build: Callable[[fw.models.RandWire, Setup], nn.Module | str]
    measures: tuple[str, ...] = MEASURES
    same: bool = True
    compiled: bool = False
    dtype: torch.dtype = torch.float32


def _plain(model: fw.models.RandWire, setup: Setup) -> nn.Module:
    return PlainRandWire.of(model)


def _folded(model: fw.models.RandWire, setup: Setup) -> nn.Module:
    return fold(PlainRandWire.of(model))


def _own(model: fw.models.RandWire, setup: Setup) -> nn.Module:
    return model


def _fused(model: fw.models.RandWire, setup: Setup) -> nn.Module:
    return model.fuse()


def _published(name: str) -> Callable[[fw.models.RandWire, Setup], nn.Module | str]:
    def build(model: fw.models.RandWire, setup: Setup) -> nn.Module | str:
        folder = setup.checkouts.get(name)
        missing = absent(name, folder)
        return MAKERS[name](model, Path(str(folder)), setup.size) if missing is None else missing

    return build


_INFERENCE = MEASURES[:2]
_ONE_BATCH = MEASURES[0], MEASURES[2]  # where a second size would be compiled for minutes, or is not of interest
#: In the order of the table; the others are compared with the first.
CANDIDATES = (
    Candidate(PLAIN, _plain),
    Candidate("plain, BN folded", _folded, _INFERENCE),
    Candidate("plain, compiled", _plain, _ONE_BATCH, compiled=True),
    Candidate("plain, BN folded, compiled", _folded, _ONE_BATCH[:1], compiled=True),
    Candidate("plain, BN folded, bfloat16", _folded, _INFERENCE, dtype=torch.bfloat16),
    Candidate("freewire", _own),
    Candidate("freewire, fused", _fused, _INFERENCE),
    Candidate("freewire, compiled", _own, _ONE_BATCH, compiled=True),
    Candidate("freewire, fused, compiled", _fused, _ONE_BATCH[:1], compiled=True),
    Candidate("freewire, fused, bfloat16", _fused, _INFERENCE, dtype=torch.bfloat16),
    Candidate("seungwonpark/RandWireNN", _published("seungwonpark"), _ONE_BATCH, same=False),
    Candidate("JiaminRen/RandWireNN", _published("jiaminren"), _ONE_BATCH, same=False),
)


def inputs(candidate: Candidate, setup: Setup, measure: str) -> tuple[Tensor, Tensor]:
    """The images of a measure, in the candidate's type, and their classes."""
    images, classes = setup.data()
    count = 1 if measure == "latency" else setup.batch
    return images[:count].to(candidate.dtype), classes[:count]


def make(candidate: Candidate, setup: Setup, measure: str, model: fw.models.RandWire | None = None) -> nn.Module | str:
    """Build a candidate for one of its measures, in channels_last and in the mode that the measure needs.

    Args:
        candidate: The candidate.
        setup: What is run.
        measure: One of `MEASURES`.
        model: The model to build it from, which is not changed; None for the setup's.

    Returns:
        The module, compiled at its first call if at all; or the reason why it cannot run.
    """
    training = measure == "training"
    own = (setup.model() if model is None else deepcopy(model)).train(training)
    module = candidate.build(own, setup)
    if isinstance(module, str):
        return module
    module = module.train(training).to(memory_format=torch.channels_last)
    if candidate.dtype != torch.float32:
        module = module.to(candidate.dtype)
    if not candidate.compiled:
        return module
    return torch.compile(module, backend=setup.compiler, fullgraph=True, dynamic=False)  # type: ignore[return-value]


def step(module: nn.Module, images: Tensor, classes: Tensor) -> Tensor:
    """A training step without the optimizer: clear the gradients, forward, cross entropy, backward.

    Returns:
        The outputs.
    """
    for parameter in module.parameters():
        parameter.grad = None
    outputs: Tensor = module(images)
    nn.functional.cross_entropy(outputs, classes).backward()
    return outputs.detach()


def check(candidate: Candidate, setup: Setup, measure: str, module: nn.Module, model: fw.models.RandWire) -> None:
    """Compare a candidate with plain PyTorch.

    Args:
        candidate: The candidate; if it is another project's, only the shape of its outputs is checked.
        setup: What is run.
        measure: One of `MEASURES`.
        module: The result of `make`; it is compared in float32 on the setup's images.
        model: The model that ``module`` was built from.

    Raises:
        WrongResultError: The candidate computes something else.
    """
    images, classes = inputs(candidate, setup, measure)
    got = _results(module, measure, images, classes)
    label = f"{candidate.label}, {measure}"
    if not candidate.same:
        if got["outputs"].shape != (len(images), setup.classes) or not got["outputs"].isfinite().all():
            raise WrongResultError(f"{label}: expected finite outputs [{len(images)}, {setup.classes}].")
        return
    plain = make(CANDIDATES[0], setup, measure, model)
    assert isinstance(plain, nn.Module)
    expected = _results(plain, measure, images.float(), classes)
    if candidate.dtype != torch.float32:
        return _compare(f"{label}, {candidate.dtype}", expected, got, {"outputs": _NARROW_OUTPUTS})
    _compare(f"{label}, float32", expected, got, {"outputs": _OUTPUTS, "gradients": _GRADIENTS})
    if candidate.compiled:
        return
    side = min(setup.size, _SMALL_SIZE)
    images, classes = images[:_SMALL_BATCH, :, :side, :side].double(), classes[:_SMALL_BATCH]
    pair = [make(one, setup, measure, deepcopy(model).double()) for one in (CANDIDATES[0], candidate)]
    expected, got = (_results(one, measure, images, classes, apart=True) for one in pair if isinstance(one, nn.Module))
    _compare(f"{label}, float64", expected, got, dict.fromkeys(expected, _ROUNDING))


def _results(
    module: nn.Module, measure: str, images: Tensor, classes: Tensor, apart: bool = False
) -> dict[str, Tensor]:
    """Outputs and, for a training step, gradients: all in one tensor, or ``apart`` by the parameters' names."""
    if measure != "training":
        with torch.no_grad():
            return {"outputs": module(images)}
    outputs = step(module, images, classes)
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    if apart:
        return {"outputs": outputs, **gradients}
    order = sorted(gradients)  # the same names but for the prefix that torch.compile adds
    return {"outputs": outputs, "gradients": torch.cat([gradients[name].flatten() for name in order])}


def _compare(label: str, expected: dict[str, Tensor], got: dict[str, Tensor], allowed: dict[str, float]) -> None:
    if got.keys() != expected.keys():
        raise WrongResultError(f"{label}: expected results {sorted(expected)}, got {sorted(got)}.")
    for name, right in expected.items():
        if got[name].shape != right.shape:
            raise WrongResultError(f"{label}, {name}: expected {list(right.shape)}, got {list(got[name].shape)}.")
        error = float((got[name] - right).double().norm() / right.double().norm())
        if not error <= allowed[name]:
            raise WrongResultError(f"{label}, {name}: expected an error of at most {allowed[name]:g}, got {error:.2g}.")


def cost(module: nn.Module, setup: Setup) -> dict[str, int]:
    """Count a network's parameters and multiply-adds.

    Args:
        module: The network, not compiled; it is not changed.
        setup: What is run.

    Returns:
        ``parameters``, and ``multiply_adds`` of the convolutions and the linear layer for one image.
    """
    # The counter's hooks fail on views, made without gradients, of tensors that require them.
    module = deepcopy(module).eval().requires_grad_(False)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, setup.size, setup.size, dtype=next(module.parameters()).dtype))
    return {
        "parameters": sum(p.numel() for p in module.parameters()),
        "multiply_adds": counter.get_total_flops() // 2,
    }

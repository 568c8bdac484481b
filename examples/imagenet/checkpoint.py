# SPDX-License-Identifier: MIT
"""Checkpoints of a training run: safetensors files, written atomically, without pickle.

A checkpoint holds the weights, the averaged weights, the optimizer's momentum, and a description of the run: its
recipe, classes, wirings, and how far it has come. Whole tensors are stored, whatever the number of processes, so a run
may continue with another number of them. Process 0 reads and writes; the others get the tensors from it, so that the
folder need not be shared among machines.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from filelock import FileLock, Timeout
from parallel import World, restore, whole
from recipe import Recipe
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from stop import RunError
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

import freewire as fw
from freewire.errors import InputError, cut, shown
from freewire.files import replacing

KEY = "freewire.training"  # of the description in the file's metadata
DIVERGED = "Earlier checkpoints are good; train in a new --out with a lower --lr, or with --precision fp32."
MOMENTUM = "momentum_buffer"  # torch's name in the state of SGD


@dataclass(frozen=True)
class Run:
    """What makes two runs the same: a checkpoint only continues the run that wrote it.

    Attributes:
        recipe: Everything that was chosen.
        classes: Names of the classes, in the order of the outputs.
        images: Number of training images.
        wirings: Hash of each randomly wired stage's graph, by the name of the stage.
    """

    recipe: Recipe
    classes: tuple[str, ...]
    images: int
    wirings: dict[str, str]

    def check(self, stored: dict[str, Any], path: Path) -> None:
        """Raise `InputError` if a stored run is another one."""
        remedy = "Pass the same options and images, or another --out for a new run."
        classes = stored["classes"]
        if list(classes) != list(self.classes):
            here = cut(", ".join(sorted(set(self.classes) - set(classes))) or "none")
            raise InputError(
                f"{path}: expected a checkpoint of these {len(self.classes)} classes, got one of {len(classes)}; "
                f"missing in it: {here}. {remedy}"
            )
        differences = self.recipe.differences(stored["recipe"])
        if differences:
            raise InputError(
                f"{path}: expected a checkpoint of the same recipe, got another: {'; '.join(differences)}. {remedy}"
            )
        if stored["images"] != self.images:
            raise InputError(
                f"{path}: expected a checkpoint of a run on {self.images} training images, got {stored['images']}. "
                f"Put images that were removed back, any will do, since the order depends on their number. {remedy}"
            )
        if stored["wirings"] != self.wirings:
            raise InputError(
                f"{path}: expected a checkpoint of the same wiring, got another, though the model's name and options "
                "are the same. Use the version of freewire that the run began with."
            )


def wirings(model: nn.Module) -> dict[str, str]:
    """The hash of each randomly wired stage's graph, by the name of the stage."""
    stages = {name: part for name, part in model.named_modules() if isinstance(part, fw.models.GraphStage)}
    return {name: str(stage.graph.wiring_hash) for name, stage in stages.items()}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint in memory: tensors by name, the same on every process, and how far the run had come."""

    tensors: dict[str, Tensor]
    progress: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in a folder.

    Args:
        folder: The folder; made if it is not there. No other run may use it until `close`.
        keep: How many to keep.
        run: The run that they belong to.
        world: The processes.

    Raises:
        InputError: Another run is using the folder.
    """

    def __init__(self, folder: Path, keep: int, run: Run, world: World) -> None:
        self.folder, self.keep, self.run, self.world = folder, keep, run, world
        if not world.rank:
            self._lock = FileLock(folder.parent / "lock", timeout=0, fallback_to_soft=False)
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with suppress(NotImplementedError):  # a network file system without locks
                    self._lock.acquire()
            except Timeout:
                raise InputError(
                    f"--out: expected a folder that no other run is using, got {shown(str(folder.parent))}. Wait for "
                    "that run to end, or name another folder."
                ) from None
            except OSError as error:
                raise InputError(
                    f"--out: expected a folder that can be written, got {shown(str(folder.parent))} "
                    f"({error.strerror}). Choose another."
                ) from None

    def close(self) -> None:
        """Leave the folder to another run."""
        if not self.world.rank:
            self._lock.release()

    def files(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted(self.folder.glob("step-*.safetensors"))

    def save(self, step: int, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
        """Write a checkpoint; then remove the oldest ones.

        Args:
            step: Optimizer steps done.
            tensors: The tensors of the run.
            description: How far the run has come, as "progress", and the fields of `Run`.

        Raises:
            OSError: It cannot be written; those that are there remain.
        """
        path = self.folder / f"step-{step:09d}.safetensors"
        write(path, tensors, description)
        older = [file for file in self.files() if file.name < path.name]
        later = [file for file in self.files() if file.name > path.name]  # they could not be read, or the run went on
        for file in [*older[: len(older) + 1 - self.keep], *later]:
            file.unlink(missing_ok=True)

    def load(self) -> Checkpoint | None:
        """Read the last checkpoint, on every process; None if there is none.

        Raises:
            InputError: It is of another run, or none can be read.
        """
        found: Any = None
        if not self.world.rank:
            try:
                found = self._read()
            except InputError as error:
                found = error
        loaded = found.progress if isinstance(found, Checkpoint) else found
        loaded = self.world.share(loaded)
        if isinstance(loaded, InputError):
            raise loaded
        if loaded is None:
            return None
        return Checkpoint(_share(found.tensors if found else {}, self.world), loaded)

    def _read(self) -> Checkpoint | None:
        damaged = []
        for path in reversed(self.files()):
            try:
                tensors, stored = read(path)
            except (SafetensorError, OSError, ValueError) as error:
                print(f"{path}: cannot be read ({cut(error)}); trying the one before.")
                damaged.append(path)
                continue
            self.run.check(stored, path)
            return Checkpoint(tensors, stored["progress"])
        if damaged:
            raise InputError(
                f"{self.folder}: expected a checkpoint that can be read, got {len(damaged)} damaged ones. Remove them "
                "to begin again."
            )
        return None


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file that `write` wrote, and the description.

    Raises:
        SafetensorError: It is damaged, or of another format.
        OSError: It cannot be read.
        ValueError: It has no description.
    """
    path.open("rb").close()  # safetensors reports every failure as a missing file
    with safe_open(path, "pt") as file:
        description = (file.metadata() or {}).get(KEY)
        names = file.keys()
        tensors = {name: file.get_tensor(name) for name in names}
    if description is None:
        raise ValueError("not a file of this training script")
    return tensors, json.loads(description)


def write(path: Path, tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write a safetensors file atomically; `OSError` if it cannot be written."""
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {KEY: json.dumps(description)})
    with replacing(path) as file:
        file.write(data)


def live_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, average: nn.Module | None) -> dict[str, Tensor]:
    """The tensors that a run consists of, by their names in a checkpoint; they share memory with the run's."""
    found = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        momentum = optimizer.state[parameter].get(MOMENTUM)
        if momentum is not None:
            found[f"momentum.{name}"] = momentum
    if average is not None:
        found |= {f"average.{name}": tensor for name, tensor in average.state_dict().items()}
    return found


def check_finite(tensors: dict[str, Tensor], step: int) -> None:
    """Raise `RunError` if a tensor has a NaN or an infinity, from which no run can be continued."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise RunError(
                f"weights: expected finite numbers to save after step {step}, got others in {name}. {DIVERGED}"
            )


def collect(tensors: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """Whole tensors on the CPU, on process 0; every process has to call this."""
    gathered = {
        name: whole(tensor) for name, tensor in tensors.items() if not world.rank or isinstance(tensor, DTensor)
    }
    return {} if world.rank else gathered


def put_back(checkpoint: Checkpoint, model: nn.Module, optimizer: torch.optim.Optimizer, average: Any) -> None:
    """Overwrite the tensors of a run by those of a checkpoint."""
    for name, parameter in model.named_parameters():
        if f"momentum.{name}" in checkpoint.tensors:
            optimizer.state[parameter][MOMENTUM] = torch.zeros_like(parameter)
    for name, tensor in live_tensors(model, optimizer, average).items():
        restore(tensor, checkpoint.tensors[name])


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of best.safetensors by name, and the description of the run.

    Raises:
        InputError: It is no such file.
    """
    try:
        if path.is_dir():
            raise ValueError("a folder, which may have the file in it")
        weights, description = read(path)
        if any(name.startswith("momentum.") for name in weights):
            raise ValueError("a checkpoint, which has more than weights in it")
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"weights: expected best.safetensors of a run, got {shown(str(path))}: {cut(error)}."
        ) from None
    return weights, description


def stored_recipe(path: Path) -> Recipe:
    """The recipe of best.safetensors; `InputError` if it is no such file."""
    return Recipe(**read_weights(path)[1]["recipe"])


def _share(tensors: dict[str, Tensor], world: World) -> dict[str, Tensor]:
    """Process 0's tensors on every process, on the CPU."""
    shapes = world.share([(name, tensor.shape, tensor.dtype) for name, tensor in tensors.items()])
    shared = {}
    for name, shape, dtype in shapes:
        tensor = tensors[name] if tensors else torch.empty(shape, dtype=dtype)
        if world.size > 1:
            there = tensor.to(world.device)
            dist.broadcast(there, src=0)
            tensor = there.cpu()
        shared[name] = tensor
    return shared

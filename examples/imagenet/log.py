# SPDX-License-Identifier: MIT
"""What a run reports: a progress bar, lines of text, metrics.jsonl, TensorBoard's files, and a table at the end.

Only process 0 reports. After an interrupted run, what was written after its last checkpoint is removed, since the run
repeats it.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metrics import Figures
from parallel import World
from tqdm import tqdm
from wiring_picture import draw_wiring

from freewire.errors import InputError, cut
from freewire.files import replacing

TENSORBOARD = "TensorBoard's files"


def in_words(seconds: float) -> str:
    """A time with the two units that matter: 3 d 4 h, 5 h 12 min, 7 min 30 s, 12 s."""
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    left, parts = round(seconds), []
    for name, size in units:
        if left >= size or (name == "s" and not parts):
            parts.append(f"{left // size} {name}")
        elif parts:
            break
        left %= size
    return " ".join(parts[:2])


class Log:
    """The reports of one process.

    Args:
        out: Folder of the run.
        world: The processes.
        steps: Optimizer steps of the whole run.
        batch: Images per step.
        done: Steps that are done already.
        validated: The step of the last validation that counts.
        tensorboard: Whether to write TensorBoard's files.
    """

    def __init__(
        self, out: Path, world: World, steps: int, batch: int, done: int, validated: int, tensorboard: bool
    ) -> None:
        self.main, self.steps, self.batch = not world.rank, steps, batch
        self._writer: Any = None
        if not self.main:
            return
        self.path = out / "metrics.jsonl"
        _forget_later(self.path, done, validated)
        self._file = self.path.open("a")
        self._bar = tqdm(
            total=steps * batch, initial=done * batch, unit=" images", unit_scale=True, disable=None, dynamic_ncols=True
        )
        self._begin, self._first = time.perf_counter(), done
        if tensorboard:
            self._writer = _tensorboard(out / "tensorboard", done)

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        if self.main:
            tqdm.write(text, file=sys.stdout)
            sys.stdout.flush()

    def step(self) -> None:
        """Count an optimizer step."""
        if self.main:
            self._bar.update(self.batch)

    def entry(self, kind: str, step: int, epoch: float, **values: float) -> None:
        """Write figures to metrics.jsonl and to TensorBoard, as ``kind/name`` at ``step``."""
        if not self.main:
            return
        row = {"kind": kind, "step": step, "epoch": round(epoch, 4), **values}
        with self._lossy(self.path):
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        with self._lossy(TENSORBOARD):
            for name, value in values.items() if self._writer else ():
                self._writer.add_scalar(f"{kind}/{name}", value, step)

    @contextmanager
    def _lossy(self, what: object) -> Iterator[None]:
        """Where the disk is full the training goes on; the log has a gap."""
        try:
            yield
        except OSError as error:
            self.say(f"Cannot write {what}: {cut(error, 300)}.")
            if what == TENSORBOARD:
                self._writer = None  # its thread has ended

    def training(self, step: int, epoch: float, figures: Figures, lr: float, speed: float) -> None:
        """Report the training since the last report: ``speed`` in images per second over all processes."""
        self.entry(
            "train",
            step,
            epoch,
            loss=figures.loss,
            top1=figures.top1,
            learning_rate=lr,
            images_per_second=speed,
        )
        if not self.main:
            return
        seconds = (time.perf_counter() - self._begin) * (self.steps - step) / max(step - self._first, 1)
        self._bar.set_postfix_str(f"epoch {epoch:.2f}, loss {figures.loss:.3f}, top-1 {figures.top1:.1%}")
        if self._bar.disable:
            self.say(
                f"epoch {epoch:.2f}  step {step:,} of {self.steps:,}  loss {figures.loss:.3f}  top-1 "
                f"{figures.top1:.1%}  {speed:,.0f} images/s  {in_words(seconds)} left"
            )

    def validation(self, kind: str, step: int, epoch: float, figures: Figures) -> None:
        """Report a validation; ``kind`` is "val", or "val_average" for averaged weights."""
        self.entry(kind, step, epoch, **figures._asdict())
        name = "averaged weights: " if kind == "val_average" else ""
        self.say(
            f"epoch {epoch}  validation  {name}loss {figures.loss:.3f}  top-1 {figures.top1:.2%}  top-5 "
            f"{figures.top5:.2%}  balanced {figures.balanced:.2%}"
        )

    def wiring(self, model: Any, path: Path) -> None:
        """Draw the model's randomly wired stages, if it has any, to a file and for TensorBoard."""
        figure = draw_wiring(model) if self.main else None
        if figure is None:
            return
        with self._lossy(path), replacing(path) as file:
            figure.savefig(file, dpi=100)
        with self._lossy(TENSORBOARD):
            if self._writer is not None and not self._first:
                self._writer.add_figure("wiring", figure)

    def close(self) -> None:
        """Close the files."""
        if self.main:
            self._bar.close()
            with self._lossy(self.path):
                self._file.close()
            with self._lossy(TENSORBOARD):
                if self._writer is not None:
                    self._writer.close()


def _forget_later(path: Path, step: int, validated: int) -> None:
    """Remove the entries of metrics.jsonl after a step, validations after another, and a line that was cut off."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            entry = json.loads(line)
            if entry["step"] <= (step if entry["kind"] == "train" else validated):
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue
    with replacing(path) as file:
        file.write("".join(kept).encode())


def _tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError(
            "tensorboard: expected it to be installed, got none. Run `pip install tensorboard`, or pass "
            "--no-tensorboard."
        ) from None
    return SummaryWriter(str(folder), purge_step=step + 1)

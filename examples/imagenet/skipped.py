# SPDX-License-Identifier: MIT
"""Images that could not be read: named, counted, and listed in a file; too many of them stop the run.

One damaged file in a million must not end a training of weeks, but a broken disk or a wrong folder must.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from parallel import World
from stop import RunError

from freewire.errors import cut

#: Share of the images of a run that may be unreadable.
LIMIT = 0.01


class Skipped:
    """The unreadable images of a run.

    Args:
        path: File that lists them, one JSON object a line; those that are in it already count. None to list none.
        images: Number of images, of training and validation together.
        world: The processes.
    """

    def __init__(self, path: Path | None, images: int, world: World) -> None:
        self.path, self.images, self.world = path, images, world
        self._new: dict[str, str] = {}
        lines = path.read_text().splitlines() if path and not world.rank and path.exists() else []
        self.reasons: dict[str, str] = world.share(_read(lines))

    def add(self, unreadable: Any) -> None:
        """Note the unreadable images of a batch: pairs of a name and a reason."""
        self._new.update((name, reason) for name, reason in unreadable if name not in self.reasons)

    @property
    def pending(self) -> int:
        """How many of this process's are not reported yet."""
        return len(self._new)

    def report(self) -> list[str]:
        """Put the processes' lists together, which all have to call this, and write them down.

        Returns:
            A line for each image that was not known before.

        Raises:
            RunError: They are more than 1 % of all images.
        """
        new: dict[str, str] = {}
        for found in self.world.gather(self._new):
            new.update((name, reason) for name, reason in found.items() if name not in self.reasons)
        self._new = {}
        self.reasons |= new
        if new and self.path and not self.world.rank:
            entries = [json.dumps({"image": name, "reason": reason}) + "\n" for name, reason in new.items()]
            with suppress(OSError), self.path.open("a") as file:  # a full disk: they are reported all the same
                file.writelines(entries)
        if len(self.reasons) > LIMIT * self.images:
            names = [f"{name} ({reason})" for name, reason in list(self.reasons.items())[:10]]
            rest = "; ..." if len(self.reasons) > 10 else ""
            where = (
                " The last checkpoint is good, but a run continues with the same number of images only. Then delete "
                f"the list of them, {self.path}."
                if self.path
                else ""
            )
            raise RunError(
                f"images: expected at most {LIMIT:.0%} unreadable, got {len(self.reasons)} of {self.images}: "
                f"{cut('; '.join(names), 2000)}{rest}. Put good copies in their place.{where}"
            )
        return [f"unreadable, skipped: {name} ({reason})" for name, reason in new.items()]


def _read(lines: list[str]) -> dict[str, str]:
    """The images of a list whose last line may be cut off."""
    found = {}
    for line in lines:
        try:
            entry = json.loads(line)
            found[entry["image"]] = entry["reason"]
        except (ValueError, KeyError, TypeError):
            continue
    return found

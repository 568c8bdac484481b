# SPDX-License-Identifier: MIT
"""Images in class folders: ``FOLDER/<class>/**/<image>``, found by torchvision."""

from __future__ import annotations

import os

import numpy as np
from sources import Source, Texts, listed, quoted
from torchvision.datasets import ImageFolder

from freewire.errors import InputError, cut


class Folders(Source):
    """The images of a folder of class folders; classes, and images within a class, are in the order of their names.

    Args:
        place: The folder.

    Raises:
        InputError: The folder cannot be read or has no class folders, or a class has no images.
    """

    def __init__(self, place: str) -> None:
        try:
            found = ImageFolder(place, allow_empty=True)
        except OSError as error:
            raise InputError(f"{quoted(place)} cannot be read: {error.strerror or cut(error)}.") from error
        self.place = place
        self.classes = tuple(found.classes)
        self.labels = np.array(found.targets, np.int64)
        self._root = os.path.join(place, "")
        self._paths = Texts.of([os.fsencode(path[len(self._root) :]) for path, _ in found.samples])
        counts = np.bincount(self.labels, minlength=len(self.classes))
        for name in self.classes:
            if not os.access(os.path.join(place, name), os.R_OK | os.X_OK):
                raise InputError(f"{quoted(os.path.join(place, name))} cannot be read: Permission denied.")
        if empty := [name for name, count in zip(self.classes, counts, strict=True) if count == 0]:
            raise InputError(
                f"{quoted(place)}: expected images of every class, got none in {len(empty):,} of "
                f"{len(self.classes):,} folders: {listed(empty)}. Fill these folders or remove them."
            )

    def name(self, index: int) -> str:
        """The path of an image."""
        return self._root + self._paths[index]

    def read(self, index: int) -> bytes:
        """Read a file."""
        with open(self.name(index), "rb") as file:
            return file.read()

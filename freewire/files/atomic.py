# SPDX-License-Identifier: MIT
"""Writing files atomically: a reader finds the old file or the new one, never a part of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[str]:
    """Replace a file atomically: after an error or an interrupt the old file is still there.

    Args:
        path: The file to replace or create.

    Yields:
        A path in the same folder to write to; at the end of the block it is renamed to ``path``.

    Raises:
        FileNotFoundError: The folder does not exist.
    """
    path = os.fsdecode(path)
    partial = f"{path}.{os.getpid()}.partial"
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"path: expected an existing folder, got {folder!r}. Create it first.")
    try:
        with open(partial, "wb") as file:  # with the caller's umask; some writers make their files private
            mode = os.fstat(file.fileno()).st_mode
        yield partial
        os.chmod(partial, mode)
        os.replace(partial, path)
    finally:
        if os.path.exists(partial):
            os.remove(partial)

# SPDX-License-Identifier: MIT
"""Writing files atomically: at any time a reader finds the whole old file or the whole new one.

`replacing` writes to a partial file (`freewire.files.partial`) in the folder of the target and renames it at the end.
Threads, processes, containers and machines may save to one path at once: each writes a partial file of its own, and
the last to finish determines the contents.

An existing file keeps its permissions, and its owner and group where the process may set them; a new one gets those
that `open` would give it. Symbolic links are followed. Hard links to the old file keep the old contents; access control
lists and extended attributes are not copied. A file that may not be written is not replaced, even where its folder
would allow it. Where the folder allows no new file, a save raises, since writing in place could leave half a file.

A device or a pipe is written to and not replaced, and so is an open file that a path such as /dev/stdout names; what
that file holds already is kept, and the new contents are appended.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple

from freewire.errors import shown
from freewire.files.partial import BINARY, can_lock, create_partial, discard, no_folder, remove_stale
from freewire.files.paths import path_name, with_short_name

__all__ = ["replacing"]


@contextmanager
def replacing(path: str | bytes | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Replace a file atomically: after an error, an interrupt or a crash the old file is still there.

    Args:
        path: The file to replace or create.

    Yields:
        A binary file to write to. At the end of the block it is written to the disk and renamed to ``path``.

    Raises:
        FileNotFoundError: The folder does not exist.
        IsADirectoryError: ``path`` is a folder.
        PermissionError: The file may not be written, or no file may be created in its folder.
        OSError: The disk is full, or another error of the system; its ``errno`` says which.
        InputError: ``path`` is not a path.

    Example:
        >>> import os, tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "result.txt")
        >>> with replacing(path) as file:
        ...     _ = file.write(b"accuracy 0.97")
        >>> os.listdir(os.path.dirname(path))
        ['result.txt']
    """
    target = _find(path_name(path))
    if target.in_place:
        with os.fdopen(os.open(target.path, os.O_WRONLY | os.O_APPEND | BINARY), "wb") as stream:
            yield stream
        return
    partial, file = create_partial(target.path, target.there)
    try:
        remove_stale(target.path, partial, file)
        yield file
        file.flush()
        os.fsync(file.fileno())
        if not can_lock():
            file.close()  # Windows renames no open file; elsewhere it stays locked until it has been renamed
        _rename(partial, target.path, path_name(path))
    except BaseException:
        discard(partial, file)
        raise
    file.close()
    _sync_folder(os.path.dirname(target.path) or os.curdir)


class _Target(NamedTuple):
    """Where to write.

    Attributes:
        path: The file at the end of all symbolic links.
        there: What is there now; None if nothing is.
        in_place: Whether it is written to instead of being replaced.
    """

    path: str
    there: os.stat_result | None
    in_place: bool


def _find(given: str) -> _Target:
    """Follow symbolic links, even to a file that does not exist yet, and check what is at their end."""
    try:
        # Another thread may change the folder of the process before the file is renamed. Not os.path.abspath: ".." in a
        # linked folder is the parent of the folder that the link leads to.
        path = os.path.join(os.getcwd(), given)
    except FileNotFoundError:
        raise no_folder(os.curdir) from None
    there, is_link = None, False
    try:
        there = os.lstat(path)
        is_link = stat.S_ISLNK(there.st_mode)
        if is_link:
            there = None
            there = os.stat(path)  # raises for a loop of links, and for links that the system does not let us follow
    except NotADirectoryError:
        raise no_folder(os.path.dirname(path)) from None
    except FileNotFoundError:
        pass
    except OSError as error:
        raise with_short_name(error, given) from None
    if there is not None and stat.S_ISDIR(there.st_mode):
        raise IsADirectoryError(
            errno.EISDIR, f"path: expected a file to write, got {shown(given)}, which is a folder. Name a file in it."
        )
    if there is not None and not stat.S_ISREG(there.st_mode):
        return _Target(path, there, True)
    in_place = False
    if is_link:
        path, in_place = _follow(path, given)
        try:
            end = os.stat(path) if in_place else os.lstat(path)
        except FileNotFoundError:
            end = None
        if (end and (end.st_dev, end.st_ino)) != (there and (there.st_dev, there.st_ino)):
            raise OSError(
                errno.EAGAIN,
                f"path: expected links that stay as they were, got {shown(given)}, where another program changed one "
                "meanwhile. Save again, and in a folder that others may not write to.",
            )
    if there is not None and not in_place and not _may_write(path):
        raise PermissionError(
            errno.EACCES,
            f"path: expected a file that may be written, got {shown(given)}, which is read-only. Change its "
            "permissions, or choose another name.",
        )
    return _Target(path, there, in_place)


def _rename(partial: str, path: str, given: str) -> None:
    try:
        os.replace(partial, path)
    except PermissionError:
        if not os.stat(os.path.dirname(path)).st_mode & stat.S_ISVTX:
            raise
        raise PermissionError(
            errno.EPERM,
            f"path: expected a file of your own in a folder with the sticky bit, got {shown(given)}. Choose another "
            "name.",
        ) from None


def _may_write(path: str) -> bool:
    return os.access(
        path,
        os.W_OK,
        effective_ids=os.access in os.supports_effective_ids,
        follow_symlinks=os.access not in os.supports_follow_symlinks,
    )


def _follow(path: str, given: str) -> tuple[str, bool]:
    """The path at the end of symbolic links, and whether it names a file that a process has open.

    The links are read here and not resolved by the system, which also protects from the links of others in shared
    folders. So the caller compares the file at the end with the one that the system has found.
    """
    for _ in range(100):
        if not os.path.islink(path):
            return path, False
        folder = os.path.dirname(path)
        if os.path.realpath(folder).startswith("/proc/"):  # a file that is open, and may have no name any more
            return path, True
        path = os.path.join(folder, os.readlink(path))
    raise OSError(errno.ELOOP, f"path: expected a file to write, got {shown(given)}, a loop of links. Remove it.")


def _sync_folder(folder: str) -> None:
    """Write the new name to the disk, where the system can."""
    with suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)

# SPDX-License-Identifier: MIT
"""Partial files: a save writes to one and then renames it, and a killed save leaves one behind.

**Names.** A partial file is called ``.freewire-<target>-<kernel>-<random>.partial``: hashes of the target's name and of
the running kernel, and 64 random bits. Its length does not depend on the target's name. It is created with O_EXCL, so
no file or link that is already there is ever opened.

**Partial files of killed writers.** A writer holds an exclusive flock on its partial file until it has been renamed.
The kernel releases the lock when the writer ends for any reason. Every save removes partial files of its own target

- that this same kernel created, if the lock can be acquired, since then nobody is writing to it;
- of another kernel, or on a file system without locks, if they have not been written to for a day and nobody is known
  to hold a lock: some network file systems keep a lock on one machine only.

A writer locks its partial file after creating it, and another save may lock and remove it in between. The writer then
finds the lock taken or the name gone, and creates another file. A save that holds the lock removes a name that is never
used twice, so it cannot remove a file that has been renamed in the meantime. A child that is forked during a save
inherits the lock; if the writer is then killed, its file stays for as long as the child lives.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import stat
from contextlib import suppress
from typing import IO

from freewire.errors import shown

if os.name == "posix":
    import fcntl

__all__ = ["BINARY", "can_lock", "create_partial", "discard", "no_folder", "remove_stale"]

_SUFFIX = ".partial"
_DAY = 24 * 60 * 60  # seconds
#: Flags of Windows and of POSIX.
BINARY = getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)


def can_lock() -> bool:
    """Whether this system has locks that end with their process."""
    return os.name == "posix"


def create_partial(path: str, there: os.stat_result | None) -> tuple[str, IO[bytes]]:
    """Create and lock a partial file beside a target.

    Args:
        path: The target.
        there: The file that is there now, whose owner and permissions the new one gets; None if there is none.

    Returns:
        The partial file's path, and the file open for writing.

    Raises:
        FileNotFoundError: The folder does not exist.
        PermissionError: No file may be created in the folder.
        OSError: Another error of the system.
    """
    folder = os.path.dirname(path)
    for _ in range(100):
        partial = os.path.join(folder, f"{_prefix(path)}{_kernel() or 'unknown'}-{secrets.token_hex(8)}{_SUFFIX}")
        try:
            # The system applies the umask. Nobody else may read a file that has not got its permissions yet.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | BINARY
            number = os.open(partial, flags, 0o666 if there is None else 0o600)
        except (FileNotFoundError, NotADirectoryError):
            raise no_folder(folder) from None
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            raise OSError(
                error.errno,
                f"path: expected a folder in which files may be created, got {shown(folder or os.curdir)}. Choose "
                "another folder: a file is replaced by a new one, so that readers never find a part of it.",
            ) from None
        file = os.fdopen(number, "wb")
        try:
            if _try_lock(number) is not False and os.path.lexists(partial):
                if there is not None:
                    _copy_permissions(there, number)
                return partial, file
        except BaseException:
            discard(partial, file)
            raise
        discard(partial, file)  # another save took it for that of a killed writer
    raise OSError(
        errno.EAGAIN,
        f"path: expected to lock a new file in {shown(folder or os.curdir)}, got none that stayed unlocked by other "
        "programs. Choose another folder.",
    )


def discard(partial: str, file: IO[bytes]) -> None:
    """Close and remove a partial file of this process, ignoring errors."""
    with suppress(OSError):  # on a full disk, the rest of the buffer
        file.close()
    with suppress(OSError):
        os.unlink(partial)


def remove_stale(path: str, own: str, file: IO[bytes]) -> None:
    """Remove the partial files that killed writers of a target have left; see above.

    Args:
        path: The target.
        own: The partial file that this process is writing, which is never removed.
        file: The same, open.
    """
    folder, prefix, kernel = os.path.dirname(path), _prefix(path), _kernel()
    now = os.fstat(file.fileno()).st_mtime  # by the clock of the file system
    with suppress(OSError):
        with os.scandir(folder or os.curdir) as entries:
            found = [e.name for e in entries if e.name.startswith(prefix) and e.name.endswith(_SUFFIX)]
        for name in found:
            if name != os.path.basename(own):
                is_local = kernel is not None and name.startswith(f"{prefix}{kernel}-")
                with suppress(OSError):  # removed by another save, or not ours to remove
                    _remove_if_stale(os.path.join(folder, name), is_local, now)


def no_folder(folder: str) -> FileNotFoundError:
    """The error about a folder that does not exist."""
    return FileNotFoundError(
        errno.ENOENT, f"path: expected an existing folder, got {shown(folder or os.curdir)}. Create it first."
    )


def _remove_if_stale(partial: str, is_local: bool, now: float) -> None:
    number = os.open(partial, os.O_RDWR | _NO_LINK | _NO_WAIT | BINARY)
    try:
        status, locked = os.fstat(number), _try_lock(number)
        is_old = now - status.st_mtime > _DAY
        if stat.S_ISREG(status.st_mode) and ((locked and is_local) or (locked is not False and is_old)):
            os.unlink(partial)
    finally:
        os.close(number)


def _prefix(path: str) -> str:
    """The beginning of the names of a target's partial files."""
    return f".freewire-{_digest(os.fsencode(os.path.basename(path)))}-"


def _kernel() -> str | None:
    """A hash that tells running kernels apart, since all processes of one kernel see each other's locks."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            return _digest(file.read())
    except OSError:
        return None


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=8).hexdigest()


def _try_lock(number: int) -> bool | None:
    """Lock an open file until it is closed; False if it is locked already, None if it cannot be locked."""
    if not can_lock():
        return None
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EAGAIN, errno.EACCES) else None
    return True


def _copy_permissions(there: os.stat_result, number: int) -> None:
    """Give an open file the owner, group and permissions of another, as far as this process may."""
    if not hasattr(os, "fchown"):
        return
    mode, new = there.st_mode & 0o777, os.fstat(number)
    if (new.st_uid, new.st_gid) != (there.st_uid, there.st_gid):
        try:
            os.fchown(number, there.st_uid, there.st_gid)
        except OSError:
            try:
                os.fchown(number, -1, there.st_gid)
            except OSError:  # the group is another, which gets no more than everybody
                mode &= 0o707 | (mode & 0o007) << 3
    with suppress(OSError):  # some file systems have no permissions
        os.fchmod(number, mode)

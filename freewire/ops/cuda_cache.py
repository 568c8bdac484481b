# SPDX-License-Identifier: MIT
"""Find the CUDA kernels for the GPUs of this machine, or build them once and keep them.

`find_or_build` returns the path of a library that was built from these sources, for these GPUs and this driver: the
installed one, or one that an earlier build has put into the user's cache ($FREEWIRE_CACHE, else
$XDG_CACHE_HOME/freewire, else ~/.cache/freewire), or a new one.

Kernels are built at first use so that a CPU wheel is enough on a GPU machine too, if nvcc is installed. Any number
of processes may ask at once: one builds, under a lock that ends with its process, and renames the finished library into
place. Loaded code runs as this user, so a cache that belongs to somebody else, or that others may write to, is refused.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from filelock import FileLock, Timeout

from freewire._native import cuda_build, toolchain
from freewire.errors import BuildError, cut

_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class _Wanted(NamedTuple):
    """What a library must have been built from and for."""

    sources: str | None  # source_hash(); None where there are no sources to compare with
    gpus: list[tuple[int, int]]
    driver: tuple[int, int] | None  # the newest CUDA that it supports; None without a driver

    def shortcoming(self, library: Path) -> str | None:
        """Why the library does not fit, in words; None where it does."""
        if not library.is_file():
            return "no such file"
        stamp = cuda_build.read_stamp(library)
        if stamp is None or self.sources not in (None, stamp.sources):
            return "one built from other sources"
        if stamp.cuda[0] > _newest_cuda(self.driver):
            return f"one for CUDA {stamp.cuda[0]}, which is too new for this driver"
        missing = [gpu for gpu in self.gpus if not cuda_build.covers(stamp.architectures, gpu)]
        if missing:
            names = ", ".join(map(cuda_build.capability, missing))
            return f"one for {', '.join(stamp.architectures)}, not for this GPU's compute capability {names}"
        return None


def find_or_build(installed: Path) -> Path:
    """Return a library of CUDA kernels that fits this machine, built now if there is none.

    Args:
        installed: Path where an installation has its library, if it has one.

    Raises:
        BuildError: There is none and it cannot be built, or no kernels could run on this machine.
    """
    wanted = _wanted()
    why = wanted.shortcoming(installed)
    if why is None:
        return installed
    try:
        csrc = cuda_build.source_folder()
        if csrc is None:
            raise BuildError(f"sources: expected {installed.parent / 'csrc'}, got none. Reinstall freewire.")
        folder = cache_folder() / "cuda" / _key(wanted)
        return _cached(folder, wanted) or _build(folder, csrc, wanted)
    except BuildError as error:
        raise BuildError(
            f"CUDA kernels: expected {installed.name} in {installed.parent}, got {why}, and they cannot be built here. "
            f"{cut(error, 1000)}"
        ) from error


def find(installed: Path) -> Path | None:
    """The library that `find_or_build` would return without building, or None.

    Raises:
        BuildError: No kernels could run on this machine, or the cache is not this user's alone.
    """
    wanted = _wanted()
    if wanted.shortcoming(installed) is None:
        return installed
    return _cached(cache_folder() / "cuda" / _key(wanted), wanted) if wanted.sources else None


def obstacles() -> list[str]:
    """What keeps the kernels from running here, or from being built: one message with its remedy for each cause."""
    found = []
    driver = driver_version()
    for check in (
        lambda: _check_device(cuda_build.visible_gpus()),
        _check_allowed,
        lambda: _find_nvcc(_newest_cuda(driver)),
        toolchain.check_compiler,
        toolchain.find_ninja,
    ):
        try:
            check()
        except BuildError as error:
            found.append(str(error))
    if driver is None:
        found.insert(0, "GPU: expected an NVIDIA driver, got none. Install it, where there is an NVIDIA GPU.")
    return found


def _wanted() -> _Wanted:
    """What a library must have been built from and for here."""
    cuda_build.requested()  # raises for a wrong FREEWIRE_CUDA even where it does not matter yet
    gpus = cuda_build.visible_gpus()
    _check_device(gpus)
    csrc = cuda_build.source_folder()
    return _Wanted(cuda_build.source_hash(csrc) if csrc else None, gpus, driver_version())


def cache_folder() -> Path:
    """The folder where this user's builds are kept.

    Raises:
        BuildError: It would be in the home folder, and there is none.
    """
    chosen, standard = os.environ.get("FREEWIRE_CACHE"), Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not chosen and standard.is_absolute():  # the XDG specification says to ignore a relative one
        return standard / "freewire"
    folder = Path(chosen or "~/.cache/freewire")
    try:
        return folder.expanduser().absolute()
    except RuntimeError as error:
        raise _unusable(folder, "whose home folder is unknown") from error


def driver_version() -> tuple[int, int] | None:
    """The newest CUDA that the NVIDIA driver supports; None without a driver."""
    version = ctypes.c_int(0)
    try:
        if ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version)):
            return None
    except OSError:
        return None
    return version.value // 1000, version.value % 1000 // 10


def _newest_cuda(driver: tuple[int, int] | None) -> int:
    """The newest major version of CUDA whose programs run with this driver."""
    return driver[0] if driver else sys.maxsize


def _check_device(gpus: list[tuple[int, int]]) -> None:
    if torch.version.cuda is None:
        raise BuildError(
            f"torch: expected one built for CUDA, got {torch.__version__}. Install one (https://pytorch.org), or use "
            'net.to("cpu").'
        )
    if not gpus and torch.cuda.device_count():
        raise BuildError(
            f"GPU: expected compute capability {cuda_build.capability(cuda_build.OLDEST_GPU)} (Turing) or newer, got "
            'an older one. Use net.to("cpu").'
        )


def _check_allowed() -> None:
    if cuda_build.requested() is False:
        raise BuildError("FREEWIRE_CUDA: expected 1 or no value, to build at first use, got 0. Unset it.")


def _find_nvcc(newest_cuda: int) -> toolchain.Nvcc:
    nvcc = toolchain.find_nvcc()
    if nvcc.version[0] > newest_cuda:
        raise BuildError(
            f"nvcc: expected CUDA {newest_cuda} or older, the newest that this driver runs, got {nvcc} "
            f"({nvcc.path}). Update the driver, or set CUDA_HOME to an older CUDA toolkit."
        )
    return nvcc


def _key(wanted: _Wanted) -> str:
    """A name for a folder of the cache: by sources, and by system, since machines of several kinds may share a home."""
    system = f"{platform.machine()} {' '.join(platform.libc_ver())}"
    return hashlib.sha256(f"{wanted.sources} {system}".encode()).hexdigest()[:16]


def _cached(folder: Path, wanted: _Wanted) -> Path | None:
    """The library of an earlier build that fits, if there is one.

    Raises:
        BuildError: Another user could have put it there.
    """
    _check_own(*folder.parents[1::-1], folder)
    libraries = sorted(folder.glob("libfreewire_cuda-*.so"))
    found = next((path for path in libraries if wanted.shortcoming(path) is None), None)
    if found:
        _check_own(found)
    return found


def _check_own(*paths: Path) -> None:
    """Raise `BuildError` for what belongs to a user other than this one and root, or what others may write to.

    Args:
        paths: Folders, from the cache inwards, or a library. Those that do not exist are skipped.
    """
    for path in paths:
        try:
            about = path.stat()
        except OSError:
            continue
        why = None
        if about.st_uid not in (0, os.geteuid()):
            why = f"which belongs to user {about.st_uid}"
        elif about.st_mode & _BY_OTHERS:
            why = f"which others may write to (mode {stat.S_IMODE(about.st_mode):04o})"
        if why:
            raise BuildError(
                f"FREEWIRE_CACHE: expected a folder that only you can write to, got {path}, {why}. Set FREEWIRE_CACHE "
                "to a folder of your own, without write permission for others (chmod go-w)."
            )


def _build(folder: Path, csrc: Path, wanted: _Wanted) -> Path:
    """Build in the cache, unless another process has just done so."""
    _check_allowed()
    nvcc = _find_nvcc(_newest_cuda(wanted.driver))
    toolchain.check_compiler()
    toolchain.find_ninja()
    built_for = cuda_build.architectures(nvcc, wanted.gpus)
    with _locked(folder):
        if found := _cached(folder, wanted):
            return found
        for abandoned in folder.glob("work-*"):  # by a process that was killed
            shutil.rmtree(abandoned, ignore_errors=True)
        if ignored := cuda_build.ignored_list(built_for, wanted.gpus):
            _say(ignored)
        name = f"libfreewire_cuda-{nvcc.version[0]}.{nvcc.version[1]}-{'-'.join(built_for)}.so"
        _say(f"building the CUDA kernels for {', '.join(built_for)} with {nvcc}, once, in about a minute: {folder}")
        started = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="work-", dir=folder) as work:
            torch_folder, log = Path(torch.__file__).parent, folder / "build.log"
            library = cuda_build.build(csrc, torch_folder, Path(work), log, nvcc, built_for)
            library.chmod(stat.S_IMODE(library.stat().st_mode) & ~_BY_OTHERS)  # a umask of 002 lets the group write
            os.replace(library, folder / name)
        _say(f"built the CUDA kernels in {time.monotonic() - started:.0f} s")
    return folder / name


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases when the process ends, even if it is killed."""
    try:
        for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
            missing.mkdir(mode=0o700, exist_ok=True)
        _check_own(*folder.parents[1::-1], folder)  # before anything is written there
        (folder / "lock").open("a").close()
    except OSError as error:
        raise _unusable(folder, f"which cannot be written ({error.strerror})") from error
    # The package's other kind of lock, for file systems without any, would outlive a process that is killed.
    lock = FileLock(folder / "lock", fallback_to_soft=False)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            _say(f"waiting for another process, which builds the CUDA kernels: {folder}")
            lock.acquire()
    except OSError as error:  # some network file systems have no locks
        raise _unusable(folder, f"which cannot be locked ({error.strerror})") from error
    try:
        yield
    finally:
        lock.release()


def _unusable(folder: Path, why: str) -> BuildError:
    return BuildError(
        f"FREEWIRE_CACHE: expected a folder to keep the CUDA kernels in, got {folder}, {why}. Set FREEWIRE_CACHE to "
        "one that can be written and locked."
    )


def _say(what: str) -> None:
    print(f"freewire: {what}", file=sys.stderr, flush=True)

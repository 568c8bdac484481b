# SPDX-License-Identifier: MIT
"""What the machine can do at most: multiplications per second, and bytes of rows per second from each cache level.

`measure_peaks` compiles peaks.c for this processor with the C compiler ($CC, or cc) and runs it on as many threads as
the benchmark uses, each with rows of its own, for about a second. A row has 256 bytes and each element of it is
multiplied and added once, as along an edge of a network; rows are read at random, as a network reads its tape, and in
order, as it reads its weights and indices. Both are done plainly and with rows fetched into the second cache some time
ahead, which doubles random reads from memory on some processors; the faster way counts. So does the best of several
rounds, and `Peaks.best` keeps the best of several measurements, since disturbances only ever slow a machine down.
``python -m benchmarks.harness.peaks`` prints those of all cores.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness.machine import cores

__all__ = ["Cache", "Level", "Peaks", "PeaksError", "caches", "measure_peaks"]

_ROUNDS = 5
_SECONDS = 0.015  # per round and figure
_ROW = 256  # bytes, as in peaks.c
_AHEAD = 40  # rows
_SHORTEST = 1024  # rows named by an order, which is read over and over
_MOST_MEMORY = 1 << 30  # bytes of all threads' rows in memory
_SYSTEM = Path("/sys/devices/system/cpu")
_FLAGS = ("-O3", "-march=native", "-shared", "-fPIC")

FloatArray = NDArray[np.float32]
Rate = Callable[[], float]


class PeaksError(Exception):
    """The machine's peaks cannot be measured here."""


@dataclass(frozen=True)
class Cache:
    """A level of cache: its number, and how many of its bytes each thread can use."""

    level: int
    share: int


@dataclass(frozen=True)
class Level:
    """How fast all threads together read rows that fit one level: "L1", "L2", ..., or "memory"."""

    name: str
    #: Bytes that a thread can keep there; None for memory.
    share: int | None
    #: Bytes of rows that each thread read.
    measured_on: int
    #: Bytes per second of rows read at random and in order.
    random: float
    in_order: float


@dataclass(frozen=True)
class Peaks:
    """What ``threads`` threads together can do at most."""

    threads: int
    #: Floating-point operations per second, in float32.
    flops: float
    #: From the first cache to memory.
    levels: tuple[Level, ...]

    def best(self, other: Peaks | None) -> Peaks:
        """The higher of each figure of two measurements with as many threads."""
        if other is None:
            return self
        levels = (
            replace(a, random=max(a.random, b.random), in_order=max(a.in_order, b.in_order))
            for a, b in zip(self.levels, other.levels, strict=True)
        )
        return Peaks(self.threads, max(self.flops, other.flops), tuple(levels))

    def level(self, size: int) -> Level:
        """The level that holds ``size`` bytes per thread."""
        return next(level for level in self.levels if level.share is None or size <= level.share)

    def __str__(self) -> str:
        rows = ", ".join(f"{level.name} {level.random / 1e9:.0f}" for level in self.levels)
        return (
            f"peaks of {self.threads} thread(s): {self.flops / 1e9:.0f} GFLOP/s; random rows of {_ROW} bytes, GB/s: "
            f"{rows}; in order from memory {self.levels[-1].in_order / 1e9:.0f}"
        )


def measure_peaks(threads: int, *, rounds: int = _ROUNDS, seconds: float = _SECONDS) -> Peaks:
    """Measure what this machine can do at most.

    Args:
        threads: Number of threads, each of which works on its own.
        rounds: Number of rounds, the best of which counts.
        seconds: Time per round and figure.

    Raises:
        PeaksError: There is no C compiler, or the system does not report its caches.
    """
    known = caches(threads)
    sets = {f"L{cache.level}": cache.share // (2 if cache.level < 3 else 4) for cache in known}  # others use L3 too
    last = known[-1].share
    sets["memory"] = max(2 * last, min(4 * last, _MOST_MEMORY // threads))
    barrier = threading.Barrier(threads)
    library = _library()
    with ThreadPoolExecutor(threads) as pool:

        def work(thread: int) -> NDArray[np.float64]:
            """One thread's rates, [rounds, figures]; it allocates its rows itself, so that they are near its core."""
            rates = [_fma_rate(library, seconds)]
            for size in sets.values():
                rates += _row_rates(library, seconds, size // _ROW, thread)
            found = np.empty((rounds, len(rates)))
            for at in np.ndindex(found.shape):
                barrier.wait(timeout=60)
                found[at] = rates[at[1]]()
            return found

        flops, *rows = np.sum(list(pool.map(work, range(threads))), axis=0).max(axis=0).tolist()
    shares: list[int | None] = [*(cache.share for cache in known), None]
    ways = [max(plain, ahead) for plain, ahead in zip(rows[::2], rows[1::2], strict=True)]
    levels = zip(sets.items(), shares, ways[::2], ways[1::2], strict=True)
    return Peaks(threads, flops, tuple(Level(name, share, size, *found) for (name, size), share, *found in levels))


def caches(threads: int, system: Path = _SYSTEM) -> list[Cache]:
    """The caches for data, nearest first, as the system reports them.

    Args:
        threads: Number of threads that divide a shared cache among them.
        system: The folder in which Linux describes the processors.

    Raises:
        PeaksError: The system does not report its caches.
    """
    cpus = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    sizes: dict[int, int] = {}
    instances: dict[int, set[str]] = {}
    for cpu in cpus:
        for folder in (system / f"cpu{cpu}" / "cache").glob("index*"):
            kind, level, size, shared = (
                (folder / name).read_text().strip() for name in ("type", "level", "size", "shared_cpu_list")
            )
            if kind != "Instruction":
                sizes[int(level)] = _bytes(size)
                instances.setdefault(int(level), set()).add(shared)
    if not sizes:
        sizes = _configured()
    if not sizes:
        raise PeaksError(f"caches: expected their sizes in {system} or from sysconf, got none.")
    # A cache of unknown neighbours: only the third level is taken to be shared.
    number = {level: len(instances[level]) if instances else threads if level < 3 else 1 for level in sizes}
    return [Cache(level, sizes[level] // -(-threads // number[level])) for level in sorted(sizes)]


def _bytes(size: str) -> int:
    """A size as Linux writes it, such as 32K."""
    unit = {"K": 1 << 10, "M": 1 << 20}.get(size[-1:], 1)
    return int(size.rstrip("KM")) * unit


def _configured() -> dict[int, int]:
    """The sizes that sysconf reports, by level; it does not say which cores share a cache."""
    names = {1: "SC_LEVEL1_DCACHE_SIZE", 2: "SC_LEVEL2_CACHE_SIZE", 3: "SC_LEVEL3_CACHE_SIZE"}
    found = {level: os.sysconf(name) for level, name in names.items() if name in os.sysconf_names}
    return {level: size for level, size in found.items() if size > 0}


@functools.cache
def _library() -> ctypes.CDLL:
    """peaks.c, compiled; the file is deleted, the loaded library stays."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "peaks.so")
        source = Path(__file__).with_suffix(".c")
        command = [*shlex.split(os.environ.get("CC", "cc")), *_FLAGS, "-o", str(path), str(source)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            said = (getattr(error, "stderr", None) or str(error)).strip()[:300]
            raise PeaksError(f"CC: expected a C compiler that builds {source.name}, got: {said}") from None
        library = ctypes.CDLL(str(path))
    number, pointer = ctypes.c_double, ctypes.c_void_p
    library.fma_rate.restype = library.row_rate.restype = number
    library.fma_rate.argtypes = [number, pointer]
    library.row_rate.argtypes = [number, pointer, pointer, ctypes.c_int64, ctypes.c_int64, pointer]
    return library


def _fma_rate(library: ctypes.CDLL, seconds: float) -> Rate:
    numbers = _numbers()
    return lambda: library.fma_rate(seconds, numbers.ctypes.data)


def _row_rates(library: ctypes.CDLL, seconds: float, count: int, seed: int) -> list[Rate]:
    """Reading ``count`` rows: at random and in order, each plainly and with rows fetched ahead."""
    rows, numbers = _aligned(count), _numbers()
    times = -(-_SHORTEST // count)
    random = np.random.default_rng(seed)
    orders = [np.concatenate([random.permutation(count) for _ in range(times)]), np.tile(np.arange(count), times)]

    def rate(order: NDArray[np.int64], ahead: int) -> Rate:
        even = len(order) // 2 * 2
        entries = np.concatenate((order[:even], order[:ahead])).astype(np.int32)
        return lambda: library.row_rate(
            seconds, rows.ctypes.data, entries.ctypes.data, even, ahead, numbers.ctypes.data
        )

    return [rate(order, ahead) for order in orders for ahead in (0, _AHEAD)]


def _numbers() -> FloatArray:
    """A factor and a term that keep sums finite, and room for a vector of sums."""
    return np.full(32, 0.5, np.float32)


def _aligned(count: int) -> FloatArray:
    floats = _ROW // 4
    memory = np.ones((count + 1) * floats, np.float32)
    first = -memory.ctypes.data % _ROW // 4
    return memory[first : first + count * floats]


if __name__ == "__main__":
    print(measure_peaks(cores()))

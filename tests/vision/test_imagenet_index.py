# SPDX-License-Identifier: MIT
"""The index of the shards of examples/imagenet/: kept in a file, rebuilt when it must be, built by two at once."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest

from freewire.errors import InputError
from tests.support.examples import imported
from tests.vision.imagenet import COUNT, content, tar


def open_and_wait(folder: str, place: str, cache: str, barrier, results) -> None:
    with imported("imagenet/sources") as sources:
        barrier.wait(60)
        results.put(len(sources.open_source(place, cache)))


class TestIndexFile:
    @pytest.fixture
    def cache(self, tmp_path) -> Path:
        return tmp_path / "made" / "here"

    @pytest.fixture
    def builds(self, lib, monkeypatch) -> list[int]:
        """An entry for each time that an index is built."""
        counted, build = [], lib.shard_index.build_index
        monkeypatch.setattr(lib.shard_index, "build_index", lambda paths: (counted.append(len(paths)), build(paths))[1])
        return counted

    def test_kept(self, lib, shards, cache, builds):
        expected = content(lib.sources.open_source(shards, cache))
        assert content(lib.sources.open_source(shards, cache)) == expected
        assert builds == [3]
        (file,) = cache.glob("*.npz")
        with np.load(file, allow_pickle=False) as arrays:
            assert set(arrays) == {"stamp", "shard", "offset", "size", "label", "keys", "ends"}
        assert content(lib.sources.open_source(shards / "*1.tar", cache)) == expected[10:20]
        assert builds == [3, 1]
        assert len(list(cache.glob("*.npz"))) == 2

    def test_beside_the_shards(self, lib, shards):
        """The folder of the index is no class folder, and neither is a hidden one."""
        (shards / ".hidden").mkdir()
        for _ in range(2):
            assert len(lib.sources.open_source(shards, shards / "cache")) == COUNT
        assert len(list((shards / "cache").glob("*.npz"))) == 1

    def test_rebuilt_after_a_change(self, lib, shards, cache, builds):
        path = shards / "train-0001.tar"
        lib.sources.open_source(shards, cache)
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
        lib.sources.open_source(shards, cache)
        assert builds == [3, 3]
        tar(path, [("a.jpg", b"new"), ("a.cls", b"0")])
        assert content(lib.sources.open_source(shards, cache))[10] == (b"new", 0)
        path.unlink()
        assert len(lib.sources.open_source(shards, cache)) == 13
        assert builds == [3, 3, 3, 2]
        assert len(list(cache.glob("*.npz"))) == 2

    def test_damaged_anywhere(self, lib, shards, cache, builds):
        """Not one changed byte is taken for an index: either nothing that is read has changed, or it is rebuilt."""
        expected = content(lib.sources.open_source(shards, cache))
        (file,) = cache.glob("*.npz")
        whole = file.read_bytes()
        stamp = lib.shard_index.describe(sorted(map(str, shards.glob("*.tar"))))
        good = lib.shard_index.read_index(file, stamp)
        damaged = [whole[:length] for length in range(0, len(whole), 97)]
        damaged += [whole[:at] + bytes([whole[at] ^ 0x20]) + whole[at + 1 :] for at in range(0, len(whole), 13)]
        refused = 0
        for data in damaged:
            file.write_bytes(data)
            index = lib.shard_index.read_index(file, stamp)
            refused += index is None
            assert index is None or all(np.array_equal(a, b) for a, b in zip(index, good, strict=True))
        assert refused > 0.8 * len(damaged)
        file.write_bytes(b"PK")
        assert content(lib.sources.open_source(shards, cache)) == expected
        assert file.read_bytes() == whole
        assert builds == [3, 3]

    def test_no_pickle(self, lib, shards, cache, builds):
        lib.sources.open_source(shards, cache)
        (file,) = cache.glob("*.npz")
        with np.load(file) as arrays:
            np.savez(file, **{**arrays, "keys": np.array([print], object)}, allow_pickle=True)
        lib.sources.open_source(shards, cache)
        assert builds == [3, 3]

    def test_the_cache_is_no_folder(self, lib, shards, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(
            InputError, match=r"x': expected a folder for the index of the shards, got 'Not a directory'"
        ):
            lib.sources.open_source(shards, tmp_path / "file" / "x")

    def test_no_space(self, lib, shards, cache, monkeypatch, capsys):
        """The run goes on with the index that it has."""
        expected = content(lib.sources.open_source(shards))

        def fail(*args, **arrays):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "savez", fail)
        assert content(lib.sources.open_source(shards, cache)) == expected
        assert "was not kept" in (said := capsys.readouterr().err)
        assert said.endswith(".npz: No space left on device.\n")
        assert list(cache.glob("*.npz")) == []

    def test_without_locks(self, lib, shards, cache, monkeypatch, builds):
        """As on some network file systems."""

        def fail(self, *args, **options):
            raise NotImplementedError("FileSystem does not appear to support flock")

        monkeypatch.setattr(lib.shard_index.FileLock, "acquire", fail)
        for _ in range(2):
            assert len(lib.sources.open_source(shards, cache)) == COUNT
        assert builds == [3]

    def test_two_at_once(self, shards, cache):
        """Both get the index, and one file is left."""
        context = multiprocessing.get_context("fork")
        barrier, results = context.Barrier(2), context.SimpleQueue()
        arguments = ("", str(shards), str(cache), barrier, results)
        processes = [context.Process(target=open_and_wait, args=arguments) for _ in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0]
        assert [results.get(), results.get()] == [COUNT, COUNT]
        assert len(list(cache.glob("*.npz"))) == 1
        assert {path.suffix for path in cache.iterdir()} <= {".npz", ".lock"}

    def test_the_index_is_small(self, lib, shards):
        source = lib.sources.open_source(shards)
        assert all(isinstance(array, np.ndarray) for array in source._index)
        per_image = sum(array.nbytes for array in source._index) / COUNT
        assert per_image < 36 + 130 / COUNT + 12

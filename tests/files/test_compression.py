# SPDX-License-Identifier: MIT
"""Graph files compressed by gzip: round trips, damage, and files that decompress to far more than their size."""

from __future__ import annotations

import bz2
import gzip
import lzma
import re
import shutil
import subprocess
import tracemalloc

import pytest

import freewire as fw
from freewire.files import compression
from tests.support.files import again, edge_list
from tests.support.graphs import CASES, assert_same_graph
from tests.support.messages import assert_refused

SUFFIXES = (".csv.gz", ".graphml.gz", ".json.gz")


def assert_damaged(path, why):
    assert_refused(
        lambda: fw.read_graph(path),
        rf".*{path.name}: expected a whole gzip file, got one that cannot be decompressed \({why}",
        fw.FileFormatError,
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
class TestRoundTrip:
    """Written, then read."""

    @pytest.mark.parametrize("ending", [str.lower, str.upper], ids=["lower", "upper"])
    def test_is_compressed(self, suffix, ending, tmp_path):
        g = edge_list(CASES["random"])
        path = tmp_path / f"g{ending(suffix)}"
        assert_same_graph(again(g, path), g)
        fw.write_graph(g, path.with_suffix(""))
        assert gzip.decompress(path.read_bytes()) == path.with_suffix("").read_bytes()

    def test_bytes_repeat(self, suffix, tmp_path, monkeypatch):
        for k, name in enumerate("ab"):
            monkeypatch.setattr(gzip.time, "time", lambda k=k: 1e9 * (k + 1))
            fw.write_graph(edge_list(CASES["random"]), tmp_path / f"{name}{suffix}")
        first, second = ((tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
        assert first == second
        assert first[3:8] == bytes(5)  # no name, no time

    @pytest.mark.skipif(shutil.which("gzip") is None, reason="needs the program gzip")
    def test_gzip_reads_it(self, suffix, tmp_path):
        fw.write_graph(edge_list(CASES["random"]), tmp_path / f"g{suffix}")
        subprocess.run(["gzip", "-t", tmp_path / f"g{suffix}"], check=True)

    def test_cut_short_anywhere(self, suffix, tmp_path):
        path = tmp_path / f"g{suffix}"
        fw.write_graph(edge_list(CASES["diamond"]), path)
        whole = path.read_bytes()
        for length in range(len(whole)):
            path.write_bytes(whole[:length])
            assert_damaged(path, "")


class TestDamage:
    """Files that gzip cannot read."""

    def test_several_members(self, tmp_path):
        path = tmp_path / "g.csv.gz"
        path.write_bytes(gzip.compress(b"1,2\n") + gzip.compress(b"2,4\n") + bytes(20))
        assert fw.read_graph(path).nodes == (1, 2, 4)

    def test_any_changed_byte(self, tmp_path):
        path = tmp_path / "g.csv.gz"
        fw.write_graph(edge_list(CASES["diamond"]), path)
        g, whole = fw.read_graph(path), path.read_bytes()
        for k in range(len(whole)):
            path.write_bytes(whole[:k] + bytes([whole[k] ^ 0x55]) + whole[k + 1 :])
            found = self.read_or_refuse(path)
            if isinstance(found, str):
                assert "expected a whole gzip file" in found
            else:
                assert 3 <= k < 10  # flags, time and system, which do not matter
                assert_same_graph(found, g)

    @staticmethod
    def read_or_refuse(path):
        """The graph, or the error's text."""
        try:
            return fw.read_graph(path)
        except fw.FileFormatError as error:
            return str(error)

    @pytest.mark.parametrize("content", [b"a,b\n", b"PK\x05\x06", b"\x1f\x8b", b""], ids=repr)
    def test_other_files(self, content, tmp_path):
        (tmp_path / "g.csv.gz").write_bytes(content)
        assert_damaged(tmp_path / "g.csv.gz", "")

    def test_something_after_it(self, tmp_path):
        (tmp_path / "g.csv.gz").write_bytes(gzip.compress(b"a,b\n") + b"rest")
        assert_damaged(tmp_path / "g.csv.gz", "Not a gzipped file")

    def test_damage_inside_names_the_file(self, tmp_path):
        (tmp_path / "g.csv.gz").write_bytes(gzip.compress(b"1,2\n3\n"))
        assert_refused(lambda: fw.read_graph(tmp_path / "g.csv.gz"), ".*g.csv.gz, line 2: ", fw.FileFormatError)

    @pytest.mark.parametrize("name", ["g.gz", "gz", ".gz", "g.txt.gz", "g.csv.gz.gz", "g.safetensors.gz", "g.csv.bz2"])
    def test_other_names(self, name, tmp_path):
        attempts = {", or .parquet, .feather, .npz": fw.read_graph, "": lambda p: fw.write_graph(CASES["diamond"], p)}
        for more, attempt in attempts.items():
            said = f"path: expected a name that ends in .graphml, .csv, .json, or one of these and .gz{more}, got "
            assert_refused(lambda: attempt(tmp_path / name), re.escape(said), fw.FileFormatError)  # noqa: B023


PROGRAMS = {
    "gzip": gzip.compress(b"0,1\n"),
    "bzip2": bz2.compress(b"0,1\n"),
    "xz": lzma.compress(b"0,1\n"),
    "zip": b"PK\x03\x04\x14\0",
    "zstd": b"\x28\xb5\x2f\xfd\x24",
}


class TestHidden:
    """Compressed data under a name that does not say so."""

    @pytest.mark.parametrize("suffix", [".csv", ".json", ".graphml"])
    @pytest.mark.parametrize("program", PROGRAMS)
    def test_under_a_plain_name(self, program, suffix, tmp_path):
        (tmp_path / f"g{suffix}").write_bytes(PROGRAMS[program])
        remedy = f"Name it g{suffix}.gz." if program == "gzip" else "Decompress it first"
        said = f".*g{suffix}: expected data that is not compressed, got data compressed with {program}. {remedy}"
        assert_refused(lambda: fw.read_graph(tmp_path / f"g{suffix}"), said, fw.FileFormatError)

    @pytest.mark.parametrize("program", PROGRAMS)
    def test_instead_of_gzip_or_inside_it(self, program, tmp_path):
        said = f".*g.csv.gz: expected a graph compressed once, with gzip, got data compressed with {program}. Decompres"
        for content in [gzip.compress(PROGRAMS[program]), *([] if program == "gzip" else [PROGRAMS[program]])]:
            (tmp_path / "g.csv.gz").write_bytes(content)
            assert_refused(lambda: fw.read_graph(tmp_path / "g.csv.gz"), said, fw.FileFormatError)

    def test_names_of_nodes_are_no_compression(self, tmp_path):
        (tmp_path / "g.csv").write_text("BZh9,PK,1\nPK,BZh1,2\n")
        assert fw.read_graph(tmp_path / "g.csv").nodes == ("BZh9", "PK", "BZh1")


class TestBombs:
    """Files that would fill the memory."""

    def test_a_bomb(self, tmp_path):
        path = tmp_path / "g.csv.gz"
        path.write_bytes(gzip.compress(b"a,b\n" * 50_000_000, 1, mtime=0))  # 200 MB from less than 1
        assert path.stat().st_size < 2 * 2**20
        assert_bounded(path, 8 * 2**20 + max(16 * 2**20, 100 * path.stat().st_size))

    def test_the_size_that_is_always_allowed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(compression, "ALWAYS_ALLOWED", 40_000)
        for count in (10_000, 10_001):  # from about 80 bytes
            (tmp_path / "g.csv.gz").write_bytes(gzip.compress(b"1,2\n" * count))
            if count == 10_000:
                assert fw.read_graph(tmp_path / "g.csv.gz").num_edges == count
            else:
                assert_bounded(tmp_path / "g.csv.gz", 10**6, "at most 40,000 bytes")

    def test_the_size_that_none_may_exceed(self, tmp_path, monkeypatch):
        monkeypatch.setattr(compression, "MAX_SIZE", 4_000)
        (tmp_path / "g.csv.gz").write_bytes(gzip.compress(b"1,2\n" * 1_000, 0))
        assert fw.read_graph(tmp_path / "g.csv.gz").num_edges == 1_000
        (tmp_path / "g.csv.gz").write_bytes(gzip.compress(b"1,2\n" * 1_001, 0))
        assert_bounded(tmp_path / "g.csv.gz", 10**6, "at most 4,000 bytes")

    def test_what_would_be_refused_is_not_written(self, tmp_path, monkeypatch):
        """Equal edges compress more than any others."""
        monkeypatch.setattr(compression, "ALWAYS_ALLOWED", 1000)
        g = fw.Graph.from_edges([0] * 20_000, [1] * 20_000)
        path = tmp_path / "g.csv.gz"
        said = r"graph: expected a gzip file that decompresses to at most [0-9,]+ bytes, as read_graph does, got 80,014"
        assert_refused(lambda: fw.write_graph(g, path), said)
        assert list(tmp_path.iterdir()) == []
        monkeypatch.setattr(compression, "ALWAYS_ALLOWED", 80_014)
        assert_same_graph(again(g, path), g)

    def test_graphs_compress_far_less(self, tmp_path):
        g = fw.generators.mlp([100, 100, 100])
        for suffix in SUFFIXES:
            fw.write_graph(g, tmp_path / f"g{suffix}")
            size = (tmp_path / f"g{suffix}").stat().st_size
            assert len(gzip.decompress((tmp_path / f"g{suffix}").read_bytes())) < compression.MAX_RATIO / 3 * size


def assert_bounded(path, memory, limit="at most [0-9,]+ bytes"):
    """Assert that a file is refused, and that reading it has not taken more than this memory."""
    tracemalloc.start()
    try:
        assert_refused(
            lambda: fw.read_graph(path),
            rf".*{path.name}: expected a file that decompresses to {limit}, got more\. .*gunzip",
            fw.FileFormatError,
        )
        assert tracemalloc.get_traced_memory()[1] < memory
    finally:
        tracemalloc.stop()

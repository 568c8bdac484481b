# SPDX-License-Identifier: MIT
"""Paths, suffixes, and the node names that a format can hold."""

from __future__ import annotations

import gzip
import math
import os
import re
import sys
from pathlib import Path

import pytest

import freewire as fw
from freewire.files import formats
from tests.support.files import again
from tests.support.graphs import CASES, assert_same_graph, renamed
from tests.support.messages import assert_refused
from tests.support.storage import limited_memory


class TestBorder:
    """Paths and types."""

    def test_read(self, tmp_path):
        Path(tmp_path, "g.txt").touch()
        assert_refused(
            lambda: fw.read_graph(tmp_path / "g.txt"), "path: expected a name that ends in", fw.FileFormatError
        )
        with pytest.raises(
            FileNotFoundError, match=r"path: expected a graph file, got .*g.csv', which is not a file\."
        ):
            fw.read_graph(tmp_path / "g.csv")

    @pytest.mark.parametrize(
        ("suffix", "remedy"),
        [
            (".json.bz2", "Of compressed files only gzip's are read: decompress it first."),
            (".XZ", "Of compressed files only gzip's are read: decompress it first."),
            (".tsv", "Rename it to .csv, whose cells tabs may separate too."),
            (".gml", "Let networkx read or write it, with Graph.from_networkx and Graph.to_networkx."),
            (".pkl", "Let networkx read or write it, with Graph.from_networkx and Graph.to_networkx."),
            (".pt", "Networks are in .safetensors, which fw.save and fw.load use."),
            (".svg", "Pictures are made by fw.plot and `python -m freewire plot`."),
            (".txt", "Rename it."),
        ],
    )
    def test_remedies_for_other_suffixes(self, suffix, remedy, tmp_path):
        for attempt in (fw.read_graph, lambda path: fw.write_graph(CASES["diamond"], path)):
            with pytest.raises(fw.FileFormatError, match=re.escape(remedy) + "$"):
                attempt(tmp_path / f"g{suffix}")

    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("t.csv", "source,target\n", "edge, got none. Write one on each line."),
            ("t.csv", "sep=;\nsource;target\n", "edge, got none. Write one on each line."),
            ("x.json", '{"directed": true, "nodes": [], "edges": []}', "node, got none. Add nodes."),
            ("x.graphml", '<graphml><graph edgedefault="directed"/></graphml>', "node, got none. Add nodes."),
        ],
    )
    def test_empty_graphs(self, name, content, said, tmp_path):
        (tmp_path / name).write_text(content)
        assert_refused(lambda: fw.read_graph(tmp_path / name), f".*{name}: expected at least one {said}")

    def test_a_lack_of_memory(self, tmp_path, monkeypatch):
        def fails(*_, **__):
            raise MemoryError

        (tmp_path / "g.csv").write_text("0,1\n")
        monkeypatch.setitem(formats.FORMATS, ".csv", formats.FORMATS[".csv"]._replace(read=fails))
        said = ".*g.csv: expected memory of up to 48 times the file's size, got less"
        assert_refused(lambda: fw.read_graph(tmp_path / "g.csv"), said, fw.OutOfMemoryError)
        (tmp_path / "g.csv.gz").write_bytes(gzip.compress(b"0,1\n"))
        monkeypatch.setattr(formats, "decompress", fails)
        said = ".*g.csv.gz: expected memory of up to 48 times the decompressed file's size, got less"
        assert_refused(lambda: fw.read_graph(tmp_path / "g.csv.gz"), said, fw.OutOfMemoryError)

    @pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
    @pytest.mark.parametrize("suffix", [".csv", ".json", ".graphml", ".csv.gz"])
    def test_a_file_that_does_not_fit_into_memory(self, suffix, tmp_path):
        path = tmp_path / f"g{suffix}"
        path.touch()
        os.truncate(path, 2**32)  # which takes no space on the disk
        with limited_memory(2**29):
            assert_refused(lambda: fw.read_graph(path), ".*: expected memory of up to 48 times", fw.OutOfMemoryError)

    def test_write(self, tmp_path):
        g = CASES["diamond"]
        assert_refused(
            lambda: fw.write_graph(g, tmp_path / "g"), "path: expected a name that ends in", fw.FileFormatError
        )
        with pytest.raises(FileNotFoundError, match="path: expected an existing folder, got "):
            fw.write_graph(g, tmp_path / "no" / "g.csv")
        assert_refused(
            lambda: fw.write_graph(g.to_networkx(), tmp_path / "g.csv"), "graph: expected a freewire Graph, got DiGraph"
        )

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            ((1, "x"), "node names: expected only strings or only integers in a text file, got 1 (int). Write .json"),
            ((True, "x"), "node names: expected only strings or only integers in a text file, got True (bool)."),
            (
                ("a", "b\t"),
                "node names: expected text without control characters and surrounding spaces in a text file, got 'b",
            ),
            (("a", "b\ud800"), "node names: expected text without control characters and surrounding spaces"),
            (("a", "b\uffff"), "node names: expected text without control characters and surrounding spaces"),
            (
                ("0", "1"),
                "node names: expected integers or at least one string that does not look like one, got only str",
            ),
            ((0, 2**63), "node names: expected integers of 64 bits in a text file, got 9223372036854775808."),
            ((0, -(2**63) - 1), "node names: expected integers of 64 bits in a text file, got -9223372036854775809."),
            (("", "b"), "node names: expected a name that is not empty, got ''. Write .json"),
            (("b", " "), "node names: expected text without control characters and surrounding spaces in a text file"),
            (
                ("a\nb", "b"),
                "node names: expected text without control characters and surrounding spaces in a text file",
            ),
            ((("a", ("b", 1)), 0.5), "node names: expected only strings or only integers in a text file, got ('a', ("),
        ],
        ids=str,
    )
    def test_text_cannot_hold_every_name(self, names, said, tmp_path):
        g = renamed(CASES["single_edge"], names)
        for ending in (".csv", ".graphml"):
            assert_refused(lambda ending=ending: fw.write_graph(g, tmp_path / f"g{ending}"), re.escape(said))
        assert_same_graph(again(g, tmp_path / "g.json"), g)

    @pytest.mark.parametrize(
        ("names", "said"),
        [
            ((0, frozenset()), "node name: expected str, int, float, bool or a tuple of them, got frozenset"),
            ((0, math.nan), "node names: expected names that are equal when read back, got nan"),
            ((0, 10**3500), "node names: expected numbers of at most 3,000 digits, got "),
            ((0, (1, math.nan)), "node names: expected names that are equal when read back, got "),
        ],
        ids=str,
    )
    def test_json_cannot_hold_every_name(self, names, said, tmp_path):
        assert_refused(lambda: fw.write_graph(renamed(CASES["single_edge"], names), tmp_path / "g.json"), said)
        assert list(tmp_path.iterdir()) == []

# SPDX-License-Identifier: MIT
"""Parquet and Feather: types of columns, row groups, damaged and hostile files, and pyarrow's absence."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import freewire as fw
from freewire.errors import BuildError
from tests.support.graphs import assert_same_graph
from tests.support.messages import assert_refused
from tests.support.native import ROOT
from tests.support.tables import ARROW, ID, edges, weights, write_table

ENDS = {"pre_root_id": [ID, ID + 1], "post_root_id": [ID + 2, ID + 2]}

arrow_suffixes = pytest.mark.parametrize("suffix", ARROW)


def read(path: Path, columns: Any, **options: Any) -> fw.Graph:
    return fw.read_graph(write_table(path, columns), **options)


@arrow_suffixes
class TestTypes:
    @pytest.mark.parametrize("kind", ["int64", "uint64"])
    def test_ids_are_exact(self, suffix, kind, tmp_path):
        """Neighbours that float64 would merge."""
        pre = [ID, ID + 1, 2**63 - 1, 2**63 - 2, 0]
        g = read(
            tmp_path / f"g{suffix}", {"pre_root_id": np.array(pre, kind), "post_root_id": np.array([3] * 5, np.int64)}
        )
        assert edges(g) == [(name, 3) for name in pre]
        assert g.nodes == (0, 3, ID, ID + 1, 2**63 - 2, 2**63 - 1)

    @pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint32", "int32"])
    def test_small_integers(self, suffix, kind, tmp_path):
        g = read(tmp_path / f"g{suffix}", {"u": np.array([0, 5, 2], kind), "v": np.array([5, 2, 7], "int64")})
        assert edges(g) == [(0, 5), (5, 2), (2, 7)]

    @pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
    def test_texts(self, suffix, kind, tmp_path):
        table = pa.table({"u": pa.array(["b", "a", "b"]).cast(kind), "v": pa.array(["c", "07", "a"], pa.string())})
        g = read(tmp_path / f"g{suffix}", table)
        assert edges(g) == [("b", "c"), ("a", "07"), ("b", "a")]
        assert g.nodes == ("b", "c", "a", "07")

    def test_texts_of_digits_stay_texts(self, suffix, tmp_path):
        assert read(tmp_path / f"g{suffix}", {"u": ["1"], "v": ["2"]}).nodes == ("1", "2")

    def test_categories_of_integers(self, suffix, tmp_path):
        column = pa.array([ID, ID + 1, ID], pa.int64()).dictionary_encode()
        g = read(tmp_path / f"g{suffix}", pa.table({"u": column, "v": [ID + 2] * 3}))
        assert edges(g) == [(ID, ID + 2), (ID + 1, ID + 2), (ID, ID + 2)]

    @pytest.mark.parametrize(
        ("values", "said"),
        [
            (
                np.array([1.0, 2.0]),
                "integers of 64 bits or text as source, got column 'u' of double. Write it as int64, s",
            ),
            (
                pa.array([1, 2**70], pa.decimal128(30, 0)),
                r"integers of 64 bits or text as source, got column 'u' of decimal128\(30, 0\). Write it as int64.",
            ),
            ([True, False], "integers of 64 bits or text as source, got column 'u' of bool"),
            ([[1], [2]], "integers of 64 bits or text as source, got column 'u' of list"),
            ([b"a", b"b"], "integers of 64 bits or text as source, got column 'u' of binary"),
            (["a", "b"], "columns of one type as source and target, got string and int64. Write both"),
        ],
    )
    def test_types_that_are_no_names(self, suffix, values, said, tmp_path):
        path = tmp_path / f"g{suffix}"
        columns = pa.table({"u": values, "v": [3, 3]})
        assert_refused(lambda: read(path, columns), f".*g{suffix}: expected {said}", fw.FileFormatError)

    @pytest.mark.parametrize(
        ("columns", "row", "said"),
        [
            ({"u": [1, None], "v": [3, 3]}, 1, "a node as source, got an empty cell"),
            ({"u": ["a", "b"], "v": ["c", ""]}, 1, "a name as target, got an empty text"),
            (
                {"u": np.array([0, 2**63], np.uint64), "v": [3, 3]},
                1,
                "ids below 2..63 as source, got 9223372036854775808",
            ),
            ({"u": [1, 2], "v": [3, 3], "weight": [0.5, float("nan")]}, 1, "a number as weight, got nan. Correct it"),
            ({"u": [1, 2], "v": [3, 3], "sign": [7, 1]}, 0, "-1, 0 or 1 as sign, got 7"),
            ({"u": [1, 2], "v": [3, 3], "frozen": [0, 2]}, 1, "true or false as frozen, got 2"),
        ],
    )
    def test_rows_are_named(self, suffix, columns, row, said, tmp_path):
        path = tmp_path / f"g{suffix}"
        assert_refused(lambda: read(path, columns), f".*g{suffix}, row {row}: expected {said}", fw.FileFormatError)

    @pytest.mark.parametrize(
        ("name", "values"),
        [("weight", ["1", "2"]), ("weight", [True, False]), ("sign", ["+", "-"]), ("frozen", [0.0, 1.0])],
    )
    def test_types_that_are_no_values(self, suffix, name, values, tmp_path):
        path = tmp_path / f"g{suffix}"
        said = f".*g{suffix}: expected .* as {name}, got column '{name}' of "
        assert_refused(lambda: read(path, {"u": [1, 2], "v": [3, 3], name: values}), said, fw.FileFormatError)

    @pytest.mark.parametrize("kind", ["float32", "float64", "int16", "uint64"])
    def test_fields(self, suffix, kind, tmp_path):
        columns = {
            **ENDS,
            "weight": pa.array([3, None], kind),
            "sign": pa.array([None, -1], pa.int8()),
            "frozen": [True, None],
        }
        g = read(tmp_path / f"g{suffix}", columns)
        np.testing.assert_array_equal(weights(g), [3, np.nan])
        assert g.sign.tolist() == [0, -1]
        assert g.frozen.tolist() == [True, False]

    def test_columns_that_are_not_read_may_be_anything(self, suffix, tmp_path):
        columns = {**ENDS, "counts": [[1], [2]], "place": [{"x": 1}, {"x": 2}], "syn_count": [1, 2]}
        assert weights(read(tmp_path / f"g{suffix}", columns)) == [1, 2]

    def test_a_name_with_a_dot(self, suffix, tmp_path):
        columns = {"pre.root.id": [1], "post.root.id": [2], "pre": ["x"], "syn.count": [7]}
        g = read(tmp_path / f"g{suffix}", columns)
        assert (edges(g), weights(g)) == ([(1, 2)], [7])


class TestParts:
    """Row groups and record batches, each with new names, share one numbering."""

    @pytest.mark.parametrize("texts", [False, True])
    def test_groups(self, texts, tmp_path):
        numbers = np.random.default_rng(0).integers(0, 400, (2, 1000))
        pre, post = numbers.min(0), numbers.max(0) + 1
        columns = {"u": pre, "v": post, "weight": np.arange(1000.0)}
        if texts:
            columns |= {name: [f"n{k}" for k in columns[name]] for name in "uv"}
        wanted = fw.read_graph(write_table(tmp_path / "g.csv", columns))
        assert edges(wanted) == list(zip(*(np.asarray(columns[name]).tolist() for name in "uv"), strict=True))
        assert_same_graph(read(tmp_path / "one.parquet", columns), wanted)
        assert_same_graph(fw.read_graph(write_table(tmp_path / "g.parquet", columns, row_group_size=7)), wanted)
        assert_same_graph(fw.read_graph(write_table(tmp_path / "g.feather", columns, chunksize=7)), wanted)
        for compression in ("zstd", "uncompressed"):
            path = write_table(tmp_path / "g.feather", columns, compression=compression)
            assert_same_graph(fw.read_graph(path), wanted)

    def test_pandas_index_is_no_weight(self, tmp_path):
        columns = {**ENDS, "__index_level_0__": [5, 6]}
        assert read(tmp_path / "g.parquet", columns).weight is None


class TestFiles:
    """What is not a table."""

    @arrow_suffixes
    @pytest.mark.parametrize("content", [b"", b"a,b\n", b"PAR1", b"ARROW1", b"PAR1" * 10, b"ARROW1\0\0" + b"\xff" * 99])
    def test_other_contents(self, suffix, content, tmp_path):
        (tmp_path / f"g{suffix}").write_bytes(content)
        said = f".*g{suffix}: expected (a whole )?(Parquet|Feather)"
        assert_refused(lambda: fw.read_graph(tmp_path / f"g{suffix}"), said, fw.FileFormatError)

    @arrow_suffixes
    def test_damage(self, suffix, tmp_path):
        """Cut anywhere, or with bytes changed, a file is refused or read; nothing else happens."""
        path = write_table(tmp_path / f"g{suffix}", {**ENDS, "type": ["x", "y"], "syn_count": [1, 2]})
        content = path.read_bytes()
        for end in range(0, len(content), 37):
            path.write_bytes(content[:end])
            assert_refused(lambda: fw.read_graph(path), f".*g{suffix}: expected ", fw.FileFormatError)
        draws = np.random.default_rng(0)
        for _ in range(200):
            damaged = bytearray(content)
            damaged[draws.integers(len(content))] = draws.integers(256)
            path.write_bytes(damaged)
            with contextlib.suppress(fw.FileFormatError, fw.GraphError, fw.OutOfMemoryError):
                fw.read_graph(path)

    def test_the_other_format(self, tmp_path):
        path = write_table(tmp_path / "g.parquet", ENDS).rename(tmp_path / "g.feather")
        assert_refused(lambda: fw.read_graph(path), ".*: expected Feather, got Parquet. Rename it", fw.FileFormatError)

    def test_very_many_rows_in_few_bytes(self, tmp_path):
        zeros = pa.array(np.zeros(3_000_000, np.int64))
        path = write_table(tmp_path / "g.parquet", pa.table({"u": zeros, "v": zeros}))
        said = ".*g.parquet: expected at most 1,048,576 rows in .* bytes, got 3,000,000"
        assert_refused(lambda: fw.read_graph(path), said, fw.FileFormatError)

    @pytest.mark.parametrize("name", ["g.parquet.gz", "g.feather.gz", "g.npz.gz"])
    def test_compressed(self, name, tmp_path):
        said = r"path: expected a name that ends in .*\. Decompress it first: only \.[a-z]+ is read"
        assert_refused(lambda: fw.read_graph(tmp_path / name), said, fw.FileFormatError)

    @pytest.mark.parametrize("suffix", [*ARROW, ".npz"])
    def test_they_are_not_written(self, suffix, tmp_path):
        said = "path: expected a name that ends in .graphml, .csv, .json, or one of these and .gz, got .* Choose one of"
        g = fw.Graph.from_edges([0], [1])
        assert_refused(lambda: fw.write_graph(g, tmp_path / f"g{suffix}"), said, fw.FileFormatError)
        assert list(tmp_path.iterdir()) == []


@arrow_suffixes
def test_without_pyarrow(suffix, tmp_path, monkeypatch):
    path = write_table(tmp_path / f"g{suffix}", ENDS)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    said = "pyarrow: expected it to be installed, .* got no such package. Run: pip install 'freewire.tables.'"
    assert_refused(lambda: fw.read_graph(path), said, BuildError)
    (tmp_path / "g.csv").write_text("source,target\na,b\n")
    assert fw.read_graph(tmp_path / "g.csv").nodes == ("a", "b")


def test_pyarrow_is_imported_where_it_is_needed():
    program = "import sys, freewire; print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "False\n", done.stderr


def test_doubled_names(tmp_path):
    pa.parquet.write_table(pa.table([[0, 1], [2, 3], [0.5, 1.5]], names=["id", "id", "weight"]), tmp_path / "g.parquet")
    for options in ({}, {"source": 0, "target": 1}):
        with pytest.raises(fw.FileFormatError, match="expected columns of different names, got 'id' twice"):
            fw.read_graph(tmp_path / "g.parquet", **options)


def test_doubled_ends_of_text(tmp_path):
    (tmp_path / "g.csv").write_text("id,id\n0,1\n")
    with pytest.raises(fw.FileFormatError, match="expected two columns of different names as the ends of an edge"):
        fw.read_graph(tmp_path / "g.csv")

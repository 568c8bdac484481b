# SPDX-License-Identifier: MIT
"""Adjacency matrices as scipy saves them, and files that only look like that."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import freewire as fw
from tests.support.graphs import assert_same_graph
from tests.support.messages import assert_refused

FORMATS = ("csr", "csc", "coo", "bsr")


def matrix(size: int = 12) -> Any:
    draws = np.random.default_rng(0)
    return sp.triu(sp.coo_matrix(draws.normal(size=(size, size)) * (draws.random((size, size)) < 0.4)), 1)


def saved(path: Path, **arrays: Any) -> Path:
    """A file of a csr matrix, some of whose arrays are others; None: it is absent."""
    A = sp.csr_matrix([[0, 2, 3], [0, 0, 4], [0, 0, 0]])
    found = {"format": b"csr", "shape": A.shape, "data": A.data, "indices": A.indices, "indptr": A.indptr, **arrays}
    np.savez(path, **{name: value for name, value in found.items() if value is not None})
    return path


class TestRead:
    @pytest.mark.parametrize("name", FORMATS)
    @pytest.mark.parametrize("kind", [sp.coo_matrix, sp.coo_array])
    @pytest.mark.parametrize("compressed", [True, False])
    def test_formats(self, name, kind, compressed, tmp_path):
        A = kind(matrix()).asformat(name)
        sp.save_npz(tmp_path / "a.npz", A, compressed=compressed)
        assert_same_graph(fw.read_graph(tmp_path / "a.npz"), fw.Graph.from_adjacency(A))

    def test_blocks_that_are_no_squares(self, tmp_path):
        A = sp.bsr_matrix(matrix().toarray(), blocksize=(2, 3))
        sp.save_npz(tmp_path / "a.npz", A)
        assert_same_graph(fw.read_graph(tmp_path / "a.npz"), fw.Graph.from_adjacency(A))

    @pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint32, np.float32])
    def test_types(self, dtype, tmp_path):
        A = sp.csr_matrix((matrix() > 0).astype(dtype))
        sp.save_npz(tmp_path / "a.npz", A)
        g = fw.read_graph(tmp_path / "a.npz", activation="tanh")
        assert_same_graph(g, fw.Graph.from_adjacency(A, activation="tanh"))

    def test_repeated_entries_are_summed_and_zeros_dropped(self, tmp_path):
        A = sp.coo_matrix(([1.0, 2, 5, -5, 0], ([0, 0, 0, 0, 1], [1, 1, 2, 2, 2])), (3, 3))
        sp.save_npz(tmp_path / "a.npz", A)
        g = fw.read_graph(tmp_path / "a.npz")
        assert (g.edge_index.tolist(), g.weight.tolist()) == ([[0], [1]], [3])
        assert g.num_nodes == 3
        assert_same_graph(g, fw.Graph.from_adjacency(A))

    def test_coordinates_in_one_array(self, tmp_path):
        path = saved(tmp_path / "a.npz", format="coo", coords=np.array([[0, 1], [2, 2]]), data=np.array([1, 2]))
        assert fw.read_graph(path).edge_index.tolist() == [[0, 1], [2, 2]]

    def test_names(self, tmp_path):
        path = saved(tmp_path / "a.npz")
        g = fw.read_graph(path, nodes=["x", "y", "z"], inputs=["x"], outputs=["z", "y"])
        assert (g.nodes, g.inputs, g.outputs) == (("x", "y", "z"), ("x",), ("z", "y"))
        (tmp_path / "names.csv").write_text("root_id,bias\n720575940596125868,\n7,0.5\n9,\n")
        g = fw.read_graph(path, nodes=tmp_path / "names.csv")
        assert g.nodes == (720575940596125868, 7, 9)
        np.testing.assert_array_equal(g.bias, [np.nan, 0.5, np.nan])
        said = ".*a.npz: expected 3 nodes, one per row of the matrix, got 2 of nodes=. List each"
        assert_refused(lambda: fw.read_graph(path, nodes=["x", "y"]), said)


class TestRefused:
    @pytest.mark.parametrize(
        ("arrays", "said"),
        [
            ({"format": "dia"}, "a sparse format among csr, csc, coo, bsr, got 'dia'. Convert it with .tocsr"),
            ({"format": "lil"}, "a sparse format among csr, csc, coo, bsr, got 'lil'"),
            ({"format": None}, "arrays format, shape and data, got arrays 'data', 'indices', 'indptr', 'shape'. Write"),
            ({"indptr": None}, "arrays indptr, indices in format csr, got no indptr"),
            ({"format": "coo"}, "arrays row, col in format coo, got no row"),
            ({"indices": [1, 2, 3]}, "numbers from 0 to 2 as indices, got 3"),
            ({"indices": [1, 2, -1]}, "numbers from 0 to 2 as indices, got -1"),
            ({"indices": [1.0, 2, 2]}, r"integers as indices, got float64 of shape \[3\]"),
            ({"indices": [1, 2]}, r"arrays of one length, got indices \[2\], data \[3\]"),
            ({"indptr": [0, 2, 1, 3]}, "4 rising numbers from 0 to 3 as indptr, got others"),
            ({"indptr": [0, 2, 3]}, "4 rising numbers from 0 to 3 as indptr, got others"),
            ({"indptr": [1, 2, 3, 3]}, "4 rising numbers from 0 to 3 as indptr, got others"),
            ({"indptr": [0, 2, 2, 2]}, "4 rising numbers from 0 to 3 as indptr, got others"),
            ({"data": [1j, 2, 3]}, "numbers as data, got complex128"),
            ({"data": ["a", "b", "c"]}, "numbers as data, got <U1"),
            ({"format": "bsr"}, r"blocks \[R, C\] that divide the matrix as data, got shape \[3\]"),
            (
                {"format": "bsr", "data": np.ones((3, 2, 2))},
                r"blocks \[R, C\] that divide the matrix as data, got shape",
            ),
        ],
    )
    def test_arrays(self, arrays, said, tmp_path):
        path = saved(tmp_path / "a.npz", **arrays)
        assert_refused(lambda: fw.read_graph(path), f".*a.npz: expected {said}", fw.FileFormatError)

    @pytest.mark.parametrize(
        ("arrays", "said"),
        [
            ({"shape": [3, 4]}, r"a square matrix \[N, N\], got shape \[3, 4\]"),
            ({"shape": [3]}, r"a square matrix \[N, N\], got shape \[3\]"),
            ({"shape": [-1, -1]}, r"a square matrix \[N, N\], got shape \[-1, -1\]"),
            ({"shape": [2**40, 2**40]}, r"a square matrix \[N, N\], got shape"),
            ({"data": [1, np.nan, 2]}, r"numbers as weights, got nan at \[0, 2\]"),
            ({"indices": [1, 2, 0]}, None),
        ],
    )
    def test_matrices(self, arrays, said, tmp_path):
        path = saved(tmp_path / "a.npz", **arrays)
        expected = "graph: expected no cycle" if said is None else f".*a.npz: expected {said}"
        assert_refused(lambda: fw.read_graph(path), expected)

    def test_no_nodes(self, tmp_path):
        sp.save_npz(tmp_path / "a.npz", sp.csr_matrix((0, 0)))
        assert_refused(lambda: fw.read_graph(tmp_path / "a.npz"), ".*a.npz: expected at least one node, got none")

    @pytest.mark.parametrize("content", [b"", b"a,b\n", b"PK\x03\x04", b"PK\x05\x06" + bytes(18), pickle.dumps([1])])
    def test_other_contents(self, content, tmp_path):
        (tmp_path / "a.npz").write_bytes(content)
        assert_refused(lambda: fw.read_graph(tmp_path / "a.npz"), ".*a.npz: expected ", fw.FileFormatError)

    def test_pickles_are_not_read(self, tmp_path):
        """Where an array holds objects, reading it would run the file's code."""
        ran = []

        class Bomb:
            def __reduce__(self) -> Any:
                return (ran.append, (1,))

        path = saved(tmp_path / "a.npz", data=np.array([Bomb()] * 3, object))
        said = ".*a.npz: expected a whole .npz file, got one that numpy cannot read .Object arrays"
        assert_refused(lambda: fw.read_graph(path), said, fw.FileFormatError)
        assert ran == []

    def test_a_bomb(self, tmp_path):
        path = tmp_path / "a.npz"
        np.savez_compressed(path, format=b"csr", shape=(3, 3), data=np.zeros(5_000_000), indices=[], indptr=[])
        said = ".*a.npz: expected a file that decompresses to at most 16,777,216 bytes, got 40,"
        assert_refused(lambda: fw.read_graph(path), said, fw.FileFormatError)

    def test_damage(self, tmp_path):
        path = saved(tmp_path / "a.npz")
        content = path.read_bytes()
        for end in range(0, len(content), 50):
            path.write_bytes(content[:end])
            assert_refused(lambda: fw.read_graph(path), ".*a.npz: expected ", fw.FileFormatError)
        draws = np.random.default_rng(0)
        refused = 0
        for _ in range(300):
            damaged = bytearray(content)
            damaged[draws.integers(len(content))] = draws.integers(256)
            path.write_bytes(damaged)
            try:
                fw.read_graph(path)
            except (fw.FileFormatError, fw.GraphError):
                refused += 1
        assert refused > 100

    def test_an_array_that_says_it_is_large(self, tmp_path):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**13,)})
        with zipfile.ZipFile(saved(tmp_path / "a.npz", data=None), "a") as archive:
            archive.writestr("data.npy", header.getvalue())
        with pytest.raises((fw.FileFormatError, fw.OutOfMemoryError), match=r".*a.npz: expected "):
            fw.read_graph(tmp_path / "a.npz")

    @pytest.mark.parametrize("option", ["source", "target", "header", "weight", "sign"])
    def test_a_matrix_has_no_columns(self, option, tmp_path):
        said = f"{option}: expected None for .npz, got 1. It is for .csv"
        assert_refused(lambda: fw.read_graph(saved(tmp_path / "a.npz"), **{option: 1}), said)

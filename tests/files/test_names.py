# SPDX-License-Identifier: MIT
"""Names that a file chooses: found as a dict finds them, in linear time even if they were chosen to collide."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import freewire as fw
from freewire.files.names import MAX_COLLISIONS, NameIndex, check_hashes, repeated
from tests.support.graphs import renamed
from tests.support.messages import assert_refused

#: Multiples of it have the hash 0.
PRIME = 2**61 - 1
NAMES = st.recursive(
    st.sampled_from((0, 1, -1, -2, 1.0, 0.5, True, False, "", "1", "(1)", "0x1", ",", -0.0, 2.0**70, 2**70, math.inf))
    | st.text(max_size=3)
    | st.floats(allow_nan=False)
    | st.integers(),
    lambda part: st.lists(part, max_size=3).map(tuple),
    max_leaves=6,
)


class TestNameIndex:
    @given(st.lists(NAMES, max_size=20))
    def test_as_a_dict(self, names):
        index, expected = NameIndex(), {}
        for name in names:
            assert index.add(name) == (name not in expected)
            expected.setdefault(name, len(expected))
        assert [index[name] for name in names] == [expected[name] for name in names]
        assert (repeated(names) is None) == (len(expected) == len(names))

    def test_numpys_numbers_and_what_no_file_holds(self):
        index = NameIndex()
        for name in (3, "3", (), ("",), 0.5, True):
            assert index.add(name)
        assert index[np.int64(3)] == 0
        assert index[np.float32(0.5)] == 4
        assert index[np.bool_(True)] == 5
        for name in (None, (None,), frozenset(), b"3", 4, (3,)):
            assert name not in index

    def test_the_first_repeated_name(self):
        assert repeated(["a", "b", 1, "b", True]) == "b"
        assert repeated([1, "1", (1,), 2, 1.0]) == 1.0


class TestHashes:
    def test_many_of_one_hash_are_refused(self):
        names = [k * PRIME for k in range(MAX_COLLISIONS)]
        check_hashes([*names, *range(1, 5000), *map(str, range(5000))])
        check_hashes([])
        for more in (-PRIME, (1,), 0.5):
            if hash(more) == 0:
                with pytest.raises(fw.GraphError, match="got more than 100 of one hash value"):
                    check_hashes([*names, more])
            else:
                check_hashes([*names, more])

    def test_they_are_not_written(self, tmp_path):
        names = [k * PRIME for k in range(MAX_COLLISIONS + 1)]
        g = renamed(fw.Graph.from_edges([0], [1], num_nodes=len(names)), names)
        said = "node names: expected names that dictionaries tell apart, got more than 100 of one hash value"
        assert_refused(lambda: fw.write_graph(g, tmp_path / "g.json"), said)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        "make", [int, float, lambda k: [k], lambda k: ["x", [k]]], ids=["int", "float", "list", "nested"]
    )
    def test_colliding_names_take_no_time(self, make, tmp_path):
        """They took 19 s. Floats cannot collide like this: there are not enough of them."""
        names = [make(k * PRIME) for k in range(20_000)]
        names = list({json.dumps(name): name for name in names}.values())
        document = {"directed": True, "nodes": [{"id": name} for name in names], "edges": []}
        (tmp_path / "g.json").write_text(json.dumps(document))
        begin = time.perf_counter()
        if make is float:
            assert fw.read_graph(tmp_path / "g.json").num_nodes == len(names)
        else:
            said = ".*g.json: expected names that dictionaries tell apart, got more than 100 of one"
            assert_refused(lambda: fw.read_graph(tmp_path / "g.json"), said, fw.FileFormatError)
        assert time.perf_counter() - begin < 4

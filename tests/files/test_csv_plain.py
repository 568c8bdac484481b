# SPDX-License-Identifier: MIT
"""The fast way through plain CSV files makes the same graphs and errors as the other one, and is taken where it may."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import freewire as fw
from freewire.files import csv_format, csv_plain
from tests.support.files import read_text
from tests.support.graphs import assert_same_graph
from tests.support.tables import ID

CALLS: list[bool] = []


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files take the fast way too, some lines at a time; `CALLS` says which did."""
    monkeypatch.setattr(csv_plain, "_BLOCK", 256)
    monkeypatch.setattr(csv_plain, "LEAST", 0)

    def counted(*arguments: Any) -> Any:
        found = csv_plain.read_plain(*arguments)
        CALLS.append(found is not None)
        return found

    monkeypatch.setattr(csv_format, "read_plain", counted)
    CALLS.clear()


def outcome(path: Path, content: str | bytes, least: int, **options: Any) -> fw.Graph | str:
    csv_plain.LEAST = least
    try:
        return read_text(path, content, **options)
    except (fw.GraphError, fw.FileFormatError) as error:
        return f"{type(error).__name__}: {error}"


def assert_both_agree(path: Path, content: str | bytes, **options: Any) -> None:
    fast, slow = (outcome(path, content, least, **options) for least in (0, 2**60))
    if isinstance(slow, str) or isinstance(fast, str):
        assert fast == slow
    else:
        assert_same_graph(fast, slow)
        assert [*map(type, fast.nodes)] == [*map(type, slow.nodes)]


ROWS = "\n".join(f"{ID + k},{ID + k + 1},{k % 7}.25" for k in range(100))
#: What takes the fast way.
PLAIN = {
    "ids and weights": f"pre_root_id,post_root_id,syn_count\n{ROWS}\n",
    "no last line break": f"pre_root_id,post_root_id,syn_count\n{ROWS}",
    "Windows": f"pre_root_id,post_root_id,syn_count\n{ROWS}\n".replace("\n", "\r\n"),
    "quotes in the header": f'"pre_root_id","post_root_id","syn_count"\n{ROWS}\n',
    "no header": ROWS,
    "a byte order mark": f"\ufeff{ROWS}",
    "a byte order mark and a header": f"\ufeffsource,target,weight\n{ROWS}",
    "comments": f"# of us\n#source,target,weight\n{ROWS}",
    "a separator": "sep=;\nsource;target\n0;1\n1;2\n",
    "tabs": "source\ttarget\n0\t1\n1\t2\n",
    "empty lines": "source,target\n\n0,1\n\n\n1,2\n\n",
    "gaps": "source,target,weight,sign\n0,1,,1\n1,2,3,\n1,3,-2.5e3,-1.0\n",
    "texts beside": f"neuropil,pre_root_id,post_root_id,nt\nA B,{ID},{ID + 1},x y\nC#,{ID},{ID + 2},'\n",
    "parallel": "u,v\n3,9\n3,9\n-5,3\n",
}
#: What does not, and is read or refused by the other.
OTHERS = {
    "quotes": 'u,v\n"1",2\n',
    "texts": "source,target\na,b\n",
    "zeros in front": "u,v\n07,1\n7,1\n",
    "a sign in front": "u,v\n+7,1\n",
    "spaces": "u,v\n 7,1\n7,2\n",
    "a large number": f"u,v\n{2**63},1\n",
    "a large id": f"pre_root_id,post_root_id\n{2**63},1\n",
    "an empty end": "u,v\n1,2\n1,\n",
    "no number": "u,v,weight\n1,2,x\n",
    "NaN": "u,v,weight\n1,2,nan\n",
    "beyond float64": "u,v,weight\n1,2,1e999\n",
    "infinite": "u,v,weight\n1,2,-inf\n",
    "no sign": "u,v,sign\n1,2,2\n",
    "flags": "u,v,frozen\n1,2,true\n",
    "types": "u,v,type\n1,2,Undirected\n",
    "a comment": "u,v\n1,2\n#3,4\n",
    "too few cells": "u,v,w:\n1,2,x\n1,2\n",
    "too many cells": "u,v\n1,2\n1,2,3\n",
    "other bytes": b"u,v,t\n1,2,\xc3\xa9\n",
    "no text": b"u,v,t\n" + b"1,2,x\n" * 5000 + b"1,2,\xff\n",
    "a null character": "u,v,t\n1,2,\0\n",
    "old line breaks": "u,v\n1,2\r3,4\n",
    "a long cell": f"u,v,t\n1,2,{'x' * 200_000}\n",
    "a long row": "u,v,t,s\n1,2," + "x" * 130_000 + "," + "x" * 140_000 + "\n",
    "no rows": "source,target\n",
    "a line break in the header": 'source,target,"a\nb"\n1,2,x\n',
}


@pytest.mark.parametrize("case", PLAIN)
def test_plain_files(case, tmp_path):
    assert_both_agree(tmp_path / "g.csv", PLAIN[case])
    assert CALLS == [True, False]


@pytest.mark.parametrize("case", OTHERS)
def test_other_files(case, tmp_path):
    assert_both_agree(tmp_path / "g.csv", OTHERS[case])
    assert CALLS == [False, False]


def test_the_sign_of_the_weight(tmp_path):
    options = {"weight": "w", "sign": "w", "nodes": [0, 9, 1, 2]}
    assert_both_agree(tmp_path / "g.csv", "u,v,w\n0,1,-2\n0,2,\n", **options)
    assert CALLS == [True, False]


@pytest.mark.parametrize("kind", ["float", "integer"])
def test_numbers_are_the_same_to_the_last_bit(kind, tmp_path):
    draws = np.random.default_rng(0)
    bits = draws.integers(0, 2**64, 2000, np.uint64, endpoint=False)
    numbers = bits.view(np.float64)[np.isfinite(bits.view(np.float64))] if kind == "float" else bits
    rows = "\n".join(f"{k},{k + 1},{number!r}" for k, number in enumerate(numbers.tolist()))
    assert_both_agree(tmp_path / "g.csv", f"u,v,weight\n{rows}\n")
    assert CALLS == [True, False]


def test_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert read_text(tmp_path / "g.csv", PLAIN["ids and weights"]).num_edges == 100
    assert CALLS == [False]


_ENDS = st.sampled_from(
    ["0", "1", "2", "3", "4", "-1", str(ID), "07", "+7", "-0", " 5", "6\t", "", "x", '"7"', str(2**63)]
)
_NUMBERS = st.sampled_from(
    [
        "1",
        "1.5",
        "-2",
        "1e3",
        "1E-3",
        "+1",
        "-0",
        ".5",
        "5.",
        "",
        " 2",
        "nan",
        "inf",
        "1e999",
        "1e-400",
        "1_0",
        "0x1",
        "x",
    ]
)
_ROWS = st.lists(st.tuples(_ENDS, _ENDS, _NUMBERS, st.sampled_from(["1", "-1", "0", "", "1.0", "2"])), max_size=6)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(
    _ROWS, st.sampled_from(["pre_root_id,post_root_id,weight,sign\n", "source,target,weight,sign\n", "x,y,n,sign\n"])
)
def test_any_cells(tmp_path, rows, header):
    """Some plain rows come first, so that it is not always the first that decides."""
    plain = [("0", "9", "1", "1"), ("9", "10", "2.5", "")]
    text = header + "".join(",".join(row) + "\n" for row in [*plain, *rows])
    assert_both_agree(tmp_path / "g.csv", text, weight=2)

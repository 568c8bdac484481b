# SPDX-License-Identifier: MIT
"""What a graph may hold does not depend on the format: all refuse the same contents, as `Graph.from_networkx` does."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from xml.sax.saxutils import quoteattr

import networkx as nx
import pytest

import freewire as fw
from tests.support.files import read_text
from tests.support.graphs import assert_same_graph
from tests.support.messages import assert_refused

TYPES = {bool: "boolean", int: "long", float: "double", str: "string"}


class Contents(NamedTuple):
    """The nodes and edges of one graph, of any values, and the arguments it is read with."""

    edges: list[tuple[Any, Any, dict[str, Any]]]
    nodes: Mapping[Any, dict[str, Any]] = MappingProxyType({})
    options: Mapping[str, Any] = MappingProxyType({})

    def all_nodes(self) -> dict[Any, dict[str, Any]]:
        return {
            name: self.nodes.get(name, {}) for name in dict.fromkeys(end for u, v, _ in self.edges for end in (u, v))
        }


def by_networkx(contents: Contents, _: Path) -> fw.Graph:
    G = nx.DiGraph()
    G.add_nodes_from(contents.all_nodes().items())
    G.add_edges_from(contents.edges)
    return fw.Graph.from_networkx(G, **contents.options)


def by_json(contents: Contents, folder: Path) -> fw.Graph:
    nodes = [{"id": name, **data} for name, data in contents.all_nodes().items()]
    edges = [{"source": u, "target": v, **data} for u, v, data in contents.edges]
    text = json.dumps({"directed": True, "nodes": nodes, "edges": edges})
    return read_text(folder / "g.json", text, **contents.options)


def by_graphml(contents: Contents, folder: Path) -> fw.Graph:
    keys: dict[tuple[str, str], str] = {}

    def data(kind: str, values: dict[str, Any]) -> str:
        for name, value in values.items():
            keys[kind, name] = TYPES[type(value)]
        found = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}
        return "".join(f'<data key="{kind} {name}">{value}</data>' for name, value in found.items())

    body = [f"<node id={quoteattr(str(name))}>{data('node', v)}</node>" for name, v in contents.all_nodes().items()]
    for u, v, values in contents.edges:
        body.append(f"<edge source={quoteattr(str(u))} target={quoteattr(str(v))}>{data('edge', values)}</edge>")
    head = [
        f'<key id="{kind} {name}" for="{kind}" attr.name="{name}" attr.type="{written}"/>'
        for (kind, name), written in keys.items()
    ]
    text = "".join(["<graphml>", *head, '<graph edgedefault="directed">', *body, "</graph></graphml>"])
    return read_text(folder / "g.graphml", text, **contents.options)


def by_csv(contents: Contents, folder: Path) -> fw.Graph:
    fields = list(dict.fromkeys(name for *_, data in contents.edges for name in data))
    writer = csv.writer(text := io.StringIO())
    writer.writerow(["source", "target", *fields])
    for u, v, data in contents.edges:
        writer.writerow([u, v, *(data.get(name, "") for name in fields)])
    return read_text(folder / "g.csv", text.getvalue(), **contents.options)


def of_edge(**data: Any) -> Contents:
    return Contents([("a", "b", data), ("b", "c", {})])


def of_node(**data: Any) -> Contents:
    return Contents([("a", "b", {}), ("b", "c", {})], {"b": data})


REFUSED = {
    "NaN weight": of_edge(weight=math.nan),
    "boolean weight": of_edge(weight=True),
    "false weight": of_edge(weight=False),
    "weight in words": of_edge(weight="strong"),
    "empty words": of_edge(weight=" - "),
    "weight beyond float64": of_edge(weight=10**400),
    "weight beyond float64 as text": of_edge(weight="1e999"),
    "negative weight beyond float64 as text": of_edge(weight="-1" + "0" * 400),
    "fractional sign": of_edge(sign=0.5),
    "sign of 2": of_edge(sign=2),
    "boolean sign": of_edge(sign=True),
    "infinite sign": of_edge(sign=math.inf),
    "sign in words": of_edge(sign="plus"),
    "fractional group": of_edge(group=0.5),
    "group below none": of_edge(group=-2),
    "boolean group": of_edge(group=True),
    "infinite group": of_edge(group=math.inf),
    "group in words": of_edge(group="left"),
    "group beyond 53 bits": of_edge(group=2**53 + 1),
    "frozen twice": of_edge(frozen=2),
    "half frozen": of_edge(frozen=0.5),
    "frozen as a float": of_edge(frozen=1.0),
    "frozen in words": of_edge(frozen="yes"),
    "cycle": Contents([("a", "b", {}), ("b", "c", {}), ("c", "b", {})]),
    "self-loop": Contents([("a", "b", {}), ("b", "b", {})]),
    "unknown input": Contents([("a", "b", {})], options={"inputs": ["z"]}),
    "unknown output": Contents([("a", "b", {})], options={"outputs": ["z"]}),
    "input with in-edges": Contents([("a", "b", {}), ("b", "c", {})], options={"inputs": ["b"]}),
    "input twice": Contents([("a", "b", {})], options={"inputs": ["a", "a"]}),
    "text for a number": Contents([(0, 1, {})], options={"inputs": ["0"]}),
    "unknown activation": of_node(activation="swish"),
    "activation by code": of_node(activation=1),
    "empty activation": of_node(activation=""),
    "unknown aggregation": of_node(aggregation="median"),
    "NaN bias": of_node(bias=math.nan),
    "boolean bias": of_node(bias=True),
    "bias beyond float64": of_node(bias=10**400),
    "input mark in words": of_node(freewire_input="first"),
    "weight twice in other case": of_edge(weight=1, WEIGHT=2),
    "Bias": of_node(Bias=0.5),
    "Activation": of_node(Activation="tanh"),
    "mark in other case": of_node(Freewire_hidden=True),
    "hidden mark in words": of_node(freewire_hidden="junk"),
    "hidden mark of 0.5": of_node(freewire_hidden=0.5),
    "Gephi's undirected edges": of_edge(Type="Undirected"),
    "undirected edges": of_edge(type="undirected"),
    "mutual edges": of_edge(type="Mutual"),
    "electrical junctions": of_edge(Type="EJ"),
    "edges of no direction": of_edge(directed=False),
    "edges of no direction by number": of_edge(directed=0),
    "edges of no direction as text": of_edge(Directed="no"),
    "input mark of NaN": of_node(freewire_input=math.nan),
}
ACCEPTED = {
    "infinite weight": of_edge(weight=math.inf),
    "negative infinite weight": of_edge(weight=-math.inf),
    "whole weight": of_edge(weight=2),
    "weight beyond 64 bits": of_edge(weight=2**70),
    "weight as text": of_edge(weight="0.5"),
    "sign as a float": of_edge(sign=-1.0),
    "sign of 0": of_edge(sign=0),
    "group": of_edge(group=2**53 - 1),
    "group as a float": of_edge(group=3.0),
    "no group": of_edge(group=-1),
    "frozen": of_edge(frozen=True),
    "frozen by 1": of_edge(frozen=1),
    "another attribute": of_edge(colour="red"),
    "another type": of_edge(type="chemical", directed=True),
    "names beyond 64 bits": Contents([("x", str(2**64), {})]),
    "activation": of_node(activation="tanh"),
    "aggregation and bias": of_node(aggregation="max", bias=0.25),
    "infinite bias": of_node(bias=-math.inf),
}
READERS = {".csv": by_csv, ".graphml": by_graphml, ".json": by_json, "networkx": by_networkx}


def readers(contents: Contents) -> list[str]:
    return [name for name in READERS if name != ".csv" or not contents.nodes]


class TestAgreement:
    """The same contents, in every format that can hold them."""

    @pytest.mark.parametrize(
        ("case", "reader"), [(case, reader) for case, contents in REFUSED.items() for reader in readers(contents)]
    )
    def test_refused(self, case, reader, tmp_path):
        with pytest.raises((fw.GraphError, fw.FileFormatError)):
            READERS[reader](REFUSED[case], tmp_path)

    @pytest.mark.parametrize("name", ["Weight", "SIGN", "Frozen", "Group"])
    def test_names_in_other_case(self, name, tmp_path):
        """Columns are read in any case; attributes differ by it, so that one of them would be lost without a word."""
        assert_same_graph(by_csv(of_edge(**{name: 1}), tmp_path), by_csv(of_edge(**{name.lower(): 1}), tmp_path))
        said = f"{name.lower()} of edge 'a' -> 'b': expected an attribute '{name.lower()}', got '{name}'. Rename it"
        for reader in (by_json, by_graphml, by_networkx):
            assert_refused(lambda reader=reader: reader(of_edge(**{name: 1}), tmp_path), re.escape(said))
        large = {f"a{k}": 0 for k in range(2000)}
        assert_refused(lambda: by_json(of_edge(**{name: 1}, **large), tmp_path), re.escape(said))

    @pytest.mark.parametrize("reader", [by_json, by_graphml, by_networkx])
    def test_what_refused_edges_and_marks_say(self, reader, tmp_path):
        said = "Type of edge 'a' -> 'b': expected a directed edge, got 'Undirected'. Give each edge one direction, or"
        assert_refused(lambda: reader(of_edge(Type="Undirected"), tmp_path), re.escape(said))
        said = "freewire_hidden of node 'b': expected true or false, got 'junk'. Correct it or omit the attribute."
        assert_refused(lambda: reader(of_node(freewire_hidden="junk"), tmp_path), re.escape(said))

    @pytest.mark.parametrize("case", ACCEPTED)
    def test_accepted(self, case, tmp_path):
        found = [READERS[reader](ACCEPTED[case], tmp_path) for reader in readers(ACCEPTED[case])]
        for g in found[1:]:
            assert g.nodes == found[0].nodes
            assert g.wiring_hash == found[0].wiring_hash
            for name in ("weight", "sign", "frozen", "group", "bias"):
                one, other = getattr(g, name), getattr(found[0], name)
                assert (one is None) == (other is None), name
                assert one is None or one.tobytes() == other.tobytes(), name


class TestFilesAlone:
    """What networkx cannot hold, or holds otherwise."""

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("g.csv", "source,target,weight\na,b,\nb,c,2\n"),
            (
                "g.graphml",
                '<graphml><key id="w" for="edge" attr.name="weight" attr.type="double"><default>1</default></key>'
                '<graph edgedefault="directed"><node id="a"/><node id="b"/><node id="c"/><edge source="a" target="b">'
                '<data key="w"/></edge><edge source="b" target="c"><data key="w">2</data></edge></graph></graphml>',
            ),
            (
                "g.json",
                '{"directed": true, "nodes": [{"id": "a"}, {"id": "b"}, {"id": "c"}], "edges": [{"source": "a", '
                '"target": "b", "weight": null}, {"source": "b", "target": "c", "weight": 2}]}',
            ),
        ],
    )
    def test_an_empty_weight_is_none(self, name, content, tmp_path):
        weight = read_text(tmp_path / name, content).weight.tolist()
        assert math.isnan(weight[0])
        assert weight[1] == 2

    @pytest.mark.parametrize("reader", [".csv", ".graphml"])
    def test_an_empty_name_is_no_text(self, reader, tmp_path):
        """In JSON and networkx it is a name as any other."""
        contents = Contents([("", "b", {})])
        assert by_json(contents, tmp_path).nodes == by_networkx(contents, tmp_path).nodes == ("", "b")
        with pytest.raises(fw.FileFormatError):
            READERS[reader](contents, tmp_path)

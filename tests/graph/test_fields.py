# SPDX-License-Identifier: MIT
"""The tables of fields: each has its place in the API, and everything that carries fields walks the tables."""

from __future__ import annotations

import inspect
import pickle
import re
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

import freewire as fw
from freewire.graph.field_types import Field, Flag, Group, Number, Sign
from freewire.graph.fields import ACTIVATIONS, AGGREGATIONS, DELAY, EDGE_FIELDS, FIELDS, LEAK, NODE_FIELDS
from tests.support.graphs import FULL, RECURRENT


def with_field(field: Field) -> fw.Graph:
    """A graph that has the field."""
    return RECURRENT if field in (DELAY, LEAK) else FULL


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
class TestTable:
    """Every line."""

    def test_it_is_a_property_of_graph_and_an_argument(self, field):
        graph = with_field(field)
        array = getattr(graph, field.name)
        assert array.dtype == field.dtype
        assert array.shape == ((graph.num_edges if field.element == "edge" else graph.num_nodes),)
        assert getattr(fw.Graph, field.name).__doc__
        assert field.name in inspect.signature(fw.Graph.from_edges).parameters

    def test_an_empty_array_is_missing(self, field):
        array = field.empty(3)
        assert array.dtype == field.dtype
        assert field.is_missing(array).all()
        assert field.to_list(array) == [None] * 3

    def test_values_survive_a_list(self, field):
        array = getattr(with_field(field), field.name)
        values = field.to_list(array)
        again = [field.missing if value is None else field.parse(value) for value in values]
        np.testing.assert_array_equal(np.array(again, field.dtype), array)


def test_names_are_unique_and_elements_as_the_table():
    assert len({field.name for field in FIELDS}) == len(FIELDS)
    assert {field.element for field in EDGE_FIELDS} == {"edge"}
    assert {field.element for field in NODE_FIELDS} == {"node"}


@pytest.mark.parametrize(("enum", "names"), [("Activation", ACTIVATIONS), ("Aggregation", AGGREGATIONS)])
def test_codes_are_those_of_the_kernels(enum, names):
    headers = "".join(path.read_text() for path in Path(__file__).parents[2].joinpath("csrc").rglob("*.h"))
    (body,) = re.findall(rf"enum class {enum} : uint8_t {{([^}}]*)}}", headers)
    assert [name.strip() for name in body.split(",") if name.strip()] == [
        "k" + name.title().replace("_", "") for name in names
    ]


def test_an_older_pickle_lacks_newer_fields():
    state = pickle.loads(pickle.dumps(FULL)).__dict__
    old = {name: value for name, value in state.items() if name != "_frozen"}
    g = object.__new__(fw.Graph)
    g.__setstate__(old)
    assert g.frozen is None
    assert g.sign.tolist() == FULL.sign.tolist()


@pytest.mark.parametrize(
    ("field", "values"),
    [
        (Number("extra", "edge", "constraint"), [0.5, None, -2.0]),
        (Sign("extra", "edge", "wiring"), [1, None, -1]),
        (Flag("extra", "edge", "constraint"), [True, None, None]),
        (Group("extra", "edge", "constraint"), [2**53 - 1, None, 0]),
        (Number("extra", "node", "parameter"), [None, 0.25, None]),
        (Number("extra", "node", "wiring"), [None, 0.25, None]),
    ],
    ids=lambda value: f"{value.element}-{value.role}-{type(value).__name__}" if isinstance(value, Field) else "",
)
def test_a_new_line_is_carried_everywhere(field, values, monkeypatch, tmp_path):
    """networkx, canonical order, union, pickles, and files: nobody names the fields one by one."""
    tables = {"FIELDS": field, f"{field.element.upper()}_FIELDS": field}
    tables[f"{field.element.upper()}_ATTRIBUTES"] = field.name
    for module in [module for name, module in sys.modules.items() if name.startswith("freewire")]:
        for table, line in tables.items():
            if hasattr(module, table):
                monkeypatch.setattr(module, table, (*getattr(module, table), line))

    G = nx.DiGraph([("a", "c"), ("b", "c"), ("a", "b")])
    elements = [G.edges[edge] for edge in G.edges] if field.element == "edge" else [G.nodes[node] for node in G]
    for data, value in zip(elements, values, strict=True):
        if value is not None:
            data["extra"] = value
    given = np.array([field.missing if value is None else value for value in values], field.dtype)
    g = fw.Graph.from_networkx(G)

    def found(graph: fw.Graph) -> np.ndarray:
        array = graph.to_data().fields["extra"]
        assert array.dtype == field.dtype
        return array

    where = g.edge_position if field.element == "edge" else slice(None)
    np.testing.assert_array_equal(found(g)[where], given)
    np.testing.assert_array_equal(found(fw.Graph.from_networkx(g.to_networkx())), found(g))
    np.testing.assert_array_equal(found(pickle.loads(pickle.dumps(g))), found(g))
    both = fw.Graph.union([fw.Graph.from_edges([0], [1]), g])
    last = both.edge_position[1:] if field.element == "edge" else slice(2, None)
    np.testing.assert_array_equal(found(both)[last], found(g))
    for suffix in (".json", ".graphml", ".csv")[: 3 if field.element == "edge" else 2]:
        fw.write_graph(g, tmp_path / f"g{suffix}")
        np.testing.assert_array_equal(found(fw.read_graph(tmp_path / f"g{suffix}")), found(g))
    if field.role == "wiring":
        fw.save(fw.Network(g), tmp_path / "net")
        np.testing.assert_array_equal(found(fw.load(tmp_path / "net").graph), found(g))
    plain = fw.Graph.from_networkx(nx.DiGraph(list(G.edges)))
    assert (g.wiring_hash != plain.wiring_hash) == (field.role == "wiring")

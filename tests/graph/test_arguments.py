# SPDX-License-Identifier: MIT
"""Arguments of any type that has the values: torch tensors, numpy's numbers; and collections without an order."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from scipy import sparse

import freewire as fw
from freewire.graph.arguments import NAMES_SHOWN, as_number, whole
from tests.support.graphs import assert_same_graph, from_edges
from tests.support.messages import assert_refused

MATRIX = torch.tensor([[0, 2.0, 0, 1], [0, 0, 3, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "dense": lambda matrix: matrix,
    "transposed": lambda matrix: matrix.T.contiguous().T,
    "gradient": lambda matrix: matrix.clone().requires_grad_(matrix.is_floating_point()),
    "COO": torch.Tensor.to_sparse,
    "COO with a gradient": lambda matrix: matrix.to_sparse().requires_grad_(matrix.is_floating_point()),
    "COO of rows": lambda matrix: matrix.to_sparse(sparse_dim=1),
    "CSR": torch.Tensor.to_sparse_csr,
    "CSC": torch.Tensor.to_sparse_csc,
    "BSR": lambda matrix: matrix.to_sparse_bsr(2),
    "BSC": lambda matrix: matrix.to_sparse_bsc(2),
}


class TestTensors:
    @pytest.fixture(autouse=True)
    def _quiet(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about its sparse layouts
            yield

    @pytest.mark.parametrize("dtype", [*FLOATS, torch.int64, torch.uint8], ids=str)
    @pytest.mark.parametrize("layout", LAYOUTS)
    def test_adjacency(self, layout, dtype):
        g, want = fw.Graph.from_adjacency(LAYOUTS[layout](MATRIX.to(dtype))), fw.Graph.from_adjacency(MATRIX.numpy())
        assert_same_graph(g, want)
        assert g.edge_position.tolist() == want.edge_position.tolist()

    def test_repeated_entries_are_summed_and_zeros_are_no_edges(self):
        entries = torch.sparse_coo_tensor(
            torch.tensor([[0, 0, 0, 1, 1], [1, 1, 2, 2, 2]]),
            torch.tensor([1.0, 2.0, 0.0, 5.0, -5.0]),
            (3, 3),
            check_invariants=True,
        )
        g = fw.Graph.from_adjacency(entries)
        assert (g.edge_index.tolist(), g.weight.tolist()) == ([[0], [1]], [3.0])

    @pytest.mark.parametrize("dtype", FLOATS, ids=str)
    def test_edges(self, dtype):
        weight = torch.tensor([0.5, -2.0], dtype=dtype, requires_grad=True)
        g = fw.Graph.from_edges(
            torch.tensor([0, 1]), torch.tensor([2, 2], dtype=torch.int32), num_nodes=torch.tensor(3), weight=weight,
            bias=[0, torch.tensor(0, dtype=dtype), torch.tensor(1.0, dtype=dtype, requires_grad=True)],
            inputs=torch.tensor([1, 0]), outputs=torch.tensor([2]), frozen=torch.tensor([False, True]),
        )  # fmt: skip
        assert (g.inputs, g.outputs, g.weight.tolist(), g.bias[2]) == ((1, 0), (2,), [0.5, -2.0], 1.0)
        assert g.frozen.tolist() == [False, True]
        assert g.with_values(weight * 2).weight.tolist() == [1.0, -4.0]

    def test_names_in_a_tensor(self):
        G = nx.DiGraph([(5, 7), (6, 7)])
        assert fw.Graph.from_networkx(G, inputs=torch.tensor([6, 5])).inputs == (6, 5)

    @pytest.mark.parametrize(
        ("given", "got"),
        [
            (lambda: MATRIX.to("meta"), "expected values, got a tensor on the meta device, which has none"),
            (lambda: MATRIX.to_sparse().to("meta"), "expected values, got a tensor on the meta device, which has none"),
            (lambda: [MATRIX.to("meta")[0]], "expected values, got a tensor on the meta device, which has none"),
            (lambda: torch.zeros(2, 3).to_sparse(), r"expected a square matrix \[N, N\], got shape \[2, 3\]"),
            (lambda: torch.zeros(2, 2, 2).to_sparse(), r"expected a square matrix \[N, N\], got shape \[2, 2, 2\]"),
            (
                lambda: torch.zeros(2, 2, dtype=torch.complex32),
                r"expected an array of numbers, got tensor.*ComplexHalf",
            ),
            (lambda: np.ma.masked_equal(np.eye(3), 1), "expected a value everywhere, got an array with masked entries"),
        ],
        ids=["meta", "sparse meta", "list of meta", "oblong", "cube", "complex", "masked"],
    )
    def test_refused(self, given, got):
        assert_refused(lambda: fw.Graph.from_adjacency(given()), f"A: (?s:{got})")

    def test_fake_tensors_are_refused(self):
        with torch._subclasses.FakeTensorMode():
            fake = torch.zeros(3, 3)
        assert_refused(lambda: fw.Graph.from_adjacency(fake), r"A: expected an array of numbers, got FakeTensor\(")


class TestBooleans:
    """They are no weights, but a matrix of them says which edges there are."""

    @pytest.mark.parametrize("given", [[True, False], np.array([True, False]), torch.tensor([True, False])], ids=type)
    def test_refused_as_numbers(self, given):
        for name in ("weight", "sign"):
            said = rf"{name}: expected numbers, got .*\. Pass one number per edge\."
            assert_refused(lambda name=name: fw.Graph.from_edges([0, 1], [2, 2], **{name: given}), said)
        g = fw.Graph.from_edges([0, 1], [2, 2], frozen=given)
        assert g.frozen.tolist() == [True, False]
        assert_refused(lambda: g.with_values(given), "weight: expected numbers, got ")
        assert_refused(lambda: fw.Graph.from_edges([0], [1], bias=given), "bias: expected numbers, got ")

    @pytest.mark.parametrize(
        "kind", [np.ndarray.tolist, np.asarray, torch.tensor, lambda a: torch.tensor(a).to_sparse(), sparse.csr_array]
    )
    def test_adjacency(self, kind):
        matrix = MATRIX.numpy() != 0
        assert_same_graph(fw.Graph.from_adjacency(kind(matrix)), fw.Graph.from_adjacency(matrix.astype(float)))


class TestWholeNumbers:
    @pytest.mark.parametrize("kind", [int, np.int64, np.int8, np.uint64, np.array, torch.tensor])
    def test_accepted(self, kind):
        assert whole(kind(7)) == 7
        assert type(whole(kind(7))) is int
        assert fw.Graph.from_edges([0], [1], num_nodes=kind(3)).num_nodes == 3
        assert fw.generators.mlp([kind(2), kind(3)]).num_edges == 6
        net = fw.Network(fw.generators.mlp([2, 3]))
        assert net.memory(kind(7)) == net.memory(7)
        assert fw.plan.make_plan(net.graph, row_bytes=kind(64)).row_bytes == 64

    @pytest.mark.parametrize(
        "value",
        [
            *(True, np.True_, torch.tensor(True), 3.0, np.float64(3), torch.tensor(3.0), "3", None, [3], 3j),
            *(np.array([3]), torch.tensor([3]), torch.tensor([[3]])),
        ],
    )
    def test_refused(self, value):
        assert whole(value) is None
        if value is None:
            return  # the default of some arguments
        assert_refused(lambda: from_edges((0, 1), num_nodes=value), "num_nodes: expected a whole number")
        assert_refused(lambda: fw.generators.mlp([2, value]), "sizes: expected a whole number")
        net = fw.Network(fw.generators.mlp([2, 3]))
        assert_refused(lambda: net.memory(value), "batch: expected a number of samples", fw.InputError)
        assert_refused(lambda: fw.plan.make_plan(net.graph, row_bytes=value), "row_bytes: ", fw.InputError)

    def test_too_large(self):
        for value in (2**31, 10**30, 10**5000):
            assert_refused(
                lambda v=value: fw.generators.mlp([2, v]), "sizes: expected a whole number of at most 2147483647"
            )
        assert len(fw.generators.watts_strogatz_dag(4, 2, 0.5, seed=10**30)) == 4


class Reversible(set):
    """Has an order, as its author says by giving it a last element."""

    def __iter__(self):
        return iter(sorted(set.__iter__(self)))

    def __reversed__(self):
        return iter(sorted(set.__iter__(self), reverse=True))


TWO = nx.DiGraph([("a", "y"), ("b", "y")])
SETS: dict[str, Callable[[], Any]] = {
    "inputs": lambda: fw.Graph.from_networkx(TWO, inputs=nx.ancestors(TWO, "y")),
    "outputs": lambda: fw.Graph.from_networkx(TWO, outputs=frozenset("y")),
    "inputs of arrays": lambda: from_edges((0, 1), inputs={0}),
    "src": lambda: fw.Graph.from_edges({0}, [1]),
    "dst": lambda: fw.Graph.from_edges([0], {1}),
    "weight": lambda: from_edges((0, 1), weight={0.5}),
    "activation": lambda: from_edges((0, 1), activation={"relu", "tanh"}),
    "A": lambda: fw.Graph.from_adjacency({0}),
    "graphs": lambda: fw.Graph.union({fw.generators.mlp([2, 1])}),
    "sizes": lambda: fw.generators.mlp({2, 3}),
}


class TestSets:
    """A set's order differs from process to process, so it is refused wherever order counts."""

    @pytest.mark.parametrize("case", SETS)
    def test_refused(self, case):
        what = case.split()[0]
        assert_refused(
            SETS[case], rf"{what}: expected a list or another collection with an order, got a (frozen)?set\. "
        )

    def test_files(self, tmp_path):
        fw.write_graph(fw.Graph.from_networkx(TWO), tmp_path / "g.csv")
        fw.write_graph(fw.Graph.from_networkx(TWO), tmp_path / "g.json")
        for suffix in ("csv", "json"):
            assert_refused(lambda s=suffix: fw.read_graph(tmp_path / f"g.{s}", inputs={"a", "b"}), "inputs: expected a")

    @pytest.mark.parametrize(
        "given",
        [
            {"b": 0, "a": 1},
            {"b": 0, "a": 1}.keys(),
            nx.DiGraph([("b", "a")]).nodes,
            iter(["b", "a"]),
            np.array(["b", "a"]),
        ],
        ids=["dict", "keys", "nodes", "iterator", "array"],
    )
    def test_what_has_an_order_is_accepted(self, given):
        assert fw.Graph.from_networkx(TWO, inputs=given).inputs == ("b", "a")

    def test_a_set_with_an_order_is_accepted(self):
        assert fw.Graph.from_networkx(TWO, inputs=Reversible("ba")).inputs == ("a", "b")


class TestLongNames:
    """Messages cut the names that they show, and the number of names."""

    LONG = "x" * 10**6

    @pytest.mark.parametrize(
        "attempt",
        [
            lambda long: fw.Graph.from_networkx(nx.DiGraph([(long, "y"), ("y", long)])),
            lambda long: fw.Graph.from_networkx(nx.DiGraph([("x", "y")]), inputs=[long]),
            lambda long: fw.Graph.from_networkx(nx.DiGraph([("x", "y")]), inputs=long),
            lambda long: fw.Graph.from_networkx(nx.DiGraph([("x", "y")]), inputs=[(long, [])]),
            lambda long: fw.Graph.from_networkx(nx.DiGraph([("x", long)]), inputs=["x", long]),
            lambda long: fw.Graph.from_networkx(nx.DiGraph([("x", (long, "y"))]), outputs=[(long, "y")] * 2),
            lambda long: fw.Graph.from_networkx(nx.DiGraph([("x", "y", {"weight": long})])),
            lambda long: fw.Graph.from_networkx(nx.DiGraph([(long, "y", {"weight": "no"})])),
            lambda long: fw.Graph.from_networkx(nx.DiGraph([("x", "y")]), activation=long),
            lambda long: from_edges((0, 1), activation=[long, long]),
            lambda long: from_edges((0, 1), num_nodes=long),
            lambda long: from_edges((0, 1), weight=[long]),
            lambda long: from_edges((0, 1), inputs=[long]),
            lambda long: fw.Graph.from_edges([long], [1]),
            lambda long: fw.generators.mlp(long),
            lambda long: fw.generators.mlp([2, long]),
            lambda long: fw.generators.erdos_renyi_dag(10**3000, 2),
            lambda long: fw.generators.erdos_renyi_dag(5, long),
        ],
    )
    def test_cut(self, attempt):
        with pytest.raises(fw.GraphError) as caught:
            attempt(self.LONG)
        assert len(str(caught.value)) < 800

    def test_a_cycle_of_long_names(self):
        cycle = [f"{i}{self.LONG}" for i in range(NAMES_SHOWN + 5)]
        with pytest.raises(fw.GraphError, match=r"\.\.\. \(5 more\)") as caught:
            fw.Graph.from_networkx(nx.DiGraph(zip(cycle, cycle[1:] + cycle[:1], strict=True)))
        assert len(str(caught.value)) < 80 * (NAMES_SHOWN + 4)

    def test_reprs(self):
        g = fw.Graph.from_networkx(nx.DiGraph([(self.LONG, "y")]))
        for value in (g, g.to_data(), fw.plan.make_plan(fw.generators.mlp([900, 1])), fw.Network(g)):
            assert len(repr(value)) < 300


class TestNumbersInTexts:
    """Python's own conversions accept more than any program writes: 1_000, and digits of every script."""

    @pytest.mark.parametrize("text", ["1_000", "1_0.5", "1e1_0", "\u0661\u0662", "\uff11", "1\xa0"])
    def test_refused(self, text, tmp_path):
        with pytest.raises(ValueError, match=re.escape(text)):
            as_number(text)
        said = r".*: expected a number as weight, got .*\. Correct it or rename column weight\."
        if text.strip() == text:  # spaces around a cell do not count
            (tmp_path / "g.csv").write_text(f"source,target,weight\na,b,{text}\n", encoding="utf-8")
            assert_refused(lambda: fw.read_graph(tmp_path / "g.csv"), said, fw.FileFormatError)
        edge = {"source": 0, "target": 1, "weight": text}
        document = {"directed": True, "nodes": [{"id": 0}, {"id": 1}], "edges": [edge]}
        (tmp_path / "g.json").write_text(json.dumps(document))
        assert_refused(lambda: fw.read_graph(tmp_path / "g.json"), "weight of edge 0 -> 1: expected a number, got ")
        for kind in ("int", "double"):
            (tmp_path / "g.graphml").write_text(
                f'<graphml><key id="w" for="edge" attr.name="weight" attr.type="{kind}"/><graph edgedefault="directed">'
                f'<node id="a"/><node id="b"/><edge source="a" target="b"><data key="w">{text}</data></edge>'
                "</graph></graphml>",
                encoding="utf-8",
            )
            said = f".*: expected weight of type {kind}, got "
            assert_refused(lambda: fw.read_graph(tmp_path / "g.graphml"), said, fw.FileFormatError)

    def test_names_of_nodes_stay_texts(self, tmp_path):
        (tmp_path / "g.csv").write_text("source,target\n1_000,\u0661\n", encoding="utf-8")
        assert fw.read_graph(tmp_path / "g.csv").nodes == ("1_000", "\u0661")

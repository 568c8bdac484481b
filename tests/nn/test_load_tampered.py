# SPDX-License-Identifier: MIT
"""Files of our format with changed contents are refused, each with its reason."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import freewire as fw
from tests.support.messages import assert_refused
from tests.support.networks import (
    Metadata,
    Tensors,
    assert_same_network,
    read,
    save_sample,
)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    return save_sample(tmp_path_factory.mktemp("nn") / "sample")


def cell(name: str, at: Any, value: Any) -> Callable[[Tensors, Metadata], None]:
    def change(tensors: Tensors, _: Metadata) -> None:
        tensors[name][at] = value

    return change


def replaced(name: str, make: Callable[[Tensor], Tensor]) -> Callable[[Tensors, Metadata], None]:
    def change(tensors: Tensors, _: Metadata) -> None:
        tensors[name] = make(tensors[name]).contiguous()

    return change


def without(name: str) -> Callable[[Tensors, Metadata], None]:
    def change(tensors: Tensors, metadata: Metadata) -> None:
        (tensors if name in tensors else metadata).pop(name)

    return change


def nodes(text: str) -> Callable[[Tensors, Metadata], None]:
    def change(_: Tensors, metadata: Metadata) -> None:
        metadata["nodes"] = text

    return change


def names(*texts: bytes) -> Callable[[Tensors, Metadata], None]:
    def change(tensors: Tensors, _: Metadata) -> None:
        tensors["names"] = torch.tensor(list(b"".join(texts)), dtype=torch.uint8)
        tensors["name_ends"] = torch.tensor([len(text) for text in texts]).cumsum(0)

    return change


def scattered(*ends: int) -> Callable[[Tensors, Metadata], None]:
    def change(tensors: Tensors, _: Metadata) -> None:
        tensors["name_ends"] = torch.tensor(ends)

    return change


def more_nodes(count: int) -> Callable[[Tensors, Metadata], None]:
    """Grow everything that has an entry per node, except names."""

    def change(tensors: Tensors, metadata: Metadata) -> None:
        metadata["nodes"] = str(count)
        for name in ("activation", "aggregation"):
            tensors[name] = torch.zeros(count, dtype=torch.uint8)

    return change


# The sample is of `save_sample`.
TAMPERED: dict[str, tuple[Callable[[Tensors, Metadata], None], str]] = {
    "edge beyond the nodes": (cell("edge_index", (1, 2), 4), "ValueError: edge_index points outside the 4 nodes"),
    "edge far beyond": (cell("edge_index", (0, 0), 2**62), "ValueError: edge_index points outside the 4 nodes"),
    "negative edge": (cell("edge_index", (0, 0), -1), "ValueError: edge_index points outside the 4 nodes"),
    "input beyond": (cell("inputs", 0, 4), "ValueError: inputs points outside the 4 nodes"),
    "negative output": (cell("outputs", 0, -1), "ValueError: outputs points outside the 4 nodes"),
    "cycle": (cell("edge_index", (1, 2), 1), r"GraphError: graph: expected no cycle, got "),
    "self-loop": (cell("edge_index", (1, 2), 2), r"GraphError: graph: expected no cycle, got 2\.5 -> 2\.5"),
    "input with in-edges": (cell("inputs", 0, 1), r"GraphError: inputs: expected nodes without in-edges, got "),
    "repeated output": (
        replaced("outputs", lambda t: t.repeat(2)),
        r"GraphError: outputs: expected each node once, got 'y' ",
    ),
    "no output": (replaced("outputs", lambda t: t[:0]), r"GraphError: outputs: expected at least one node, got none"),
    "another order of edges": (
        replaced("edge_index", lambda t: t.flip(1)),
        "ValueError: edges are not in canonical order",
    ),
    "edges in pairs": (
        replaced("edge_index", lambda t: t.t()),
        r"ValueError: edge_index is torch.int64 of .*\[3, 2\]",
    ),
    "flat edges": (replaced("edge_index", torch.flatten), r"ValueError: edge_index is torch.int64 of shape \[6\]"),
    "narrow edges": (replaced("edge_index", Tensor.int), r"ValueError: edge_index is torch.int32 of shape \[2, 3\]"),
    "edges as floats": (replaced("edge_index", Tensor.double), "ValueError: edge_index is torch.float64 of shape"),
    "inputs as floats": (replaced("inputs", Tensor.float), "ValueError: inputs is torch.float32 of shape"),
    "a table of outputs": (
        replaced("outputs", lambda t: t[None]),
        r"ValueError: outputs is torch.int64 of .*\[1, 1\]",
    ),
    "unknown activation": (cell("activation", 1, 18), "ValueError: activation has the illegal value 18"),
    "unset activation": (cell("activation", 0, 255), "ValueError: activation has the illegal value 255"),
    "unknown aggregation": (cell("aggregation", 3, 6), "ValueError: aggregation has the illegal value 6"),
    "wide codes": (replaced("activation", Tensor.long), r"ValueError: activation is torch.int64 of shape \[4\]"),
    "too few codes": (
        replaced("aggregation", lambda t: t[1:]),
        r"ValueError: aggregation is torch.uint8 of .*\[3\]",
    ),
    "too few weights": (replaced("weight", lambda t: t[1:]), "ValueError: weights or biases do not match"),
    "weights in a table": (replaced("weight", lambda t: t[None]), "ValueError: weights or biases do not match"),
    "a bias per node": (
        replaced("bias", lambda t: t.repeat(2)),
        "ValueError: weights or biases do not match",
    ),
    "half-precision bias": (replaced("bias", Tensor.half), "ValueError: weights and biases differ in type"),
    "weights as numbers": (
        lambda t, _: t.update(weight=t["weight"].long(), bias=t["bias"].long()),
        r"InputError: .*expected torch.float32, torch.float64, .*, got torch.int64",
    ),
    "complex weights": (
        lambda t, _: t.update(weight=t["weight"].cfloat(), bias=t["bias"].cfloat()),
        r"InputError: .*expected torch.float32, torch.float64, .*, got torch.complex64",
    ),
    "no weights": (without("weight"), "KeyError: 'weight'"),
    "no edges": (without("edge_index"), "KeyError: 'edge_index'"),
    "no inputs": (without("inputs"), "KeyError: 'inputs'"),
    "no outputs": (without("outputs"), "KeyError: 'outputs'"),
    "no activations": (without("activation"), "KeyError: 'activation'"),
    "no aggregations": (without("aggregation"), "KeyError: 'aggregation'"),
    "names without ends": (without("name_ends"), "KeyError: 'name_ends'"),
    "no node count": (without("nodes"), "KeyError: 'nodes'"),
    "no checkpoint flag": (without("checkpoint"), "KeyError: 'checkpoint'"),
    "negative node count": (nodes("-1"), "ValueError: nodes is -1"),
    "no node": (nodes("0"), "ValueError: activation is torch.uint8 of shape"),
    "too few nodes": (nodes("3"), "ValueError: activation is torch.uint8 of shape"),
    "too many nodes": (nodes("5"), "ValueError: activation is torch.uint8 of shape"),
    "two billion nodes": (nodes("2147483647"), "ValueError: activation is torch.uint8 of shape"),
    "too many nodes for a plan": (nodes("2147483648"), "ValueError: nodes is 2147483648"),
    "nodes beyond 64 bits": (nodes("9" * 30), "ValueError: nodes is 9"),
    "nodes beyond any use": (nodes("9" * 10_000), "ValueError: "),
    "nodes in words": (nodes("four"), "ValueError: invalid literal for int"),
    "fewer names than nodes": (more_nodes(9), r"ValueError: name_ends is torch.int64 of shape \[4\]"),
    "nodes without biases": (
        lambda t, m: (more_nodes(9)(t, m), t.pop("names"), t.pop("name_ends")),
        "ValueError: weights or biases do not match",
    ),
    "names that are no JSON": (names(b"x", b"1", b"2", b"3"), "JSONDecodeError: "),
    "an empty name": (names(b"", b"1", b"2", b"3"), "JSONDecodeError: "),
    "names that are no UTF-8": (names(b'"\xff"', b"1", b"2", b"3"), "UnicodeDecodeError: "),
    "two names in one": (names(b"0 1", b"1", b"2", b"3"), "JSONDecodeError: Extra data"),
    "a name of null": (names(b"null", b"1", b"2", b"3"), "ValueError: None is not a node name"),
    "null within a name": (names(b"[1, [null]]", b"1", b"2", b"3"), "ValueError: None is not a node name"),
    "an object for a name": (names(b'{"a": 1}', b"1", b"2", b"3"), "ValueError: {'a': 1} is not a node name"),
    "nested names": (names(b"[" * 100_000, b"1", b"2", b"3"), "(RecursionError|JSONDecodeError): "),
    "names closed and nested": (
        names(b"[" * 100_000 + b"]" * 100_000, b"1", b"2", b"3"),
        "(RecursionError|JSONDecodeError): ",
    ),
    "a number of many digits": (names(b"9" * 5000, b"1", b"2", b"3"), "ValueError: Exceeds the limit"),
    "repeated names": (names(b"1", b"2", b'"y"', b'"y"'), "ValueError: two nodes have the same name"),
    "equal names": (names(b"1", b"2", b"true", b"3"), "ValueError: two nodes have the same name"),
    "wide names": (replaced("names", Tensor.int), "ValueError: names is torch.int32 of shape"),
    "descending ends": (scattered(10, 5, 15, 20), "ValueError: name_ends do not divide the names"),
    "negative ends": (scattered(-1, 5, 10, 20), "ValueError: name_ends do not divide the names"),
    "ends beyond the text": (scattered(1, 2, 3, 2**62), "ValueError: name_ends do not divide the names"),
    "ends that overflow": (
        scattered(2**63 - 1, -(2**63), -(2**63), 19),
        "ValueError: name_ends do not divide the names",
    ),
    "ends that overflow twice": (
        scattered(5, 2**63 - 1, -2, 20),
        "ValueError: name_ends do not divide the names",
    ),
    "ends before the text's": (scattered(3, 3, 3, 3), "ValueError: name_ends do not divide the names"),
    "ends as floats": (replaced("name_ends", Tensor.float), "ValueError: name_ends is torch.float32 of shape"),
}


class TestTampered:
    """Whole safetensors files of our format, whose contents are not those of a network."""

    @pytest.fixture
    def tamper(self, sample: Path, tmp_path: Path) -> Callable[[Callable[[Tensors, Metadata], Any]], Path]:
        def tamper(change: Callable[[Tensors, Metadata], Any]) -> Path:
            tensors, header = read(sample)
            change(tensors, header["__metadata__"])
            save_file(tensors, tmp_path / "tampered", header["__metadata__"])
            return tmp_path / "tampered"

        return tamper

    @pytest.mark.parametrize("case", TAMPERED)
    def test_is_refused(self, case, tamper):
        change, match = TAMPERED[case]
        path = tamper(change)
        tracemalloc.start()
        try:
            assert_refused(
                lambda: fw.load(path),
                rf".*tampered: expected the contents of a freewire network, got something else \({match}",
                fw.FileFormatError,
            )
            assert tracemalloc.get_traced_memory()[1] < 50e6  # bytes at the worst moment, numpy's included
        finally:
            tracemalloc.stop()

    def test_unchanged_is_not_refused(self, tamper, sample):
        assert_same_network(fw.load(tamper(lambda *_: None)), fw.load(sample))

    def test_further_tensors_and_metadata_are_ignored(self, tamper, sample):
        def add(tensors: Tensors, metadata: Metadata) -> None:
            tensors["notes"] = torch.ones(3)
            metadata["author"] = "someone"

        assert_same_network(fw.load(tamper(add)), fw.load(sample))

    def test_nan_weights_are_data(self, tamper):
        assert fw.load(tamper(cell("weight", 1, float("nan")))).weight.isnan().tolist() == [False, True, False]

    def test_names_that_collide(self, tamper, tmp_path):
        """20,000 names of one hash took 19 s; whoever makes such names finds out when they are saved."""
        taken = [str(k * (2**61 - 1)).encode() for k in range(20_000)]

        def collide(tensors: Tensors, metadata: Metadata) -> None:
            more_nodes(len(taken))(tensors, metadata)
            names(*taken)(tensors, metadata)
            tensors["bias"] = torch.zeros(len(taken) - 1)

        path, begin = tamper(collide), time.perf_counter()
        said = (
            r".*tampered: expected the contents of a freewire network, got something else \(GraphError: node names: "
            "expected names that dictionaries tell apart, got more than 100 of one hash value"
        )
        assert_refused(lambda: fw.load(path), said, fw.FileFormatError)
        assert time.perf_counter() - begin < 4
        wide = fw.Graph.from_networkx(nx.DiGraph([(k * (2**61 - 1), "y") for k in range(1, 1100)]))
        said = "node names: expected names that dictionaries tell apart, got more than 100"
        assert_refused(lambda: fw.save(fw.Network(wide), tmp_path / "net"), said, fw.InputError)

    def test_many_nodes_are_read_if_the_file_holds_them(self, tamper):
        def grow(tensors: Tensors, metadata: Metadata) -> None:
            more_nodes(100_000)(tensors, metadata)
            del tensors["names"], tensors["name_ends"]
            tensors["bias"] = torch.zeros(100_000 - 1)

        assert fw.load(tamper(grow)).graph.num_nodes == 100_000

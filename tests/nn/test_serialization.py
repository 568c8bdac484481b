# SPDX-License-Identifier: MIT
"""Files: what is saved comes back bit for bit, and whatever else a file may hold is refused in words."""

from __future__ import annotations

import copy
import itertools
import json
import os
import pickle
import resource
import stat
import struct
import tracemalloc
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import freewire as fw
from tests.support.graphs import CASES, assert_same_graph, graphs
from tests.support.messages import assert_refused

Tensors = dict[str, Tensor]
Metadata = dict[str, str]
FORMAT = "freewire network 1"


def named(*names: Hashable) -> fw.Network:
    """A chain of nodes of these names."""
    wires = nx.DiGraph(itertools.pairwise(names))
    wires.add_nodes_from(names)
    return fw.Network(fw.Graph.from_networkx(wires, outputs=names[-1:]))


def assert_same_network(a: fw.Network, b: fw.Network) -> None:
    """Equal wiring, names and parameters, bit for bit, NaN included; and so the outputs."""
    assert_same_graph(a.graph.with_values(), b.graph.with_values())
    assert a.checkpoint == b.checkpoint
    assert [name for name, _ in a.named_parameters()] == [name for name, _ in b.named_parameters()]
    for one, other in zip(a.parameters(), b.parameters(), strict=True):
        assert one.dtype == other.dtype
        assert one.requires_grad == other.requires_grad
        assert bits_of(one) == bits_of(other)
    x = torch.linspace(-2, 2, 5 * len(a.graph.inputs), dtype=a.weight.dtype).reshape(5, -1)
    assert bits_of(a(x)) == bits_of(b(x))


def bits_of(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()  # numpy knows no bfloat16


def read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and header of a file."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    return load_file(path), json.loads(raw[8 : 8 + size])


def write_raw(path: Path, header: Any, payload: bytes = b"") -> None:
    """A file in safetensors' frame: header length, header as JSON, bytes."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)


class TestRoundTrip:
    """save, then load."""

    @pytest.mark.parametrize("name", CASES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
    def test_cases(self, name, dtype, bias, tmp_path):
        net = fw.Network(CASES[name], bias=bias, dtype=dtype)
        if bias:
            torch.nn.init.normal_(net.bias)
        fw.save(net, tmp_path / "net")
        assert_same_network(fw.load(tmp_path / "net"), net)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(graphs(), st.booleans())
    def test_any_graph(self, tmp_path, g, checkpoint):
        net = fw.Network(g, checkpoint=checkpoint)
        fw.save(net, tmp_path / "net")
        assert_same_network(fw.load(tmp_path / "net"), net)

    @pytest.mark.parametrize(
        "names",
        [
            ("x", "y"),
            ("", "\N{SNOWMAN}", "line\nbreak", 'quote"', "\ud800", "x" * 10_000),
            (3, 1, 2),
            (0, 1),
            (-1, 2**100, -(2**63)),
            (True, False),
            (0.1, -1e300, float("inf"), 5e-324),
            (("a", 1), ("a", 2.5), ("b", (True, ("c",)), ""), ()),
            (1, "1", (1,), ("1",), 1.5),
        ],
        ids=["str", "odd str", "int", "0 to N-1", "large int", "bool", "float", "tuple", "mixed"],
    )
    def test_names(self, names, tmp_path):
        net = named(*names)
        fw.save(net, tmp_path / "net")
        again = fw.load(tmp_path / "net").graph
        assert list(again.nodes) == list(names)
        assert [type(v) for v in again.nodes] == [type(v) for v in names]
        assert (again.inputs, again.outputs) == (names[:1], names[-1:])

    def test_numpy_scalars_come_back_as_what_they_equal(self, tmp_path):
        names = (np.int64(3), np.float32(0.1), np.str_("x"), np.bool_(True), (np.uint8(1), "t"))
        fw.save(named(*names), tmp_path / "net")
        again = fw.load(tmp_path / "net").graph.nodes
        assert tuple(again) == names
        assert [type(v) for v in again] == [int, float, str, bool, tuple]

    def test_numbers_in_order_are_not_stored(self, tmp_path):
        for net in (fw.Network(CASES["diamond"]), named(0, 1, 2)):
            fw.save(net, tmp_path / "net")
            assert {"names", "name_ends"}.isdisjoint(read(tmp_path / "net")[0])
            assert fw.load(tmp_path / "net").graph.nodes == range(net.graph.num_nodes)

    @pytest.mark.parametrize("names", [(1, 0), (0.0, 1.0), (False, True), (0, 2), ("0", "1")])
    def test_what_only_looks_like_numbers_in_order_is_stored(self, names, tmp_path):
        fw.save(named(*names), tmp_path / "net")
        assert "names" in read(tmp_path / "net")[0]

    def test_special_values_are_kept(self, tmp_path):
        net = fw.Network(CASES["diamond"])
        with torch.no_grad():
            net.weight.copy_(torch.tensor([float("nan"), float("inf"), -0.0, 1e-40]))
        fw.save(net, tmp_path / "net")
        again = fw.load(tmp_path / "net")
        assert again.weight.detach().numpy().tobytes() == net.weight.detach().numpy().tobytes()

    def test_what_is_saved_is_learnt_and_not_stored(self, tmp_path):
        g = CASES["diamond"].with_values([1, 2, 3, 4], [np.nan, 1, 2, 3])
        net = fw.Network(g)
        with torch.no_grad():
            net.weight.add_(1)
        fw.save(net, tmp_path / "net")
        assert fw.load(tmp_path / "net").weight.tolist() == [2, 3, 4, 5]
        assert fw.load(tmp_path / "net").bias.tolist() == [1, 2, 3]

    def test_parameters_that_share_storage(self, tmp_path):
        net = fw.Network(CASES["diamond"])
        torch.nn.utils.vector_to_parameters(torch.arange(7.0), net.parameters())
        fw.save(net, tmp_path / "net")
        assert_same_network(fw.load(tmp_path / "net"), net)

    def test_a_loaded_network_trains_and_copies(self, tmp_path):
        net = fw.Network(CASES["diamond"])
        fw.save(net, tmp_path / "net")
        again = fw.load(tmp_path / "net")
        again.load_state_dict(net.state_dict())
        again(torch.ones(3, 1)).sum().backward()
        assert again.weight.grad.shape == (4,)
        assert_same_network(copy.deepcopy(again), net)
        again.reset_parameters()
        assert not torch.equal(again.weight, net.weight)
        assert again.bias.tolist() == [0, 0, 0]

    def test_loading_draws_no_random_number(self, tmp_path):
        fw.save(fw.Network(CASES["diamond"]), tmp_path / "net")
        before = torch.random.get_rng_state()
        fw.load(tmp_path / "net")
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_a_loaded_network_needs_its_file_no_more(self, tmp_path):
        net = fw.Network(CASES["random"])
        fw.save(net, tmp_path / "net")
        again = fw.load(tmp_path / "net")
        with open(tmp_path / "net", "r+b") as file:  # in place: a map of the file would change, too
            file.write(b"\xff" * (tmp_path / "net").stat().st_size)
        assert_same_network(again, net)

    def test_device(self, tmp_path):
        fw.save(fw.Network(CASES["diamond"]), tmp_path / "net")
        assert fw.load(tmp_path / "net", device="cpu").weight.device.type == "cpu"
        assert fw.load(tmp_path / "net", device=torch.device("meta")).weight.device.type == "meta"

    def test_paths(self, tmp_path, monkeypatch):
        net = fw.Network(CASES["diamond"])
        monkeypatch.chdir(tmp_path)
        for path in (tmp_path / "path", str(tmp_path / "str"), os.fsencode(tmp_path / "bytes"), "relative"):
            fw.save(net, path)
            assert_same_network(fw.load(path), net)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["bytes", "path", "relative", "str"]


class TestSaving:
    """What save promises about the file."""

    def test_contents(self, tmp_path):
        fw.save(named("x", "y"), tmp_path / "net")
        tensors, header = read(tmp_path / "net")
        assert header["__metadata__"] == {"format": FORMAT, "nodes": "2", "checkpoint": "0"}
        assert {name: (str(t.dtype)[6:], list(t.shape)) for name, t in tensors.items()} == {
            "weight": ("float32", [1]),
            "bias": ("float32", [1]),
            "edge_index": ("int64", [2, 1]),
            "inputs": ("int64", [1]),
            "outputs": ("int64", [1]),
            "activation": ("uint8", [2]),
            "aggregation": ("uint8", [2]),
            "names": ("uint8", [6]),
            "name_ends": ("int64", [2]),
        }
        assert bytes(tensors["names"].tolist()) == b'"x""y"'

    def test_others_may_read_it_as_any_new_file(self, tmp_path):
        fw.save(fw.Network(CASES["diamond"]), tmp_path / "net")
        (tmp_path / "plain").touch()
        modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("net", "plain")}
        assert len(modes) == 1

    def test_a_full_disk_leaves_the_older_file(self, tmp_path):
        old = fw.Network(CASES["diamond"])
        fw.save(old, tmp_path / "net")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))  # bytes; no file can grow further
        try:
            with pytest.raises((OSError, SafetensorError), match="File too large"):
                fw.save(fw.Network(CASES["random"]), tmp_path / "net")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [p.name for p in tmp_path.iterdir()] == ["net"]
        assert_same_network(fw.load(tmp_path / "net"), old)

    def test_an_interrupt_leaves_the_older_file(self, tmp_path, monkeypatch):
        old = fw.Network(CASES["diamond"])
        fw.save(old, tmp_path / "net")

        def interrupt(*_: Any) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", interrupt)
            with pytest.raises(KeyboardInterrupt):
                fw.save(fw.Network(CASES["random"]), tmp_path / "net")
        assert [p.name for p in tmp_path.iterdir()] == ["net"]
        assert_same_network(fw.load(tmp_path / "net"), old)

    @pytest.mark.parametrize(
        "name",
        [frozenset({1}), b"bytes", 1j, object(), np.datetime64("2020-01-01"), (1, None), (1, ("a", b"b")), print],
        ids=["frozenset", "bytes", "complex", "object", "datetime", "None inside", "bytes inside", "function"],
    )
    def test_names_of_other_types_are_refused(self, name, tmp_path):
        old = named("x", "y")
        fw.save(old, tmp_path / "net")
        assert_refused(
            lambda: fw.save(named("x", name), tmp_path / "net"),
            r"node name: expected str, int, float, bool or a tuple of them, got .* \(\w+\)\. Rename",
            fw.InputError,
        )
        assert [p.name for p in tmp_path.iterdir()] == ["net"]
        assert_same_network(fw.load(tmp_path / "net"), old)

    def test_what_is_no_network_is_refused(self, tmp_path):
        for thing, got in ((torch.nn.Linear(1, 1), "Linear"), (CASES["diamond"], "Graph"), (None, "NoneType")):
            assert_refused(
                lambda thing=thing: fw.save(thing, tmp_path / "net"),
                rf"net: expected a freewire Network, got {got}\. ",
                fw.InputError,
            )

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="missing"):
            fw.save(fw.Network(CASES["diamond"]), tmp_path / "missing" / "net")


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    """A small file with names, bias and two layers."""
    path = tmp_path_factory.mktemp("io") / "sample"
    fw.save(named("x", ("h", 1), 2.5, "y"), path)
    return path


class TestNoFile:
    """Files that are missing, cut short, or another's."""

    def test_missing(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"path: expected a freewire file, got .*none.*Check the path\."):
            fw.load(tmp_path / "none")

    def test_a_folder(self, tmp_path):
        with pytest.raises(OSError, match="path: expected a freewire file, got "):
            fw.load(tmp_path)

    def test_cut_short_anywhere(self, sample, tmp_path):
        whole = sample.read_bytes()
        for length in range(len(whole)):
            (tmp_path / "cut").write_bytes(whole[:length])
            assert_refused(
                lambda: fw.load(tmp_path / "cut"),
                r".*cut: expected a whole safetensors file, got one that cannot be read ",
                fw.FileFormatError,
            )

    def test_cut_at_the_front_or_longer(self, sample, tmp_path):
        whole = sample.read_bytes()
        for changed in (whole[1:], whole[8:], whole + b"\0", whole * 2, b"\0" * len(whole), b"\xff" * 100):
            (tmp_path / "changed").write_bytes(changed)
            assert_refused(
                lambda: fw.load(tmp_path / "changed"),
                r".*changed: expected a whole safetensors file, got one that cannot be read ",
                fw.FileFormatError,
            )

    def test_any_flipped_byte_loads_or_is_refused(self, sample, tmp_path):
        whole = bytearray(sample.read_bytes())
        loaded, messages = 0, set()
        for position in range(len(whole)):
            for mask in (0x01, 0x80):
                whole[position] ^= mask
                (tmp_path / "flipped").write_bytes(whole)
                whole[position] ^= mask
                try:
                    net = fw.load(tmp_path / "flipped")
                except fw.FileFormatError as error:
                    messages.add(str(error).split(": ")[1][:20])
                else:
                    loaded += 1
                    assert net(torch.ones(1, len(net.graph.inputs))).shape == (1, len(net.graph.outputs))
        assert loaded >= 2 * 4 * 6  # any bits are a weight or a bias
        assert all(message.startswith("expected ") for message in messages)

    @pytest.mark.parametrize("content", [b"", b"\x80\x02}.", b"PK\x03\x04", b"# notes\n" * 50], ids=repr)
    def test_other_kinds_of_file(self, content, tmp_path):
        (tmp_path / "other").write_bytes(content)
        assert_refused(
            lambda: fw.load(tmp_path / "other"),
            r".*other: expected a whole safetensors file, got one that cannot be read ",
            fw.FileFormatError,
        )

    @pytest.mark.parametrize(
        "header",
        [
            [],
            {"weight": 1},
            {"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 400]}},
            {"weight": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}},
            {"weight": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}},
            {"weight": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}},
            {"weight": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}},
            {"weight": {"dtype": "object", "shape": [1], "data_offsets": [0, 4]}},
        ],
        ids=["list", "number", "beyond the end", "terabytes", "overflow", "negative", "backwards", "dtype"],
    )
    def test_headers_that_lie(self, header, tmp_path):
        write_raw(tmp_path / "liar", header, b"\0" * 4)
        assert_refused(
            lambda: fw.load(tmp_path / "liar"),
            r".*liar: expected a whole safetensors file, got one that cannot be read ",
            fw.FileFormatError,
        )

    @pytest.mark.parametrize(
        ("metadata", "got"),
        [
            (None, "'no format of its own'"),
            ({"format": "pt"}, "'pt'"),
            ({"format": "freewire network 2"}, "'freewire network 2'"),
            ({"format": ""}, "''"),
        ],
        ids=["no metadata", "another's", "a later version", "empty"],
    )
    def test_safetensors_of_others(self, metadata, got, tmp_path):
        save_file({"weight": torch.ones(3)}, tmp_path / "theirs", metadata)
        assert_refused(
            lambda: fw.load(tmp_path / "theirs"),
            rf".*theirs: expected a '{FORMAT}' file, got {got}\. Load files that fw\.save wrote, ",
            fw.FileFormatError,
        )


class Bomb:
    """Unpickled, it leaves a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


class TestNothingIsRun:
    """A file is data."""

    def test_pickle_is_never_asked(self, sample, monkeypatch):
        def fail(*_: Any, **__: Any) -> None:
            raise AssertionError("a file was unpickled")

        with monkeypatch.context() as patch:
            for module, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
                patch.setattr(module, name, fail)
            net = fw.load(sample)
        assert net.graph.inputs == ("x",)

    def test_pickles_are_refused_unread(self, tmp_path):
        bomb = {"weight": Bomb(str(tmp_path / "gone off"))}
        (tmp_path / "plain").write_bytes(pickle.dumps(bomb))
        torch.save(bomb, tmp_path / "zipped")
        for name in ("plain", "zipped"):
            assert_refused(
                lambda name=name: fw.load(tmp_path / name),
                rf".*{name}: expected a whole safetensors file, got one that cannot be read ",
                fw.FileFormatError,
            )
        assert not (tmp_path / "gone off").exists()
        with pytest.raises(pickle.UnpicklingError):
            torch.load(tmp_path / "zipped")  # weights only: torch refuses it too
        pickle.loads((tmp_path / "plain").read_bytes())
        assert (tmp_path / "gone off").exists()  # so the test could have failed


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
    """Grow everything that has an entry a node, names apart."""

    def change(tensors: Tensors, metadata: Metadata) -> None:
        metadata["nodes"] = str(count)
        for name in ("activation", "aggregation"):
            tensors[name] = torch.zeros(count, dtype=torch.uint8)

    return change


# The sample is the chain 'x' -> ('h', 1) -> 2.5 -> 'y'; an edge e leads from node e to node e + 1.
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
    "unknown activation": (cell("activation", 1, 18), "ValueError: activation has code 18, known are 0 to 17"),
    "unset activation": (cell("activation", 0, 255), "ValueError: activation has code 255, known are 0 to 17"),
    "unknown aggregation": (cell("aggregation", 3, 6), "ValueError: aggregation has code 6, known are 0 to 5"),
    "wide codes": (replaced("activation", Tensor.long), r"ValueError: activation is torch.int64 of shape \[4\]"),
    "too few codes": (
        replaced("aggregation", lambda t: t[1:]),
        r"ValueError: aggregation is torch.uint8 of .*\[3\]",
    ),
    "too few weights": (replaced("weight", lambda t: t[1:]), "ValueError: weights or biases do not match"),
    "weights in a table": (replaced("weight", lambda t: t[None]), "ValueError: weights or biases do not match"),
    "a bias a node": (
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
    "a name of null": (names(b"null", b"1", b"2", b"3"), "ValueError: None is no node name"),
    "null within a name": (names(b"[1, [null]]", b"1", b"2", b"3"), "ValueError: None is no node name"),
    "an object for a name": (names(b'{"a": 1}', b"1", b"2", b"3"), "ValueError: {'a': 1} is no node name"),
    "nested names": (names(b"[" * 100_000, b"1", b"2", b"3"), "(RecursionError|JSONDecodeError): "),
    "names closed and nested": (
        names(b"[" * 100_000 + b"]" * 100_000, b"1", b"2", b"3"),
        "(RecursionError|JSONDecodeError): ",
    ),
    "a number of many digits": (names(b"9" * 5000, b"1", b"2", b"3"), "ValueError: Exceeds the limit"),
    "repeated names": (names(b"1", b"2", b'"y"', b'"y"'), "ValueError: two nodes have one name"),
    "equal names": (names(b"1", b"2", b"true", b"3"), "ValueError: two nodes have one name"),
    "wide names": (replaced("names", Tensor.int), "ValueError: names is torch.int32 of shape"),
    "descending ends": (scattered(10, 5, 15, 20), "ValueError: name_ends do not divide the names"),
    "negative ends": (scattered(-1, 5, 10, 20), "ValueError: name_ends do not divide the names"),
    "ends beyond the text": (scattered(1, 2, 3, 2**62), "ValueError: name_ends do not divide the names"),
    "ends that overflow": (
        scattered(2**63 - 1, -(2**63), -(2**63), 19),
        "ValueError: name_ends do not divide the names",
    ),
    "ends before the text's": (scattered(3, 3, 3, 3), "ValueError: name_ends do not divide the names"),
    "ends as floats": (replaced("name_ends", Tensor.float), "ValueError: name_ends is torch.float32 of shape"),
}


class TestTampered:
    """Whole safetensors files with freewire's mark, whose contents are none of freewire's."""

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

    def test_further_tensors_and_metadata_are_passed_over(self, tamper, sample):
        def add(tensors: Tensors, metadata: Metadata) -> None:
            tensors["notes"] = torch.ones(3)
            metadata["author"] = "someone"

        assert_same_network(fw.load(tamper(add)), fw.load(sample))

    def test_nan_weights_are_data(self, tamper):
        assert fw.load(tamper(cell("weight", 1, float("nan")))).weight.isnan().tolist() == [False, True, False]

    def test_many_nodes_that_the_file_really_holds(self, tamper):
        def grow(tensors: Tensors, metadata: Metadata) -> None:
            more_nodes(100_000)(tensors, metadata)
            del tensors["names"], tensors["name_ends"]
            tensors["bias"] = torch.zeros(100_000 - 1)

        assert fw.load(tamper(grow)).graph.num_nodes == 100_000

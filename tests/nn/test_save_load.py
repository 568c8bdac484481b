# SPDX-License-Identifier: MIT
"""Saved networks come back bit for bit, and a failed save leaves the older file."""

from __future__ import annotations

import copy
import os
import resource
import stat
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import freewire as fw
from tests.support.graphs import CASES, graphs
from tests.support.messages import assert_refused
from tests.support.networks import (
    FORMAT,
    assert_same_network,
    named,
    read,
)


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

    def test_numpy_scalars_become_the_python_values_they_equal(self, tmp_path):
        names = (np.int64(3), np.float32(0.1), np.str_("x"), np.bool_(True), (np.uint8(1), "t"))
        fw.save(named(*names), tmp_path / "net")
        again = fw.load(tmp_path / "net").graph.nodes
        assert tuple(again) == names
        assert [type(v) for v in again] == [int, float, str, bool, tuple]

    def test_names_0_to_n_are_not_stored(self, tmp_path):
        for net in (fw.Network(CASES["diamond"]), named(0, 1, 2)):
            fw.save(net, tmp_path / "net")
            assert {"names", "name_ends"}.isdisjoint(read(tmp_path / "net")[0])
            assert fw.load(tmp_path / "net").graph.nodes == range(net.graph.num_nodes)

    @pytest.mark.parametrize("names", [(1, 0), (0.0, 1.0), (False, True), (0, 2), ("0", "1")])
    def test_names_that_only_look_like_0_to_n_are_stored(self, names, tmp_path):
        fw.save(named(*names), tmp_path / "net")
        assert "names" in read(tmp_path / "net")[0]

    def test_special_values_are_kept(self, tmp_path):
        net = fw.Network(CASES["diamond"])
        with torch.no_grad():
            net.weight.copy_(torch.tensor([float("nan"), float("inf"), -0.0, 1e-40]))
        fw.save(net, tmp_path / "net")
        again = fw.load(tmp_path / "net")
        assert again.weight.detach().numpy().tobytes() == net.weight.detach().numpy().tobytes()

    def test_current_weights_are_saved_not_the_graphs(self, tmp_path):
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

    def test_a_loaded_network_does_not_need_its_file(self, tmp_path):
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
    """Contents of the file, and what happens when saving fails."""

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

    def test_a_file_has_the_permissions_of_any_new_file(self, tmp_path):
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
            with pytest.raises(OSError, match="File too large"):
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

    @pytest.mark.parametrize(
        "name", ["\ud83d\ude00", ("x", "\ud83d\ude00"), float("nan")], ids=["text", "tuple", "nan"]
    )
    @pytest.mark.parametrize("other", ["\N{GRINNING FACE}", "x"])
    def test_names_that_would_change_are_refused(self, name, other, tmp_path):
        """The two halves of a character, as surrogates, came back as the whole character."""
        said = "node names: expected names that are equal when read back, got "
        assert_refused(lambda: fw.save(named(other, name), tmp_path / "net"), said, fw.InputError)
        assert list(tmp_path.iterdir()) == []

    def test_only_networks_are_saved(self, tmp_path):
        for thing, got in ((torch.nn.Linear(1, 1), "Linear"), (CASES["diamond"], "Graph"), (None, "NoneType")):
            assert_refused(
                lambda thing=thing: fw.save(thing, tmp_path / "net"),
                rf"net: expected a freewire Network, got {got}\. ",
                fw.InputError,
            )
        assert_refused(lambda: fw.save(CASES["diamond"], "net"), r"net: .* Use fw\.write_graph", fw.InputError)
        swapped = lambda: fw.save("net", fw.Network(CASES["diamond"]))  # noqa: E731
        assert_refused(swapped, r"net: .* got str\. The network comes first: ", fw.InputError)

    def test_no_such_folder(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="missing"):
            fw.save(fw.Network(CASES["diamond"]), tmp_path / "missing" / "net")

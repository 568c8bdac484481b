# SPDX-License-Identifier: MIT
"""Initialisers that callers write: what they may fill or return, and networks with one in pickles and copies."""

from __future__ import annotations

import copy
import functools
import io
import pickle
from collections.abc import Callable
from typing import Any

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

import freewire as fw
from tests.support.graphs import CASES
from tests.support.messages import assert_refused

GRAPH = CASES["diamond"]  # 4 edges


def halves(weight: Tensor, graph: fw.Graph) -> None:
    weight.fill_(0.5)


RETURNED: dict[str, Callable[[], Any]] = {
    "tensor": lambda: torch.tensor([1.0, 2, 3, 4]),
    "tensor of another type": lambda: torch.tensor([1, 2, 3, 4]),
    "tensor with a gradient": lambda: torch.tensor([1.0, 2, 3, 4], requires_grad=True),
    "transposed tensor": lambda: torch.tensor([[1.0, 0], [2, 0], [3, 0], [4, 0]]).T[0],
    "sparse tensor": lambda: torch.tensor([1.0, 2, 3, 4]).to_sparse(),
    "array": lambda: np.array([1.0, 2, 3, 4]),
    "array of integers": lambda: np.array([1, 2, 3, 4], np.uint16),
    "array backwards": lambda: np.array([4.0, 3, 2, 1])[::-1],
    "list": lambda: [1, 2.0, np.float32(3), torch.tensor(4.0, requires_grad=True)],
    "tuple": lambda: (1, 2, 3, 4),
    "range": lambda: range(1, 5),
}
NUMBERS = [2, 2.0, np.float32(2), np.int64(2), torch.tensor(2), torch.tensor(2.0, dtype=torch.float64), np.array(2)]


class TestReturned:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
    @pytest.mark.parametrize("case", RETURNED)
    def test_one_number_per_edge(self, case, dtype):
        net = fw.Network(GRAPH, init=lambda *_: RETURNED[case](), dtype=dtype)
        assert net.weight.tolist() == [1.0, 2.0, 3.0, 4.0]
        assert net.weight.dtype == dtype
        assert net.weight.is_leaf
        assert net.weight.requires_grad

    @pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{type(number).__name__} {number}")
    def test_one_number_for_all(self, number):
        assert fw.Network(GRAPH, init=lambda *_: number).weight.tolist() == [2.0] * 4

    def test_infinity_is_a_number_as_in_graphs(self):
        assert fw.Network(GRAPH, init=lambda *_: float("inf")).weight.isinf().all()

    def test_torchs_own(self):
        for init in (nn.init.zeros_, functools.partial(nn.init.constant_, val=3.0)):
            net = fw.Network(GRAPH, init=lambda weight, _, init=init: init(weight))
            assert len(set(net.weight.tolist())) == 1
        net = fw.Network(GRAPH, init=lambda weight, _: nn.init.normal_(weight))
        assert not net.weight.isnan().any()

    def test_views_of_the_weights(self):
        net = fw.Network(GRAPH, init=lambda weight, _: weight.data.fill_(2.0).view(4))
        assert net.weight.tolist() == [2.0] * 4

    @pytest.mark.parametrize(
        ("returned", "got"),
        [
            (torch.zeros(4, 1), r"expected weights of shape \[4\] or one number from the function, got shape \[4, 1\]"),
            (np.zeros(1), r"expected .* got shape \[1\]"),
            (torch.zeros(1), r"expected .* got shape \[1\]"),
            ([], r"expected .* got shape \[0\]"),
            ([[1.0] * 4], r"expected .* got shape \[1, 4\]"),
            (torch.zeros(4, dtype=torch.complex64), r"expected .* got a tensor of torch\.complex64"),
            (torch.ones(4, dtype=torch.bool), r"expected .* got a tensor of torch\.bool"),
            (True, r"expected .* got bool True"),
            ("he", r"expected .* got str 'he'"),
            ({"a": 1}, r"expected .* got dict "),
            (["a"] * 4, r"expected .* got list "),
            ({1.0, 2.0}, r"expected a list or another collection with an order, got a set"),
            ([[1.0], [1.0, 2.0]], r"expected an array of numbers, got \[\[1\.0\], \[1\.0, 2\.0\]\]"),
            (torch.zeros(4, device="meta"), r"expected .* got a tensor on the meta device, which has no values"),
            ([1.0, float("nan"), 2.0, 3.0], r"expected a number for each weight, got NaN at edge 1 \(0 -> 2\)"),
            (float("nan"), r"expected a number for each weight, got NaN at edge 0 \(0 -> 1\)"),
            ("x" * 10**6, r"expected .{0,300}$"),
        ],
        ids=lambda value: None if not isinstance(value, str) else value[-30:],
    )
    def test_refused(self, returned, got):
        assert_refused(lambda: fw.Network(GRAPH, init=lambda *_: returned), f"init: {got}", fw.InputError)


def first_three(weight: Tensor, graph: fw.Graph) -> None:
    weight[:3] = 1.0


class TestFilled:
    @pytest.mark.parametrize("init", [lambda *_: None, first_three, lambda w, _: w.mul_(2)])
    def test_every_weight_must_be(self, init):
        unset = "init: expected a number for each weight, got NaN at edge "
        assert_refused(lambda: fw.Network(GRAPH, init=init), unset, fw.InputError)

    def test_a_failure_leaves_the_weights_alone(self):
        values: list[Any] = [1.0]
        net = fw.Network(GRAPH, init=lambda *_: values[0])
        values[0] = float("nan")
        with pytest.raises(fw.InputError):
            net.reset_parameters()
        assert net.weight.tolist() == [1.0] * 4

    def test_named_nodes_are_cut(self):
        g = fw.Graph.from_networkx(nx.DiGraph([("x" * 10**6, "y")]))
        with pytest.raises(fw.InputError) as caught:
            fw.Network(g, init=lambda *_: None)
        assert len(str(caught.value)) < 300

    @pytest.mark.parametrize("init", [lambda *_: None, lambda w, _: w.normal_(), lambda *_: np.zeros(4), lambda *_: 1])
    def test_without_values(self, init):
        assert fw.Network(GRAPH, init=init, device="meta").weight.is_meta
        with FakeTensorMode():
            assert fw.Network(GRAPH, init=init).weight.shape == (4,)

    def test_without_edges(self):
        g = fw.Graph.from_edges([], [], num_nodes=2, inputs=[0], outputs=[1])
        assert fw.Network(g, init=lambda *_: None).weight.shape == (0,)


class TestPickles:
    """A function is kept where Python can; without it a network is as good, but cannot be initialised again."""

    HOWS: tuple[Callable[[Any], Any], ...] = (
        lambda net: pickle.loads(pickle.dumps(net)),
        lambda net: torch_saved(net),
        lambda net: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(net)))),
    )

    @pytest.mark.parametrize("how", HOWS, ids=["pickle", "torch.save", "twice"])
    def test_a_lambda_is_not_part_of_it(self, how):
        net = fw.Network(GRAPH, init=lambda *_: 2.0)
        other = how(net)
        assert other.weight.tolist() == [2.0] * 4
        assert torch.equal(other(torch.ones(1, 1)), net(torch.ones(1, 1)))
        assert_refused(
            other.reset_parameters,
            "init: expected the function that the network was built with, got none, since pickle cannot store <",
            fw.InputError,
        )
        net.reset_parameters()

    @pytest.mark.parametrize("how", [*HOWS, copy.deepcopy, copy.copy])
    @pytest.mark.parametrize("init", [halves, functools.partial(halves), "uniform", None])
    def test_what_python_can_pickle_is(self, how, init):
        net = how(fw.Network(GRAPH, init=init))
        with torch.no_grad():
            net.weight.fill_(7.0)
        net.reset_parameters()
        assert (net.weight == 0.5).all() == (init not in ("uniform", None))
        assert not (net.weight == 7.0).any()

    @pytest.mark.parametrize("how", [copy.deepcopy, copy.copy])
    def test_copies_keep_a_lambda(self, how):
        net = how(fw.Network(GRAPH, init=lambda *_: 2.0))
        net.reset_parameters()
        assert net.weight.tolist() == [2.0] * 4

    def test_modules_made_by_lambdas(self):
        """They use the functions once, and do not keep them."""
        model = fw.models.RandWire(
            lambda n, seed: fw.generators.watts_strogatz_dag(4, 2, 0.5, seed), 4, "small",
            node=lambda *sizes: fw.models.Conv(*sizes), num_classes=2,
        ).eval()  # fmt: skip
        stage = fw.models.GraphStage(nx.DiGraph([(0, 1)]), 2, 3, node=lambda *sizes: fw.models.Conv(*sizes)).eval()
        for module, x in ((model, torch.rand(1, 3, 32, 32)), (stage, torch.rand(1, 2, 4, 4))):
            assert torch.equal(pickle.loads(pickle.dumps(module))(x), module(x))


def torch_saved(net: fw.Network) -> fw.Network:
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def test_loading_a_file_keeps_no_function(tmp_path):
    fw.save(fw.Network(GRAPH, init=lambda *_: 2.0), tmp_path / "net")
    net = fw.load(tmp_path / "net")
    assert net.weight.tolist() == [2.0] * 4
    net.reset_parameters()
    assert net.weight.tolist() != [2.0] * 4

# SPDX-License-Identifier: MIT
"""freewire/models/randwire.py: the paper's sizes, every option, and every message."""

from __future__ import annotations

import copy
import pickle
from typing import Any
from unittest import mock

import networkx as nx
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import freewire as fw
from freewire.models import BA, ER, WS, AvgPoolConv, Conv, GraphStage, MaxPoolConv, RandWire, SeparableConv, randwire
from freewire.models.edge_drop import drop_ranks, kept_edges
from freewire.models.settings import PAPER_GENERATOR, SIZES
from tests.models.test_blocks import lively

#: The wiring hashes of seed 0 in the small regime, shortened.
GOLDEN = ["4042241a", "b1a98ad0", "6ebb2a7f"]


def small(**options: Any) -> RandWire:
    """A small model that runs quickly."""
    torch.manual_seed(0)
    return RandWire(**{"generator": WS(4, 0.75), "channels": 6, "regime": "small", "num_classes": 5, **options})


def draw(model: RandWire) -> list[Tensor]:
    """Which edges the model would keep for one batch."""
    return kept_edges(torch.zeros(1), drop_ranks([stage.graph for stage in model.stages]), model.edge_drop)


def multiply_adds(model: nn.Module, size: int) -> int:
    """Multiply-adds of convolutions and linear layers for one image, ``size`` pixels high and wide."""
    total = 0

    def count(module: Any, inputs: Any, output: Tensor) -> None:
        nonlocal total
        each = module.weight[0].numel() if isinstance(module, nn.Conv2d) else module.in_features
        total += output.numel() * each

    hooks = [m.register_forward_hook(count) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    # Batch norms change no shape, and take most of the time there is on `meta`.
    with torch.no_grad(), mock.patch.object(nn.BatchNorm2d, "forward", lambda self, x: x):
        model(torch.empty(1, 3, size, size, device="meta"))
    for hook in hooks:
        hook.remove()
    return total


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "seeds", "parameters", "operations"),
    [
        (fw.models.randwire_ws_small, 20, (5.6e6, 0.1e6), (583e6, 6.2e6)),
        (fw.models.randwire_ws_regular109, 5, (31.9e6, 0.66e6), (4.0e9, 0.09e9)),
        (fw.models.randwire_ws_regular154, 5, (61.5e6, 1.32e6), (7.9e9, 0.18e9)),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_sizes_are_the_papers(
    make: Any, seeds: int, parameters: tuple[float, float], operations: tuple[float, float]
) -> None:
    """Means over seeds, within the paper's own spread."""
    found = []
    for seed in range(seeds):
        with torch.device("meta"):
            model = make(seed=seed).eval()
        found.append((sum(p.numel() for p in model.parameters()), multiply_adds(model, 224)))
    for mean, (published, spread) in zip(np.mean(found, 0), (parameters, operations), strict=True):
        assert abs(mean - published) <= spread


class TestWiring:
    def test_table_1_small(self) -> None:
        with torch.device("meta"):
            model = fw.models.randwire_ws_small()
        assert [stage.graph.num_nodes for stage in model.stages] == [32, 32, 32]
        assert [stage.out_channels for stage in model.stages] == [78, 156, 312]
        assert [m.out_channels for m in model.stem.modules() if isinstance(m, nn.Conv2d)] == [39, 78]
        assert [(i["num_chs"], i["reduction"]) for i in model.feature_info] == [
            *((39, 2), (78, 4), (78, 8), (156, 16), (312, 32))
        ]
        assert (model.edge_drop, model.dropout.p) == (0, 0)

    def test_table_1_regular(self) -> None:
        with torch.device("meta"):
            model = fw.models.randwire_ws_regular109()
        assert [stage.graph.num_nodes for stage in model.stages] == [16, 32, 32, 32]
        assert [stage.out_channels for stage in model.stages] == [109, 218, 436, 872]
        assert [i["reduction"] for i in model.feature_info] == [2, 4, 8, 16, 32]
        assert (model.edge_drop, model.dropout.p) == (0.1, 0.2)

    def test_relus_are_where_the_paper_has_them(self) -> None:
        """ReLU-convolution-BN triplets; no relu before the first convolution, none after the last batch norm."""
        model = small()
        assert [type(m).__name__ for m in model.stem[0]] == ["Conv2d", "BatchNorm2d"]
        assert [type(m).__name__ for m in model.stem[1]] == ["ReLU", "Conv2d", "BatchNorm2d"]
        assert [type(m).__name__ for m in model.head] == ["ReLU", "Conv2d", "BatchNorm2d"]
        assert all(stage.relu for stage in model.stages)

    def test_each_stage_draws_its_own_graph_by_the_seed(self) -> None:
        hashes = [[stage.graph.wiring_hash for stage in small(seed=seed).stages] for seed in (3, 3, 4)]
        assert hashes[0] == hashes[1]
        assert len({*hashes[0], *hashes[2]}) == 6

    def test_the_wiring_of_a_seed_never_changes(self) -> None:
        assert [stage.graph.wiring_hash[:8] for stage in small(seed=0).stages] == GOLDEN

    @pytest.mark.parametrize("generator", [ER(0.2), BA(5), WS(4, 0.75), ER(), BA(), WS()], ids=repr)
    def test_generators(self, generator: Any) -> None:
        model = small(generator=generator)
        assert model(torch.randn(2, 3, 32, 32)).shape == (2, 5)
        assert pickle.loads(pickle.dumps(generator)) == generator

    def test_barabasi_albert_starts_from_unconnected_nodes(self) -> None:
        for stage in small(generator=BA(5)).stages:
            in_degree = np.bincount(stage.graph.edge_index[1], minlength=32)
            assert (in_degree == 0).sum() == 5

    def test_callables_and_graphs(self) -> None:
        drawn = []

        def generator(n: int, seed: int) -> nx.DiGraph:
            drawn.append((n, seed))
            return nx.path_graph(n, nx.DiGraph)

        assert [stage.graph.depth for stage in small(generator=generator, regime="regular").stages] == [15, 31, 31, 31]
        assert [n for n, _ in drawn] == [16, 32, 32, 32]
        assert len({seed for _, seed in drawn}) == 4
        star = nx.DiGraph([("hub", leaf) for leaf in "abc"])
        assert [s.graph.num_nodes for s in small(generator=star).stages] == [4, 4, 4]
        chains = [nx.path_graph(n, nx.DiGraph) for n in (2, 3, 4)]
        assert [s.graph.num_nodes for s in small(generator=chains).stages] == [2, 3, 4]

    @pytest.mark.parametrize("node", [SeparableConv, Conv, MaxPoolConv, AvgPoolConv])
    def test_node_operations(self, node: Any) -> None:
        model = small(node=node, generator=nx.path_graph(3, nx.DiGraph))
        assert all(type(m) is node for stage in model.stages for m in stage.nodes)
        model(torch.randn(2, 3, 32, 32)).sum().backward()

    @pytest.mark.parametrize("name", SIZES)
    def test_published_sizes_are_those_of_the_table(self, name: str) -> None:
        with torch.device("meta"):
            model, size = getattr(fw.models, name)(num_classes=1), SIZES[name]
            other = getattr(fw.models, name)(num_classes=1, edge_drop=0.25, dropout=0.75)
        assert (model.stages[0].out_channels, len(model.stem) == 2) == (size.channels, size.regime == "small")
        assert (model.edge_drop, model.dropout.p) == (size.edge_drop, size.dropout)
        assert (other.edge_drop, other.dropout.p) == (0.25, 0.75)
        assert WS(4, 0.75) == PAPER_GENERATOR


class TestForward:
    @pytest.mark.parametrize("size", [(32, 32), (33, 47), (224, 96), (65, 64)])
    def test_any_size(self, size: tuple[int, int]) -> None:
        model = small(generator=nx.path_graph(2, nx.DiGraph)).eval()
        x = torch.randn(1, 3, *size)
        assert model(x).shape == (1, 5)
        assert model.forward_features(x).shape == (1, 1280, -(-size[0] // 32), -(-size[1] // 32))

    def test_features_only(self) -> None:
        model, whole = small(features_only=True).eval(), small().eval()
        state = whole.state_dict()
        loaded = model.load_state_dict(state, strict=False)
        assert not loaded.missing_keys
        assert {key.partition(".")[0] for key in loaded.unexpected_keys} == {"head", "fc"}
        x = torch.randn(2, 3, 70, 64)
        maps = model(x)
        for features, info in zip(maps, model.feature_info, strict=True):
            rows, columns = (-(-n // info["reduction"]) for n in (70, 64))
            assert features.shape == (2, info["num_chs"], rows, columns)
        torch.testing.assert_close(whole.forward_head(whole.head(maps[-1])), whole(x))

    def test_without_classifier(self) -> None:
        model, x = small(num_classes=0).eval(), torch.randn(2, 3, 32, 32)
        assert model(x).shape == (2, 1280)
        with_one = small().eval()
        with_one.load_state_dict(model.state_dict(), strict=False)
        torch.testing.assert_close(with_one.forward_head(with_one.forward_features(x), pre_logits=True), model(x))

    def test_reset_classifier(self) -> None:
        model = small().double().eval()
        model.reset_classifier(7)
        assert model(torch.randn(1, 3, 32, 32, dtype=torch.float64)).shape == (1, 7)
        assert (model.num_classes, model.get_classifier().out_features) == (7, 7)
        model.reset_classifier(0, "avg")
        assert model(torch.randn(1, 3, 32, 32, dtype=torch.float64)).shape == (1, 1280)

    def test_channels_last(self) -> None:
        model, x = small().eval(), torch.randn(2, 3, 64, 64)
        want = model(x)
        model, x = model.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
        torch.testing.assert_close(model(x), want, rtol=1e-4, atol=1e-4)
        for features in model.forward_maps(x):
            assert features.is_contiguous(memory_format=torch.channels_last)

    def test_fuse(self) -> None:
        model = lively(small())
        fused, x = model.fuse(), torch.randn(2, 3, 40, 40, dtype=torch.float64)
        torch.testing.assert_close(fused(x), model(x))
        assert not any(isinstance(m, nn.BatchNorm2d) for m in fused.modules())
        assert any(isinstance(m, nn.BatchNorm2d) for m in model.modules())

    def test_amp_step(self) -> None:
        model = small().train()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = model(torch.randn(2, 3, 32, 32))
        assert y.dtype == torch.bfloat16
        y.float().square().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())

    def test_checkpointing(self) -> None:
        model, x = small().train(), torch.randn(4, 3, 32, 32)
        twin = copy.deepcopy(model)
        model.set_grad_checkpointing()
        for m in (model, twin):
            m(x).square().sum().backward()
        for (name, got), want in zip(model.named_parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(got.grad, want.grad, msg=name)
        for (name, got), want in zip(model.named_buffers(), twin.buffers(), strict=True):
            torch.testing.assert_close(got, want, msg=name)

    @pytest.mark.slow
    def test_compile(self) -> None:
        diamond = nx.DiGraph([("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")])
        model = small(generator=diamond, edge_drop=0.5, dropout=0.1).train()
        x = torch.randn(2, 3, 32, 32)
        torch.compile(model, fullgraph=True, backend="aot_eager")(x).sum().backward()
        model.eval()
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-4)

    def test_nodes_keep_the_initialisation_of_their_factory(self) -> None:
        def node(in_channels: int, out_channels: int, stride: int) -> nn.Module:
            conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            nn.init.constant_(conv.weight, 0.5)
            return conv

        model = small(node=node, generator=nx.path_graph(2, nx.DiGraph))
        assert all((m.weight == 0.5).all() for stage in model.stages for m in stage.nodes)

    @pytest.mark.slow
    def test_checkpointing_compiled(self) -> None:
        model, x = small(generator=nx.path_graph(3, nx.DiGraph), checkpoint=True), torch.randn(4, 3, 32, 32)
        twin = copy.deepcopy(model)
        twin.set_grad_checkpointing(False)
        torch.compile(model, fullgraph=True, backend="aot_eager")(x).square().sum().backward()
        twin(x).square().sum().backward()
        for got, want in zip(
            [*model.parameters(), *model.buffers()], [*twin.parameters(), *twin.buffers()], strict=True
        ):
            torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
        for got, want in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(got.grad, want.grad, rtol=1e-3, atol=1e-3)

    def test_copies_and_pickles(self) -> None:
        model, x = small().eval(), torch.randn(1, 3, 32, 32)
        for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(twin(x), model(x))

    def test_it_learns(self) -> None:
        model = small(channels=8, num_classes=2, generator=nx.path_graph(3, nx.DiGraph))
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        x = torch.randn(16, 3, 32, 32)
        labels = torch.arange(16) % 2
        x[labels == 1] += torch.linspace(-1, 1, 32)
        losses = []
        for _ in range(12):
            loss = nn.functional.cross_entropy(model(x), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.5 * losses[0]


class TestEdgeDrop:
    def test_drops_one_edge_whose_target_has_other_in_edges(self) -> None:
        model = small(edge_drop=1.0, regime="regular").train()
        seen = set()
        for _ in range(300):
            kept = draw(model)
            dropped = [(i, int(e)) for i, k in enumerate(kept) for e in (~k).nonzero()]
            assert len(dropped) == 1
            seen.add(dropped[0])
        for i, e in seen:
            target = model.stages[i].graph.edge_index[1]
            assert (target == target[e]).sum() > 1
        assert len({i for i, _ in seen}) == 4

    def test_the_probability(self) -> None:
        model = small(edge_drop=0.1)
        torch.manual_seed(0)
        often = sum(any(not k.all() for k in draw(model)) for _ in range(1000))
        assert 70 <= often <= 130

    def test_only_while_training(self) -> None:
        model, x = small(edge_drop=1.0).eval(), torch.randn(2, 3, 32, 32)
        assert torch.equal(model(x), model(x))
        with mock.patch.object(randwire, "kept_edges", wraps=kept_edges) as asked:
            model(x)
            assert asked.call_count == 0
            model.train()(x)
            assert asked.call_count == 1

    def test_nothing_to_drop(self) -> None:
        model = small(edge_drop=1.0, generator=nx.path_graph(3, nx.DiGraph)).train()
        assert all(kept.all() for kept in draw(model))
        lone = nx.DiGraph()
        lone.add_node("only")
        model = small(edge_drop=1.0, generator=lone).train()
        assert model(torch.randn(2, 3, 64, 64)).shape == (2, 5)


class TestErrors:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"regime": "large"}, r"regime: expected 'small' or 'regular', got 'large'\."),
            ({"channels": 1}, r"channels: expected a whole number of at least 2, got 1\. The first"),
            ({"edge_drop": 1.5}, r"edge_drop: expected a probability from 0 to 1, got 1\.5\."),
            ({"dropout": -0.1}, r"dropout: expected a probability from 0 to 1, got -0\.1\."),
            ({"num_classes": -1}, r"num_classes: expected a whole number of at least 0, got -1\."),
            ({"generator": [nx.path_graph(2, nx.DiGraph)]}, r"generator: expected 3 DAGs, one per stage, got 1\."),
            ({"generator": {nx.path_graph(2, nx.DiGraph)}}, r"generator: expected a list or another collection with "),
            ({"generator": 7}, r"generator: expected a callable, a DAG or a list of DAGs, got int\."),
            ({"channels": 16.0}, r"channels: expected a whole number of at least 2, got 16\.0\."),
            ({"num_classes": True}, r"num_classes: expected a whole number of at least 0, got True\."),
            ({"in_channels": "3"}, r"in_channels: expected a whole number of at least 1, got '3'\."),
            ({"edge_drop": "x" * 10**6}, r"edge_drop: expected a probability from 0 to 1, got 'x{10,50}\.\.\."),
            ({"dropout": 10**400}, r"dropout: expected a probability from 0 to 1, got 10+\.\.\.0+\."),
            ({"regime": ["small"]}, r"regime: expected 'small' or 'regular', got \['small'\]\."),
        ],
    )
    def test_of_arguments(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(fw.InputError, match=message):
            small(**options)

    def test_of_graphs(self) -> None:
        with pytest.raises(fw.GraphError, match="cycle"):
            small(generator=nx.DiGraph([(0, 1), (1, 0)]))
        with pytest.raises(fw.GraphError, match="dag: expected at least one node"):
            small(generator=lambda n, seed: nx.DiGraph())

    def test_of_images(self) -> None:
        model = small(generator=nx.path_graph(2, nx.DiGraph))
        message = r"x: expected shape \[batch, channels, height, width\], height and width at least 32 \(.*\), got "
        for shape in ((3, 64, 64), (1, 3, 31, 64), (1, 3, 64, 8)):
            with pytest.raises(fw.InputError, match=message + str(list(shape)).replace("[", r"\[").replace("]", r"\]")):
                model(torch.zeros(shape))
        with pytest.raises(RuntimeError, match="channels"):  # torch's own
            model(torch.zeros(1, 4, 64, 64))

    def test_of_a_class_as_the_generator(self) -> None:
        with pytest.raises(
            fw.InputError, match=r"generator: expected ER\(\.\.\.\), got the class\. Give its parameters"
        ):
            small(generator=ER)

    def test_where_there_is_no_head(self) -> None:
        model = small(features_only=True, generator=nx.path_graph(2, nx.DiGraph))
        for call in (model.get_classifier, lambda: model.reset_classifier(3), lambda: model.forward_features(None)):
            with pytest.raises(fw.InputError, match=r"features_only: expected False, got True\. Such a network has no"):
                call()

    def test_of_classes(self) -> None:
        with pytest.raises(fw.InputError, match=r"num_classes: expected a whole number of at least 0, got -1\."):
            small(generator=nx.path_graph(2, nx.DiGraph)).reset_classifier(-1)

    def test_of_pooling(self) -> None:
        with pytest.raises(fw.InputError, match=r"global_pool: expected 'avg', got 'max'\."):
            small().reset_classifier(3, "max")


def test_stages_are_graph_stages() -> None:
    assert all(type(stage) is GraphStage for stage in small().stages)

# SPDX-License-Identifier: MIT
"""`damage`, against networks that are built without what it takes out, and against plain runs of every one."""

from __future__ import annotations

import copy
import dataclasses
import json

import matplotlib.figure
import networkx as nx
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

import freewire as fw
from freewire import studies
from freewire.models import WS, GraphStage, RandWire
from tests.support.messages import assert_refused

#: a and b hear the input; d and e are sinks; two edges join b and c; e hears d's source c alone.
DAG = nx.MultiDiGraph([("a", "c"), ("b", "c"), ("b", "c"), ("a", "d"), ("c", "d"), ("c", "e")])
CLASSES = 4


pytestmark = pytest.mark.usefixtures("one_thread")


class Head(nn.Sequential):
    def __init__(self, channels: int) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, CLASSES))


class Net(nn.Module):
    """Two stages with a convolution before them, and what modules cannot see between them."""

    def __init__(self, between: str = "nothing") -> None:
        super().__init__()
        self.between = between
        self.stem = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
        self.stages = nn.ModuleList([GraphStage(DAG, 3, 5), GraphStage(DAG, 5, 5, stride=1)])
        self.act = nn.ReLU(inplace=True)
        self.head = Head(5)

    def forward(self, x: Tensor) -> Tensor:
        if self.between == "overwrites its input":
            x.mul_(2.0).sub_(0.5)
        x = self.stem(x)
        if self.between == "functions":
            x = torch.tanh(x) + 0.1
        x = self.stages[0](x)
        if self.between == "writes":
            x += 0.3
            self.act(x)
        x = self.stages[1](x)
        if self.between == "one stage twice":
            x = self.stages[1](x)
        if self.between == "a module that writes":
            x = self.act(x)
        return self.head(x)


def trained(model: nn.Module, images: Tensor) -> nn.Module:
    """As training leaves a network: no batch norm and no weight of an edge is as it was at the start."""
    model.train()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
        for _ in range(3):
            model(images.clone())
    return model


def data(count: int = 24, side: int = 10) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(count, 1, side, side, generator=generator),
        torch.randint(CLASSES, (count,), generator=generator),
    )


def net(between: str = "nothing") -> nn.Module:
    torch.manual_seed(0)
    return trained(Net(between), data()[0])


def loader(batch: int = 10) -> list[tuple[Tensor, Tensor]]:
    images, labels = data()
    return list(zip(images.split(batch), labels.split(batch), strict=True))


def total_margin(outputs: Tensor, labels: Tensor) -> tuple[Tensor, int]:
    """A metric that no two networks share."""
    return outputs.double().softmax(1).gather(1, labels[:, None]).sum(), len(labels)


@torch.no_grad()
def plainly(model: nn.Module, stage: str = "stages.0", **missing: list) -> float:
    """The metric above, of the model itself, nothing folded, nothing used twice."""
    model = copy.deepcopy(model).eval()
    right = 0.0
    for images, labels in loader():
        with model.get_submodule(stage).without(**missing):
            outputs = model(images.clone())
        right += float(total_margin(outputs, labels)[0])
    return right / len(data()[0])


class TestDamage:
    @pytest.mark.parametrize(
        "between",
        ["nothing", "functions", "writes", "one stage twice", "a module that writes", "overwrites its input"],
    )
    def test_every_row_is_a_plain_run(self, between):
        model = net(between)
        study = studies.damage(model, loader(), metric=total_margin)
        near = {"rel": 1e-5, "abs": 1e-7}  # folding a batch norm rounds
        assert study.baseline == pytest.approx(plainly(model), **near)
        assert study.count == 24
        for row in study.nodes:
            assert row.accuracy == pytest.approx(plainly(model, row.stage, nodes=[row.node]), **near)
        for row in study.edges:
            assert row.accuracy == pytest.approx(plainly(model, row.stage, edges=[row.edge]), **near)
        assert len({row.accuracy for row in study.nodes + study.edges}) > 10  # or nothing was tested
        assert all(row.loss == study.baseline - row.accuracy for row in study.nodes + study.edges)

    def test_every_node_and_edge_once(self):
        study = studies.damage(net(), loader())
        for name in ("stages.0", "stages.1"):
            nodes = {row.node: (row.in_degree, row.out_degree) for row in study.nodes if row.stage == name}
            assert nodes == {node: (DAG.in_degree(node), DAG.out_degree(node)) for node in DAG}
            edges = sorted((row.source, row.target, row.target_in_degree) for row in study.edges if row.stage == name)
            assert edges == sorted((u, v, DAG.in_degree(v)) for u, v in DAG.edges())
            assert [row.edge for row in study.edges if row.stage == name] == list(range(6))
        assert len(study.nodes) == 10
        assert len(study.edges) == 12

    def test_it_is_accuracy(self):
        model = net()
        study = studies.damage(model, loader())
        with torch.no_grad():
            right = sum(int((model.eval()(x).argmax(1) == y).sum()) for x, y in loader())
        assert study.baseline == right / 24
        assert all(row.accuracy * 24 == pytest.approx(round(row.accuracy * 24)) for row in study.nodes + study.edges)
        assert studies.top1(torch.eye(3), torch.tensor([0, 1, 1])) == (2, 3)

    def test_a_randwire(self):
        torch.manual_seed(0)
        dags = [WS(4, 0.75)(6, seed) for seed in range(3)]
        model = RandWire(dags, 4, "small", num_classes=CLASSES, in_channels=1)
        model = trained(model, torch.randn(8, 1, 32, 32))
        images, labels = data(8, 32)
        study = studies.damage(model, [(images, labels)], metric=total_margin)
        fused = model.fuse()
        for row in study.nodes[::4]:
            with torch.no_grad(), fused.get_submodule(row.stage).without(nodes=[row.node]):
                assert row.accuracy == pytest.approx(float(total_margin(fused(images), labels)[0]) / 8, rel=1e-9)

    @pytest.mark.parametrize(("nodes", "edges"), [(True, False), (False, True)])
    def test_one_kind(self, nodes, edges):
        model = net()
        both, one = studies.damage(model, loader()), studies.damage(model, loader(), nodes=nodes, edges=edges)
        assert one == dataclasses.replace(both, nodes=both.nodes if nodes else (), edges=both.edges if edges else ())

    def test_the_model_stays_as_it_was(self):
        model = net()
        model.stem.eval()
        model.head[2].weight.requires_grad_(False)
        model.stages[0].weight.grad = torch.ones_like(model.stages[0].weight)
        images, labels = data()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        modes = [module.training for module in model.modules()]
        needs = [parameter.requires_grad for parameter in model.parameters()]
        for raises in (False, True):
            if raises:
                with pytest.raises(ZeroDivisionError):
                    studies.damage(model, [(images, labels)], metric=lambda outputs, labels: 1 // 0)
            else:
                studies.damage(model, [(images, labels)])
            assert modes == [module.training for module in model.modules()]
            assert needs == [parameter.requires_grad for parameter in model.parameters()]
            assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
            assert torch.equal(model.stages[0].weight.grad, torch.ones(6))
            assert torch.is_grad_enabled()
        assert torch.equal(images, data()[0])
        assert model(images).requires_grad

    def test_repeatable_whatever_surrounds_it(self):
        model = net()
        study = studies.damage(model, loader())
        assert studies.damage(model, loader()) == study
        with torch.inference_mode():
            assert studies.damage(model, loader()) == study
        compiled = torch.compile(model, backend="eager")
        assert studies.damage(compiled, loader()) == study

    def test_any_loader_read_once(self):
        images, labels = data()
        study = studies.damage(net(), loader())

        class Stream(IterableDataset):
            def __iter__(self):
                yield from zip(images, labels, strict=True)

        for each in (
            (batch for batch in loader()),
            iter(loader()),
            [list(batch) for batch in loader()],
            DataLoader(TensorDataset(images, labels), 10),
            DataLoader(Stream(), 10),
        ):
            assert studies.damage(net(), each) == study

    def test_augmented_batches_differ_by_the_damage_alone(self):
        class Random:
            def __iter__(self):
                yield torch.randn(8, 1, 10, 10), torch.arange(8) % CLASSES

        model = net()
        for stage in model.stages:
            stage.weight.data.fill_(-1e4)  # gates of 0: no edge says anything
        study = studies.damage(model, Random(), metric=total_margin, nodes=False)
        assert {row.loss for row in study.edges} == {0.0}

    def test_what_comes_before_the_damage_runs_once_a_batch(self):
        class Counted(nn.Module):
            calls = 0

            def forward(self, x):
                Counted.calls += 1
                return x

        model = nn.Sequential(Counted(), GraphStage(DAG, 1, 4), Head(4))
        studies.damage(model, loader())
        assert Counted.calls == len(loader())  # not once a damaged network

    def test_progress(self):
        said = []
        studies.damage(net(), loader(), progress=lambda *each: said.append(each))
        assert said == [(i + 1, 3 * 23) for i in range(3 * 23)]
        studies.damage(net(), (b for b in loader()), progress=lambda *each: said.append(each))
        assert said[-1] == (3 * 23, None)


class TestWhatIsLeft:
    """A stage without something is the stage that was built without it, where one can be built."""

    x = torch.randn(2, 3, 8, 8)

    def stage(self, dag: nx.MultiDiGraph) -> GraphStage:
        torch.manual_seed(0)
        stage = GraphStage(dag, 3, 4)
        nn.init.normal_(stage.weight)
        return stage.eval()

    def assert_alike(self, node: str, kept_sinks: set[str]) -> None:
        whole = self.stage(DAG)
        dag = DAG.copy()
        dag.remove_node(node)
        assert {v for v in dag if not dag.out_degree(v)} == kept_sinks  # no other node became one
        assert {v for v in dag if not dag.in_degree(v)} == {v for v in DAG if not DAG.in_degree(v)} - {node}
        built = self.stage(dag)
        for name in dag:
            place = built.graph.nodes.index(name)
            built.nodes[place] = whole.nodes[whole.graph.nodes.index(name)]
        ends = [(whole.graph.nodes[u], whole.graph.nodes[v]) for u, v in whole.graph.edge_index.T.tolist()]
        built.weight.data = whole.weight.data[[i for i, pair in enumerate(ends) if node not in pair]]
        with whole.without(nodes=[node]):
            torch.testing.assert_close(whole(self.x), built(self.x))

    def test_a_node_between(self):
        self.assert_alike("a", {"d", "e"})
        self.assert_alike("b", {"d", "e"})

    def test_a_sink_leaves_the_mean(self):
        self.assert_alike("d", {"e"})
        self.assert_alike("e", {"d"})

    def test_an_edge_is_a_gate_of_zero(self):
        stage = self.stage(DAG)
        for edge in range(6):
            closed = copy.deepcopy(stage)
            closed.weight.data[edge] = -1e4
            with stage.without(edges=[edge]):
                torch.testing.assert_close(stage(self.x), closed(self.x), rtol=0, atol=0)

    def test_a_node_that_lost_all_hears_zeros(self):
        stage = self.stage(nx.DiGraph([("a", "b")]))
        for lost in ({"nodes": ["a"]}, {"edges": [0]}):
            with stage.without(**lost):
                torch.testing.assert_close(stage(self.x), stage.nodes[1](torch.zeros(2, 4, 4, 4)))
        with stage.without(nodes=["b"]):
            assert not stage(self.x).any()

    def test_nested_losses_add_up_and_end(self):
        stage = self.stage(DAG)
        whole = stage(self.x)
        with stage.without(nodes=["e"], edges=[3]):
            both = stage(self.x)
        with stage.without(nodes=["e"]):
            outer = stage(self.x)
            with stage.without(edges=[3]):
                assert torch.equal(stage(self.x), both)
            with pytest.raises(fw.InputError), stage.without(edges=[3]):
                stage(self.x[0])
            assert torch.equal(stage(self.x), outer)
        assert torch.equal(stage(self.x), whole)
        assert not torch.equal(both, outer)

    def test_a_generator_of_names(self):
        stage = self.stage(DAG)
        with stage.without(nodes=["e", "a"], edges=[1]):
            listed = stage(self.x)
        with stage.without(nodes=(name for name in "ea"), edges=(e for e in [1])):
            assert torch.equal(stage(self.x), listed)

    def test_no_such_node_or_edge(self):
        stage = self.stage(DAG)
        for lost, said in (
            ({"nodes": ["z"]}, "nodes: expected names of the stage's nodes, got 'z'."),
            ({"edges": [6]}, "edges: expected whole numbers from 0 to 5, got 6."),
            ({"edges": [-1]}, "edges: expected whole numbers from 0 to 5, got -1."),
            ({"edges": [1.5]}, "edges: expected whole numbers from 0 to 5, got 1.5."),
        ):
            assert_refused(stage.without(**lost).__enter__, said, fw.InputError)


class TestResult:
    study = studies.damage(net(), loader())

    def test_groups(self):
        by_node = self.study.losses_by_out_degree()
        assert {degree: len(losses) for degree, losses in by_node.items()} == {0: 4, 2: 6}
        assert by_node[0] == [row.loss for row in self.study.nodes if row.node in "de"]
        by_edge = self.study.losses_by_target_in_degree()
        assert {degree: len(losses) for degree, losses in by_edge.items()} == {1: 2, 2: 4, 3: 6}
        assert list(by_edge) == [1, 2, 3]

    def test_to_dict(self):
        made = json.loads(json.dumps(self.study.to_dict()))
        nodes = tuple(studies.NodeDamage(**row) for row in made.pop("nodes"))
        edges = tuple(studies.EdgeDamage(**row) for row in made.pop("edges"))
        assert studies.Damage(**made, nodes=nodes, edges=edges) == self.study

    def test_it_is_frozen_and_reads_well(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            self.study.baseline = 1.0
        losses = [studies.NodeDamage("s", i, 1, 2, 0.9 - loss, loss) for i, loss in enumerate((0.1, 0.03))]
        text = str(studies.Damage(0.9, 50, tuple(losses), ()))
        assert text == (
            "accuracy 90.00% of 50 images; lost, in percentage points, mean (worst)\n"
            "without a node of out-degree             2:   6.50 (10.00), 2 of them"
        )

    def test_plot(self):
        figure = self.study.plot()
        assert isinstance(figure, matplotlib.figure.Figure)
        left, right = figure.axes
        assert [axes.get_xlabel() for axes in (left, right)] == [
            "out-degree of the node",
            "in-degree of the edge's target",
        ]
        assert {axes.get_ylabel() for axes in (left, right)} == {"loss of accuracy (percentage points)"}
        for axes, groups in (
            (left, self.study.losses_by_out_degree()),
            (right, self.study.losses_by_target_in_degree()),
        ):
            drawn = sorted(float(y) for dots in axes.collections for y in dots.get_offsets()[:, 1])
            assert drawn == pytest.approx(sorted(100 * loss for losses in groups.values() for loss in losses))
            for degree, dots in zip(groups, axes.collections, strict=True):
                assert all(abs(x - degree) < 0.5 for x in dots.get_offsets()[:, 0])
        figure.canvas.draw()

    def test_plot_of_one_kind(self):
        figure = dataclasses.replace(self.study, nodes=()).plot()
        assert [axes.get_title() for axes in figure.axes] == ["without one edge"]


class TestErrors:
    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"model": 3}, "model: expected an nn.Module, got int."),
            ({"model": nn.Conv2d(1, 4, 3)}, "model: expected a network with at least one GraphStage, got Conv2d"),
            ({"nodes": False, "edges": False}, "nodes: expected True where edges is False, got False."),
            ({"loader": 3}, "loader: expected an iterable of .images, labels., got int."),
            ({"loader": []}, "loader: expected at least one image, got none. A generator"),
            ({"loader": data()}, "loader: expected batches .images, labels., two tensors, got Tensor."),
            ({"loader": [{"x": 1}]}, "loader: expected batches .images, labels., two tensors, got dict."),
            ({"loader": [()]}, "loader: expected batches .images, labels., two tensors, got tuple of nothing."),
            (
                {"loader": [(data()[0], [0, 1])]},
                "loader: expected batches .images, labels., two tensors, got tuple of Tensor, list.",
            ),
            (
                {"loader": [(data()[0], data()[1] + 1)]},
                "loader: expected labels from 0 to 3, as the network has 4 outputs, got 4. Number the classes",
            ),
            (
                {"loader": [(data()[0], data()[1] - 1)]},
                "loader: expected labels from 0 to 3, as the network has 4 outputs, got -1.",
            ),
            (
                {"loader": [(data()[0], data()[1][1:])]},
                r"loader: expected labels that are whole numbers, shape \[24\] as .*, got torch.int64 \[23\].",
            ),
            (
                {"loader": [(data()[0], data()[1].float())]},
                "loader: expected labels that are whole numbers, .*, got torch.float32",
            ),
            (
                {"model": GraphStage(DAG, 1, 4)},
                r"model: expected outputs of shape \[batch, classes\], got \[10, 4, 5, 5\]",
            ),
            (
                {"model": RandWire([DAG] * 3, 4, "small", in_channels=1, features_only=True), "loader": [data(2, 32)]},
                r"model: expected outputs of shape \[batch, classes\], got list. Give a metric",
            ),
            ({"metric": lambda outputs, labels: 0.5}, "metric: expected .how many are right, of how many., got float."),
        ],
    )
    def test_each_says_what_is_wrong(self, changed, said):
        given = {"model": net(), "loader": [data(10)], **changed}
        assert_refused(lambda: studies.damage(**given), said, fw.InputError)

    def test_a_loader_that_is_used_up(self):
        batches = (batch for batch in loader())
        studies.damage(net(), batches)
        assert_refused(lambda: studies.damage(net(), batches), "loader: expected at least one image", fw.InputError)

# SPDX-License-Identifier: MIT
"""freewire/studies/damage_study.py against plain runs of every damaged network."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from freewire import studies
from freewire.models import WS, GraphStage, RandWire
from tests.studies.networks import CLASSES, DAG, Head, data, loader, net, plainly, total_margin, trained

pytestmark = pytest.mark.usefixtures("one_thread")


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
        assert all(row.accuracy_drop == study.baseline - row.accuracy for row in study.nodes + study.edges)

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

    def test_the_same_in_inference_mode_and_for_a_compiled_model(self):
        model = net()
        study = studies.damage(model, loader())
        assert studies.damage(model, loader()) == study
        with torch.inference_mode():
            assert studies.damage(model, loader()) == study
        compiled = torch.compile(model, backend="eager")
        assert studies.damage(compiled, loader()) == study

    def test_any_loader_is_read_once(self):
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
            stage.weight.data.fill_(-1e4)  # gates of 0: no edge matters
        study = studies.damage(model, Random(), metric=total_margin, nodes=False)
        assert {row.accuracy_drop for row in study.edges} == {0.0}

    def test_what_comes_before_the_damage_runs_once_per_batch(self):
        class Counted(nn.Module):
            calls = 0

            def forward(self, x):
                Counted.calls += 1
                return x

        model = nn.Sequential(Counted(), GraphStage(DAG, 1, 4), Head(4))
        studies.damage(model, loader())
        assert Counted.calls == len(loader())  # not once per damaged network

    def test_progress(self):
        reported = []
        studies.damage(net(), loader(), progress=lambda *each: reported.append(each))
        assert reported == [(i + 1, 3 * 23) for i in range(3 * 23)]
        studies.damage(net(), (b for b in loader()), progress=lambda *each: reported.append(each))
        assert reported[-1] == (3 * 23, None)

# SPDX-License-Identifier: MIT
"""Diagnostics in a training loop: it is not changed; which steps are measured; optimizers, number types and shapes."""

from __future__ import annotations

import copy
import gc
import itertools
import math
import statistics
import weakref

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy, mse_loss

import freewire as fw
from freewire.studies import Diagnostics
from tests.studies.training import batch, classes, network, state, train

pytestmark = pytest.mark.usefixtures("one_thread")


class TestTraining:
    @pytest.mark.parametrize(
        "make",
        [
            lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
            lambda p: torch.optim.Adam(p, lr=0.01),
            lambda p: torch.optim.AdamW(p, lr=0.01, foreach=True),
        ],
    )
    def test_is_not_changed(self, make, tmp_path):
        """Weights, gradients and random numbers are the same bits with and without diagnostics, even with a loss that
        draws numbers.
        """

        def loss_fn(outputs, y):
            return cross_entropy(torch.dropout(outputs, 0.1, True), y)

        results = []
        for measured in (True, False):
            net, x, y = classes()
            optimizer = make(net.parameters())
            diagnostics = Diagnostics(net, optimizer, every=2, log=tmp_path / "log.jsonl") if measured else None
            train(net, optimizer, diagnostics, x, y, 9, loss_fn)
            grads = [parameter.grad for parameter in net.parameters()]
            results.append([*state(net), *grads, torch.get_rng_state()])
        assert all(map(torch.equal, *results))

    def test_which_steps(self):
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        diagnostics = Diagnostics(net, optimizer, every=4)
        found = train(net, optimizer, diagnostics, x, y, 10)
        assert [k for k, record in enumerate(found) if record] == [0, 4, 8]
        assert [record["step"] for record in diagnostics.records] == [0, 4, 8]
        assert diagnostics.step(x, y, cross_entropy) is None  # without another step of the optimizer
        for _ in range(3):  # steps 10, 11, 12: nobody asks until after the last, which then is measured
            train(net, optimizer, None, x, y, 1)
        assert diagnostics.step(x, y, cross_entropy)["step"] == 12
        assert diagnostics.steps == 13

    def test_keep(self):
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        diagnostics = Diagnostics(net, optimizer, every=1, keep=2)
        train(net, optimizer, diagnostics, x, y, 5)
        assert [record["step"] for record in diagnostics.records] == [3, 4]

    def test_resumed(self):
        """A training in two halves has the records of one in one piece."""
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        first = Diagnostics(net, optimizer, every=3)
        train(net, optimizer, first, x, y, 5)
        saved = copy.deepcopy(first.state_dict())
        train(net, optimizer, first, x, y, 4)
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        train(net, optimizer, None, x, y, 5)
        second = Diagnostics(net, optimizer, every=3)
        second.load_state_dict(saved)
        train(net, optimizer, second, x, y, 4)
        assert list(second.records) == list(first.records)[-1:]

    def test_close_and_oblivion_remove_the_hook(self):
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
        hooks = optimizer._optimizer_step_pre_hooks
        with Diagnostics(net, optimizer):
            assert len(hooks) == 1
        assert len(hooks) == 0
        forgotten = Diagnostics(net, optimizer)
        train(net, optimizer, forgotten, x, y, 1)
        alive = weakref.ref(forgotten)
        del forgotten
        gc.collect()
        assert alive() is None
        assert len(hooks) == 0

    def test_clipped_and_accumulated_gradients(self):
        """Without ``recompute`` the misfit shows that the optimizer's gradient is not the batch's; with it all fits."""
        for recompute, clip in itertools.product((False, True), repeat=2):
            net = network()
            parts = [batch(8, net, seed) for seed in (2, 3)]
            optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
            diagnostics = Diagnostics(net, optimizer, every=1, recompute=recompute)
            for _ in range(5):
                optimizer.zero_grad()
                for x, y in parts[1:] if clip else parts:
                    mse_loss(net(x), y).mul(1 if clip else 0.5).backward()
                if clip:
                    torch.nn.utils.clip_grad_norm_(net.parameters(), 1e-2)
                optimizer.step()
                diagnostics.step(*parts[-1], mse_loss)
            misfit = statistics.median(record["misfit"] for record in diagnostics.records)
            assert (misfit < 0.05) == recompute, (recompute, clip, misfit)

    def test_grad_scaler(self):
        """Steps that the scaler skips are not measured; gradients are unscaled, by it or by a fused optimizer."""
        for fused in (False, True):
            net, x, y = classes()
            optimizer = torch.optim.SGD(net.parameters(), lr=0.01, fused=fused)
            scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
            diagnostics = Diagnostics(net, optimizer, every=1)
            for k in range(3):
                optimizer.zero_grad()
                loss = cross_entropy(net(x), y)
                scaler.scale(loss * (math.inf if k == 0 else 1)).backward()
                scaler.step(optimizer)
                scaler.update()
                record = diagnostics.step(x, y, cross_entropy, loss)
                if k == 0:
                    assert record is None or record["update_norm"] == 0
                    continue
                assert record["misfit"] < 0.05

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
    def test_number_types(self, dtype):
        """Records of narrow types are close to those of float64, and norms do not overflow or underflow."""
        results = []
        for each in (dtype, torch.float64):
            net = network(each)
            with torch.no_grad():
                net.weight.copy_(network(dtype).weight)
                net.bias.copy_(network(dtype).bias)
            x, y = (part.to(each) for part in batch(16, network(dtype)))
            optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
            (record,) = train(net, optimizer, Diagnostics(net, optimizer), x, y, 1, mse_loss)
            results.append(record)
        narrow, wide = results
        tolerance = 1e-4 if dtype == torch.float32 else 0.1
        for name in ("loss", "loss_after", "gradient_norm", "update_norm", "weight_norm", "slope", "gradient_variance"):
            assert narrow[name] == pytest.approx(wide[name], rel=tolerance), name

    def test_autocast(self):
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        diagnostics = Diagnostics(net, optimizer, every=1, recompute=True)
        records = []
        for enabled in (False, True):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                loss = cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            before = state(net)
            optimizer.step()
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                records.append(diagnostics.step(x, y, cross_entropy))
            with torch.no_grad():
                for parameter, old in zip(net.parameters(), before, strict=True):
                    parameter.copy_(old)
        assert records[0]["loss"] != records[1]["loss"]
        assert records[0]["loss"] == pytest.approx(records[1]["loss"], rel=0.02)
        assert records[0]["gradient_norm"] == pytest.approx(records[1]["gradient_norm"], rel=0.02)

    def test_leading_shapes(self):
        """[B, T, I] has B samples; its record is that of the same rows, but for how the noise is split."""
        net = network()
        x, y = batch(12, net)
        records = []
        for shape in ([12], [4, 3]):
            trained = copy.deepcopy(net)
            optimizer = torch.optim.SGD(trained.parameters(), lr=0.1)
            inputs, targets = (part.unflatten(0, shape) for part in (x, y))
            diagnostics = Diagnostics(trained, optimizer)
            records += train(trained, optimizer, diagnostics, inputs, targets, 1, mse_loss)
        assert [record["samples"] for record in records] == [12, 4]
        for name in ("loss_after", "slope_after", "step_length", "gradient_norm"):
            assert records[0][name] == pytest.approx(records[1][name], rel=1e-9)
        single = copy.deepcopy(net)
        optimizer = torch.optim.SGD(single.parameters(), lr=0.1)
        (record,) = train(single, optimizer, Diagnostics(single, optimizer), x[0], y[0], 1, mse_loss)
        assert (record["samples"], record["noise_scale"]) == (1, None)

    @pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
    def test_without_gradients_around(self, mode):
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        diagnostics = Diagnostics(net, optimizer, every=1)
        train(net, optimizer, None, x, y, 1)
        with mode():
            assert diagnostics.step(x, y, cross_entropy)["gradient_variance"] > 0
        train(net, optimizer, diagnostics, x, y, 1)

    def test_memory_does_not_grow(self):
        """After the first measurements, further ones leave no more objects behind."""
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        diagnostics = Diagnostics(net, optimizer, every=1, keep=3)
        train(net, optimizer, diagnostics, x, y, 5)

        def tensors() -> int:
            gc.collect()
            return sum(issubclass(type(each), torch.Tensor) for each in gc.get_objects())

        before = tensors()
        train(net, optimizer, diagnostics, x, y, 20)
        assert tensors() <= before  # fewer, where what other tests left behind has been collected meanwhile

    def test_frozen_parameters(self):
        """What is not trained has no gradient in a record."""
        net, x, y = classes()
        net.weight.requires_grad_(False)
        optimizer = torch.optim.SGD([net.bias], lr=0.1)
        for recompute in (False, True):
            diagnostics = Diagnostics(net, optimizer, recompute=recompute)
            (record,) = train(net, optimizer, diagnostics, x, y, 1)
            assert record["gradient_norm"] == pytest.approx(float(net.bias.grad.norm()), rel=1e-5)
            assert record["gradient_variance"] > 0
            assert np.all(diagnostics.edges()["gradient"] == 0)

    def test_diverged_training_is_recorded(self):
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=1e30)
        diagnostics = Diagnostics(net, optimizer, every=1)
        train(net, optimizer, diagnostics, x, y, 4)
        assert not math.isfinite(diagnostics.records[-1]["loss"])
        assert diagnostics.records[-1]["step_length"] is None
        assert any("is not finite from step" in finding for finding in diagnostics.report())

    def test_network_without_edges(self):
        graph = fw.Graph.from_edges([], [], num_nodes=2, inputs=[0], outputs=[1])
        net = fw.Network(graph)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.25)
        x, y = torch.zeros(4, 1), torch.ones(4, 1)
        (record,) = train(net, optimizer, Diagnostics(net, optimizer), x, y, 1, mse_loss)
        assert record["step_length"] == pytest.approx(-0.5)
        assert record["levels"]["level"] == [0]

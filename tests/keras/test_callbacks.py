# SPDX-License-Identifier: MIT
"""Callbacks: when their hooks are called and with what; early stopping, checkpoints, NaN."""

from __future__ import annotations

import functools
import math
import re

import pytest
import torch
from torch.optim.lr_scheduler import StepLR

import freewire as fw
from freewire import Model
from freewire.keras import Callback, EarlyStopping, LambdaCallback, ModelCheckpoint, TerminateOnNaN
from freewire.keras.callbacks import HOOKS
from tests.support.messages import assert_refused
from tests.support.node_graphs import SAMPLES, TARGETS, xor


@pytest.fixture
def model() -> Model:
    m = Model(xor())
    m.compile("sgd", "mse")
    return m


def fit(m: Model, callbacks: object, **options: object) -> fw.keras.History:
    return m.fit(SAMPLES, TARGETS, callbacks=callbacks, verbose=0, **options)


class Scripted(Callback):
    """Puts values of a script into the logs, as if they were measured."""

    def __init__(self, **script: list[float]) -> None:
        self.script = script

    def on_epoch_end(self, epoch, logs):
        logs.update({name: values[epoch] for name, values in self.script.items()})


class TestHooks:
    def test_order_and_logs(self, model):
        calls: list[tuple[str, list[object]]] = []
        hooks = {name: lambda *given, name=name: calls.append((name, list(given))) for name in HOOKS}
        callback = LambdaCallback(**hooks)
        history = fit(model, [callback], epochs=2, batch_size=3, validation_data=(SAMPLES, TARGETS))
        batch = ["on_train_batch_begin", "on_train_batch_end"]
        epoch = ["on_epoch_begin", *batch, *batch, "on_epoch_end"]
        assert [name for name, _ in calls] == ["on_train_begin", *epoch, *epoch, "on_train_end"]
        assert [given[0] for name, given in calls if name == "on_train_batch_end"] == [0, 1, 0, 1]
        ends = [given for name, given in calls if name == "on_epoch_end"]
        assert [given[0] for given in ends] == [0, 1]
        assert [given[1]["val_loss"] for given in ends] == history.history["val_loss"]
        last = [given[1] for name, given in calls if name == "on_train_batch_end"][-1]
        assert last == {"loss": history.history["loss"][-1]}
        assert callback.model is model
        assert callback.params == {"epochs": 2, "steps": 2, "batch_size": 3}

    def test_stopping_after_a_batch(self, model):
        def stop(batch: int, logs: object) -> None:
            model.stop_training = batch == 1

        history = fit(model, LambdaCallback(on_train_batch_end=stop), epochs=5, batch_size=1)
        assert history.epoch == [0]
        assert fit(model, (), epochs=2).epoch == [0, 1]  # the next training is not stopped

    @pytest.mark.parametrize(
        ("callbacks", "match"),
        [
            (3, r"callbacks: expected fw\.keras\.Callback objects, got 3"),
            ([EarlyStopping], r"callbacks: .*Make an object of it: add \(\)"),
            (StepLR(torch.optim.SGD([torch.zeros(1)]), 1), "callbacks: .* For a scheduler: LambdaCallback"),
            ({TerminateOnNaN(), TerminateOnNaN()}, "callbacks: expected a list or another collection with an order"),
        ],
    )
    def test_refused(self, model, callbacks, match):
        assert_refused(lambda: fit(model, callbacks), match, fw.InputError)

    def test_unknown_hooks(self):
        assert_refused(
            lambda: LambdaCallback(on_batch=print), "on_batch: expected one of on_train_begin, .*", fw.InputError
        )
        assert_refused(
            lambda: LambdaCallback(on_epoch_end=3), "on_epoch_end: expected a function, got 3", fw.InputError
        )


class TestEarlyStopping:
    @pytest.mark.parametrize(
        ("options", "values", "stopped", "best"),
        [
            (dict(), [3, 2, 2, 1], 2, 1),
            (dict(patience=1), [3, 2, 2, 1], 2, 1),
            (dict(patience=2), [3, 2, 2, 1, 1, 1], 5, 3),
            (dict(patience=3), [3, 2, 2, 1], -1, 3),
            (dict(min_delta=0.5), [3, 2.4, 2.0, 1.9], 2, 1),
            (dict(min_delta=-0.5), [3, 2.4, 2.0, 1.9], 2, 1),
            (dict(mode="max"), [3, 4, 4, 5], 2, 1),
            (dict(patience=2), [3, math.nan, math.nan, 1], 2, 0),
            (dict(), [math.nan, 2, 1], -1, 2),
            (dict(), [math.nan, math.nan, 1], 1, -1),
        ],
    )
    def test_stops(self, model, options, values, stopped, best):
        stopping = EarlyStopping("value", **options)
        history = fit(model, [Scripted(value=values), stopping], epochs=len(values))
        assert (stopping.stopped_epoch, stopping.best_epoch) == (stopped, best)
        assert len(history.epoch) == (stopped + 1 if stopped >= 0 else len(values))

    def test_auto_is_max_for_accuracies(self, model):
        stopping = EarlyStopping("val_accuracy")
        fit(model, [Scripted(val_accuracy=[0.1, 0.2, 0.3]), stopping], epochs=3)
        assert stopping.best_epoch == 2

    def test_restores_the_best_weights(self, model):
        weights: list[torch.Tensor] = []
        keep = LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.weight.detach().clone()))
        stopping = EarlyStopping("value", patience=2, restore_best_weights=True)
        fit(model, [keep, Scripted(value=[3, 1, 2, 2, 2]), stopping], epochs=5)
        assert len(weights) == 4
        assert torch.equal(model.weight, weights[1])
        assert not torch.equal(weights[1], weights[3])
        assert model.graph.edges[0].weight == model.weight[model.graph.edge_position[0]].item()

    def test_may_be_used_twice(self, model):
        stopping = EarlyStopping("value")
        for _ in range(2):
            fit(model, [Scripted(value=[2, 1, 1, 0]), stopping], epochs=4)
            assert stopping.stopped_epoch == 2

    def test_restores_no_weights_of_an_earlier_training(self, model):
        stopping = EarlyStopping("value", restore_best_weights=True)
        fit(model, [Scripted(value=[2, 1]), stopping], epochs=2)
        weights: list[torch.Tensor] = []
        keep = LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.weight.detach().clone()))
        fit(model, [keep, Scripted(value=[math.nan, math.nan]), stopping], epochs=2)
        assert torch.equal(model.weight, weights[1])

    def test_refused(self, model):
        match = r"monitor: expected one of loss, got 'val_loss'\. .*need validation_data or validation_split"
        assert_refused(lambda: fit(model, EarlyStopping()), match, fw.InputError)
        assert_refused(lambda: EarlyStopping(mode="least"), "mode: expected 'auto', 'min' or 'max'", fw.InputError)
        assert_refused(lambda: EarlyStopping(patience=-1), "patience: expected a whole number", fw.InputError)
        assert_refused(lambda: EarlyStopping(min_delta="0"), "min_delta: expected a number", fw.InputError)
        assert_refused(lambda: EarlyStopping(["loss"]), r"monitor: expected a name .*, got \['loss'\]", fw.InputError)


class TestModelCheckpoint:
    def test_saves_each_epoch(self, model, tmp_path):
        checkpoint = ModelCheckpoint(tmp_path / "{epoch:02d}-{loss:.3f}.safetensors")
        history = fit(model, checkpoint, epochs=2)
        names = [f"{i + 1:02d}-{loss:.3f}.safetensors" for i, loss in enumerate(history.history["loss"])]
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
        other = Model(xor())
        other.load_weights(tmp_path / names[-1])
        assert torch.equal(other.weight, model.weight)

    def test_saves_the_best(self, model, tmp_path):
        weights: list[torch.Tensor] = []
        keep = LambdaCallback(on_epoch_end=lambda epoch, logs: weights.append(model.weight.detach().clone()))
        checkpoint = ModelCheckpoint(tmp_path / "best.safetensors", monitor="value", save_best_only=True)
        fit(model, [keep, Scripted(value=[3, 1, 2]), checkpoint], epochs=3)
        model.load_weights(tmp_path / "best.safetensors")
        assert torch.equal(model.weight, weights[1])
        assert checkpoint.best == 1

    def test_a_continued_training_keeps_a_better_file(self, model, tmp_path):
        checkpoint = ModelCheckpoint(tmp_path / "best.safetensors", monitor="value", save_best_only=True)
        fit(model, [Scripted(value=[2, 1]), checkpoint], epochs=2)
        best = model.weight.detach().clone()
        fit(model, [Scripted(value=[3, 2]), checkpoint], epochs=2)
        assert torch.equal(fw.load(tmp_path / "best.safetensors").weight, best)
        fit(model, [Scripted(value=[3, 0.5]), checkpoint], epochs=2)
        assert torch.equal(fw.load(tmp_path / "best.safetensors").weight, model.weight)

    @pytest.mark.parametrize("fields", ["{acc}", "{}", "{", "{epoch:s}", "{epoch.a}", "{loss[0]}"])
    def test_fields(self, model, tmp_path, fields):
        match = rf"path: expected fields of epoch, loss, got '.*{re.escape(fields)}'"
        assert_refused(lambda: fit(model, ModelCheckpoint(tmp_path / fields)), match, fw.InputError)

    def test_refused(self, model, tmp_path):
        assert_refused(lambda: ModelCheckpoint(3), "path: expected the path of a file, got 3", fw.InputError)
        with pytest.raises(FileNotFoundError, match="folder"):
            fit(model, ModelCheckpoint(tmp_path / "no" / "such.safetensors"))


def test_terminate_on_nan(capsys):
    m = Model(xor(output_activation="linear"))
    m.compile(functools.partial(torch.optim.SGD, lr=1e30), "mse")
    history = fit(m, TerminateOnNaN(), epochs=50, batch_size=1)
    assert len(history.epoch) < 50
    assert not math.isfinite(history.history["loss"][-1])
    assert "so training ends" in capsys.readouterr().out

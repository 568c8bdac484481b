# SPDX-License-Identifier: MIT
"""fit, evaluate and predict: what is trained on, measured and returned; optimizers; progress; what is refused."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader

import freewire as fw
from freewire import Model
from freewire.keras import LambdaCallback
from freewire.keras.optimizers import known_optimizers
from tests.support.messages import assert_refused
from tests.support.node_graphs import SAMPLES, TARGETS, classifier, xor


def compiled(optimizer: object = "sgd", loss: object = "mse", metrics: object = (), dtype=torch.float64) -> Model:
    m = Model(xor(), dtype=dtype)
    m.compile(optimizer, loss, metrics=metrics)
    return m


class TestFit:
    def test_is_the_loop_that_one_would_write(self):
        x, y = torch.randn(10, 2), torch.randn(10, 1)
        m = compiled(functools.partial(torch.optim.SGD, lr=0.1), dtype=torch.float32)
        net = fw.Network(m.graph.with_names().with_values(m.update_graph().node_lists.weight[m.graph.edge_position]))
        net.load_state_dict(m.network.state_dict())
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        losses = []
        torch.manual_seed(3)
        for _ in range(3):
            total = 0.0
            for batch in torch.randperm(10).split(4):
                loss = F.mse_loss(net(x[batch]), y[batch])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.item() * len(batch)
            losses.append(total / 10)
        torch.manual_seed(3)
        history = m.fit(x, y, epochs=3, batch_size=4, verbose=0)
        assert torch.equal(m.weight, net.weight)
        assert history.history == {"loss": pytest.approx(losses)}
        assert history.epoch == [0, 1, 2]

    def test_learns_xor(self):
        m = Model(xor("tanh"))
        m.compile(functools.partial(torch.optim.Adam, lr=0.05), "bce", metrics=["accuracy"])
        history = m.fit(SAMPLES, TARGETS, epochs=200, batch_size=4, verbose=0).history
        assert history["accuracy"][-1] == 1
        assert m.evaluate(SAMPLES, TARGETS, return_dict=True)["accuracy"] == 1
        assert history["loss"][-1] < 0.1 < history["loss"][0]

    def test_learns_classes(self):
        x = np.random.default_rng(0).normal(size=(90, 2)) + np.repeat([[3, 0], [-3, 0], [0, 4]], 30, axis=0)
        y = np.repeat([0, 1, 2], 30)
        m = Model(classifier())
        m.compile(functools.partial(torch.optim.Adam, lr=0.05), "crossentropy", metrics=["accuracy"])
        m.fit(x, y, epochs=15, verbose=0)
        loss, accuracy = m.evaluate(x, y)
        assert accuracy > 0.9
        assert loss < 0.4
        assert accuracy == pytest.approx((m.predict(x).argmax(1).numpy() == y).mean())

    def test_validation_data(self):
        m = compiled(metrics=["mae"])
        m.optimizer.param_groups[0]["lr"] = 0.0
        history = m.fit(SAMPLES[:2], TARGETS[:2], epochs=2, validation_data=(SAMPLES, TARGETS), verbose=0).history
        loss, mae = m.evaluate(SAMPLES, TARGETS)
        assert list(history) == ["loss", "mae", "val_loss", "val_mae"]
        assert history["val_loss"] == pytest.approx([loss] * 2)
        assert history["val_mae"] == pytest.approx([mae] * 2)

    def test_validation_split_is_the_end_of_the_data(self):
        seen: list[float] = []
        m = compiled()
        m.network.register_forward_hook(lambda net, x, y: seen.extend(x[0][:, 0].tolist()) if y.requires_grad else None)
        x = torch.arange(20.0).reshape(10, 2)
        history = m.fit(x, x[:, 0], validation_split=0.3, verbose=0).history
        assert sorted(seen) == x[:7, 0].tolist()
        assert history["val_loss"] == [pytest.approx(m.evaluate(x[7:], x[7:, 0]))]

    def test_fit_continues(self):
        m, other = compiled("adam"), compiled("adam")
        other.load_state_dict(m.state_dict())
        m.fit(SAMPLES, TARGETS, epochs=4, shuffle=False, verbose=0)
        for _ in range(2):
            other.fit(SAMPLES, TARGETS, epochs=2, shuffle=False, verbose=0)
        assert torch.equal(m.weight, other.weight)

    def test_none_and_auto_where_keras_has_them(self):
        m = Model(xor())
        m.compile("sgd", loss="mse", metrics=None)
        for verbose in (False, True, "auto"):
            history = m.fit(SAMPLES, TARGETS, callbacks=None, validation_data=None, verbose=verbose)
        assert list(history.history) == ["loss"]

    @pytest.mark.parametrize("optimizer", ["adam", functools.partial(torch.optim.LBFGS, lr=1e-3)])
    def test_continues_in_another_type(self, optimizer):
        """What the optimizer remembers is of the old type: torch fails, in words about `end`."""
        m, other = compiled(optimizer, dtype=torch.float32), compiled(optimizer)
        other.load_state_dict(m.state_dict())
        for each in (m, other):
            each.fit(SAMPLES, TARGETS, epochs=2, shuffle=False, verbose=0)
            each.double().fit(SAMPLES, TARGETS, epochs=2, shuffle=False, verbose=0)
        torch.testing.assert_close(m.weight, other.weight, rtol=1e-3, atol=1e-3)
        assert m.weight.dtype == torch.float64

    def test_any_type_of_numbers(self):
        m = compiled()
        loss = m.evaluate(SAMPLES, TARGETS)
        for convert in (
            *(functools.partial(np.array, dtype=t) for t in (">f4", ">i4", "u2", "f2", "?", np.longdouble)),
            lambda values: torch.tensor(values).to_sparse(),
            lambda values: torch.tensor(values, dtype=torch.bfloat16),
        ):
            assert m.evaluate(convert(SAMPLES), convert(TARGETS)) == loss
            assert m(convert(SAMPLES)).shape == (4, 1)

    def test_no_gradient_reaches_the_data(self):
        x, y = torch.tensor(SAMPLES, dtype=torch.float64), torch.tensor(TARGETS, dtype=torch.float64)
        for values in (x, y):
            values.requires_grad_()
        compiled().fit(2 * x, 2 * y, epochs=2, batch_size=2, validation_data=(x, y), verbose=0)
        assert x.grad is y.grad is None

    def test_no_epochs(self):
        m = compiled()
        before = m.weight.clone()
        assert m.history is None
        assert m.fit(SAMPLES, TARGETS, epochs=0, verbose=0).history == {}
        assert m.history.epoch == []
        assert torch.equal(m.weight, before)

    def test_modes_are_as_before(self):
        m = compiled().eval()
        seen: list[bool] = []
        watch = LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(m.training and m.history.epoch == [0]))
        with torch.no_grad():
            m.fit(SAMPLES, TARGETS, callbacks=watch, verbose=0)
        assert (seen, m.training, m.network.training) == ([True], False, False)
        m.train()
        modes: list[bool] = []
        m.network.register_forward_hook(lambda net, x, y: modes.append(net.training))
        m.evaluate(SAMPLES, TARGETS)
        m.predict(SAMPLES)
        m.fit(SAMPLES, TARGETS, validation_data=(SAMPLES, TARGETS), verbose=0)
        assert (modes, m.training) == ([False, False, True, False], True)

    def test_an_interrupt_keeps_what_was_learnt(self):
        def interrupt(epoch: int, logs: object) -> None:
            raise KeyboardInterrupt

        m = compiled()
        before = m.graph.edges[0].weight
        with pytest.raises(KeyboardInterrupt):
            m.fit(SAMPLES, TARGETS, callbacks=LambdaCallback(on_epoch_end=interrupt), verbose=0)
        assert m.graph.edges[0].weight == m.weight[m.graph.edge_position[0]].item() != before


class TestEvaluate:
    def test_returns_what_keras_does(self):
        m = compiled()
        loss = m.evaluate(SAMPLES, TARGETS)
        assert isinstance(loss, float)
        m.compile("sgd", "mse", metrics="mse")
        assert m.evaluate(SAMPLES, TARGETS) == [loss, loss]
        assert m.evaluate(SAMPLES, TARGETS, return_dict=True) == {"loss": loss, "mse": loss}

    def test_batches_do_not_matter(self):
        m = compiled(metrics=["mae", "accuracy"])
        assert m.evaluate(SAMPLES, TARGETS, batch_size=3) == pytest.approx(m.evaluate(SAMPLES, TARGETS))

    def test_predict(self):
        m = compiled()
        for size in (1, 3, 4, 100):
            torch.testing.assert_close(m.predict(SAMPLES, batch_size=size), m(SAMPLES).detach())
        assert not m.predict(SAMPLES).requires_grad


class TestOptimizers:
    @pytest.mark.parametrize("name", known_optimizers().split(", "))
    def test_every_name(self, name):
        m = compiled(name.upper())
        before = m.evaluate(SAMPLES, TARGETS)
        history = m.fit(SAMPLES, TARGETS, epochs=3, verbose=0)
        assert type(m.optimizer).__name__.lower() == name
        if name != "lbfgs":  # which, as torch has it, searches no line, and may step too far
            assert m.evaluate(SAMPLES, TARGETS) < before
        assert history.history["loss"][1] != pytest.approx(before)
        assert history.history["loss"][0] == pytest.approx(before)

    def test_instances_classes_and_functions(self):
        m = Model(xor())
        instance = torch.optim.SGD([{"params": [m.weight]}, {"params": [m.bias], "lr": 1.0}], lr=0.5)
        m.compile(instance, "mse")
        assert m.optimizer is instance
        m.compile(torch.optim.AdamW, "mse")
        assert type(m.optimizer) is torch.optim.AdamW
        m.compile(lambda parameters: torch.optim.Adam(parameters, lr=0.25), "mse")
        assert m.optimizer.param_groups[0]["lr"] == 0.25

    @pytest.mark.parametrize(
        ("given", "match"),
        [
            ("sparseadam", "optimizer: expected one of adadelta"),
            (3, "optimizer: expected a name or an optimizer, got 3. The names are adadelta"),
            (lambda: 3, r"optimizer: expected a function of the parameters, got one that fails \(.*\)"),
            (lambda parameters: 3, r"optimizer: expected a torch\.optim\.Optimizer from the function, got int"),
            (
                torch.optim.SGD([torch.zeros(2, requires_grad=True)]),
                "optimizer: expected one of this Model's parameters",
            ),
        ],
    )
    def test_refused(self, given, match):
        assert_refused(lambda: compiled(given), match, fw.InputError)


class TestProgress:
    def test_silent(self, capsys):
        compiled().fit(SAMPLES, TARGETS, epochs=2, verbose=0)
        assert capsys.readouterr() == ("", "")

    def test_lines(self, capsys):
        history = compiled(metrics=["mae"]).fit(SAMPLES, TARGETS, epochs=2, verbose=2).history
        first = f"epoch 1/2: loss {history['loss'][0]:.4g}, mae {history['mae'][0]:.4g}"
        assert capsys.readouterr().out.splitlines()[0] == first

    def test_not_too_many_lines(self, capsys):
        compiled().fit(SAMPLES, TARGETS, epochs=501, batch_size=4, verbose=1)
        lines = capsys.readouterr().out.splitlines()
        assert len(lines) == 101
        assert lines[-1].startswith("epoch 501/501: loss ")

    def test_bar_on_a_terminal(self, capsys, monkeypatch):
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        compiled().fit(SAMPLES, TARGETS, epochs=3, batch_size=1, validation_data=(SAMPLES, TARGETS))
        out, err = capsys.readouterr()
        assert out == ""
        assert "epoch 3/3: 100%" in err
        assert "12/12" in err
        assert "val_loss=" in err

    def test_an_interrupt_ends_the_bar(self, capsys, monkeypatch):
        def interrupt(epoch: int, logs: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        with pytest.raises(KeyboardInterrupt) as caught:
            compiled().fit(SAMPLES, TARGETS, epochs=3, callbacks=LambdaCallback(on_epoch_end=interrupt))
        assert capsys.readouterr().err.endswith("\n")  # while the traceback still refers to the bar
        del caught

    def test_lines_without_tqdm(self, capsys, monkeypatch):
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        monkeypatch.setitem(__import__("sys").modules, "tqdm", None)
        compiled().fit(SAMPLES, TARGETS)
        assert capsys.readouterr().out.startswith("epoch 1/1: loss ")


class TestRefused:
    @pytest.mark.parametrize(
        ("x", "y", "options", "match"),
        [
            ([[1, 2, 3]], [0], {}, r"X: expected shape \[samples, 2\], one number per input .*, got \[1, 3\]"),
            (torch.zeros(3, 2, 2), [0], {}, r"X: .*got \[3, 2, 2\]\. .*flatten images"),
            ([0, 1], [0, 1], {}, r"X: .*got \[2\]"),
            (np.zeros((0, 2)), [], {}, "X: expected at least one sample, got none"),
            (SAMPLES, TARGETS[:3], {}, "y: expected 4 targets, one per sample of X, got 3"),
            (SAMPLES, 1, {}, "y: expected 4 targets, one per sample of X, got one number"),
            (SAMPLES, [[0, 1]] * 4, {}, r"y: expected shape \[samples, 1\], .*for mse, got \[4, 2\]"),
            ([[0, float("nan")]], [0], {}, "X: expected finite numbers, got nan at sample 0, feature 1"),
            (SAMPLES, [0, 1, float("inf"), 0], {}, "y: expected finite numbers, got another at sample 2"),
            ([["a", "b"]], [0], {}, "X: expected numbers, got <U1"),
            (torch.ones(4, 2) * 1j, TARGETS, {}, r"X: expected real numbers, got torch\.complex64"),
            (SAMPLES, torch.ones(4) * 1j, {}, r"y: expected real numbers, got torch\.complex64"),
            ([[0, None]], [0], {}, r"X: expected numbers in .*Convert it: numpy\.array\("),
            (DataLoader(SAMPLES), None, {}, "X: expected numbers, got a DataLoader. .*write a loop of your own"),
            (SAMPLES, TARGETS, dict(verbose=[1]), r"verbose: expected 0, 1 or 2, got \[1\]"),
            (iter(SAMPLES), TARGETS, {}, "X: expected numbers in a tensor, an array or lists, got <list_iterator"),
            (SAMPLES, TARGETS, dict(batch_size=0), "batch_size: expected a whole number of at least 1, got 0"),
            (SAMPLES, TARGETS, dict(epochs=-1), "epochs: expected a whole number of at least 0, got -1"),
            (SAMPLES, TARGETS, dict(verbose=3), "verbose: expected 0, 1 or 2, got 3"),
            (SAMPLES, TARGETS, dict(validation_split=2), "validation_split: expected a probability"),
            (SAMPLES, TARGETS, dict(validation_split=0.01), "validation_split: expected a share that leaves samples"),
            (SAMPLES, TARGETS, dict(validation_split=0.99), "validation_split: expected a share that leaves samples"),
            (
                SAMPLES,
                TARGETS,
                dict(validation_split=0.5, validation_data=(SAMPLES, TARGETS)),
                r"validation_split: expected 0 beside validation_data, got 0\.5",
            ),
            (SAMPLES, TARGETS, dict(validation_data=SAMPLES), r"validation_data: expected a pair \(X, y\), got"),
            (SAMPLES, TARGETS, dict(validation_data=([[1]], [1])), r"validation_data\[0\]: expected shape"),
            (SAMPLES, TARGETS, dict(validation_data=(SAMPLES, [1])), r"validation_data\[1\]: expected 4 targets"),
        ],
    )
    def test_fit(self, x, y, options, match):
        m = compiled()
        before = m.weight.clone()
        assert_refused(lambda: m.fit(x, y, **options), match, fw.InputError)
        assert torch.equal(m.weight, before)

    def test_parameters_that_no_optimizer_has(self):
        """Such a training would change nothing, and say nothing."""
        m = compiled()
        m.load_state_dict(m.state_dict(), assign=True)
        match = "optimizer: expected one of this Model's parameters, .*replaced, compile the Model once more"
        assert_refused(lambda: m.fit(SAMPLES, TARGETS), match, fw.InputError)
        m = compiled().requires_grad_(False)
        match = "model: expected a parameter that requires a gradient, got none"
        assert_refused(lambda: m.fit(SAMPLES, TARGETS), match, fw.InputError)

    @pytest.mark.parametrize("change", [dict(optimizer="adan"), dict(loss="mes"), dict(metrics="acuracy")])
    def test_a_refused_compile_changes_nothing(self, change):
        m = compiled(metrics=["mae"])
        before = m.optimizer, m.loss_function, m.metrics
        with pytest.raises(fw.InputError):
            m.compile(**{"optimizer": "adam", "loss": "huber", "metrics": "mse", **change})
        assert (m.optimizer, m.loss_function, m.metrics) == before

    def test_before_compile(self):
        for call in (Model(xor()).fit, Model(xor()).evaluate):
            assert_refused(
                lambda call=call: call(SAMPLES, TARGETS), "model: expected one that has been c", fw.InputError
            )

    @pytest.mark.parametrize("losses", [{}, dict(loss_function="mse", loss="mse")])
    def test_one_loss(self, losses):
        assert_refused(
            lambda: Model(xor()).compile("sgd", **losses), "loss: expected one loss, got (none|both)", fw.InputError
        )

# SPDX-License-Identifier: MIT
"""Every message of diagnostics."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

import freewire as fw
from freewire.studies import Diagnostics, plot_diagnostics, read_diagnostics
from tests.studies.training import classes, train
from tests.support.messages import assert_refused

pytestmark = pytest.mark.usefixtures("one_thread")


class TestConstruction:
    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"net": nn.Linear(5, 3)}, "net: expected a freewire Network, got Linear. Pass the Network in it"),
            ({"net": nn.Sequential(nn.Flatten(), classes()[0])}, "net: expected a freewire Network, got Sequential."),
            ({"every": 0}, "every: expected a whole number of at least 1, got 0."),
            ({"every": 2.0}, "every: expected a whole number of at least 1, got 2.0."),
            ({"keep": 0}, "keep: expected a whole number of at least 1, got 0."),
            ({"writer": 3}, "writer: expected an object with add_scalar, got int. Pass a SummaryWriter."),
            ({"optimizer": None}, "optimizer: expected a torch.optim.Optimizer, got NoneType."),
            ({"log": 3}, "path: expected a str, bytes or os.PathLike, got int."),
            (
                {"log": "no/such/folder.jsonl"},
                "log: expected a file in an existing folder, got 'no/such/folder.jsonl'.",
            ),
            (
                {"figure": "no/such/folder.png"},
                "figure: expected a file in an existing folder, got 'no/such/folder.png'.",
            ),
            (
                {"figure": "picture.txt"},
                "figure: expected a picture's name, such as 'diagnostics.png', got 'picture.txt'.",
            ),
            ({"log": "."}, "log: expected a file, got '.', which is a folder."),
        ],
    )
    def test_arguments(self, changed, said):
        net = classes()[0]
        given = {"net": net, "optimizer": torch.optim.SGD(net.parameters(), lr=0.1), **changed}
        assert_refused(lambda: Diagnostics(**given), said, fw.InputError)
        if isinstance(given["optimizer"], torch.optim.Optimizer):
            assert not given["optimizer"]._optimizer_step_pre_hooks

    def test_optimizer_of_others(self):
        net, other = classes()[0], nn.Linear(2, 2)
        for parameters, said in (
            (
                other.parameters(),
                "optimizer: expected one that trains the network, got one without its weight and bias.",
            ),
            ([net.weight], "optimizer: expected one that trains the network, got one without its bias."),
            (
                [*net.parameters(), *other.parameters()],
                "optimizer: expected one of this network's parameters only, got one with 2 more",
            ),
        ):
            optimizer = torch.optim.SGD(parameters, lr=0.1)
            assert_refused(lambda: Diagnostics(net, optimizer), said, fw.InputError)  # noqa: B023 (called at once)

    def test_meta(self):
        net = fw.Network(fw.generators.mlp([2, 1]), device="meta")
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        assert_refused(
            lambda: Diagnostics(net, optimizer), "net: expected weights, got a network on the", fw.InputError
        )

    def test_compiled_network(self):
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        assert train(net, optimizer, Diagnostics(torch.compile(net), optimizer), x, y, 1)[0]["units"] == 27


class TestStep:
    @pytest.mark.parametrize(
        ("changed", "said"),
        [
            ({"x": [1.0]}, "x: expected a torch.Tensor, got list."),
            ({"x": torch.ones(32, 4)}, r"x: expected shape \[..., 5\], one feature per input, got \[32, 4\]."),
            ({"x": torch.ones(32, 5).double()}, "x: expected torch.float32, the network's type, got torch.float64."),
            ({"x": torch.ones(0, 5)}, r"x: expected at least one sample, got shape \[0, 5\]. Skip empty batches."),
            ({"y": torch.zeros(31, dtype=torch.long)}, "y: expected 32 targets, one per sample of x, got 31."),
            (
                {"loss": torch.ones(2)},
                r"loss: expected one number, the loss before the step, got tensor\(\[1., 1.\]\).",
            ),
            ({"loss": "low"}, "loss: expected one number, the loss before the step, got 'low'."),
            (
                {"loss_fn": nn.CrossEntropyLoss(reduction="none")},
                r"loss_fn: expected a function that returns the loss, .*, got torch.float32 of shape \[32\]. Average",
            ),
            ({"loss_fn": torch.ones(())}, r"loss_fn: expected a function, got tensor\(1.\). It is called as"),
            ({"loss_fn": lambda outputs, y: 0.5}, "loss_fn: expected a function that returns the loss, .*, got 0.5."),
            (
                {"loss_fn": lambda outputs, y: torch.ones(())},
                "loss_fn: expected a loss that is computed from the first",
            ),
        ],
    )
    def test_arguments(self, changed, said):
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        diagnostics = Diagnostics(net, optimizer)
        train(net, optimizer, None, x, y, 1)
        given = {"x": x, "y": y, "loss_fn": cross_entropy, **changed}
        assert_refused(lambda: diagnostics.step(**given), said, fw.InputError)
        assert not diagnostics.records
        train(net, optimizer, None, x, y, 10)
        assert diagnostics.step(x, y, cross_entropy)["step"] == 10  # it goes on

    def test_wrong_order(self):
        """A call between backward and step would combine one batch's step with the next batch."""
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        diagnostics = Diagnostics(net, optimizer, every=1)

        def iteration():
            loss = cross_entropy(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            diagnostics.step(x, y, cross_entropy, loss)
            optimizer.step()

        iteration()
        said = (
            r"step: expected a call between optimizer.step\(\) and the next backward, got one after another backward."
        )
        assert_refused(iteration, said, fw.InputError)

    def test_zero_grad_between(self):
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        diagnostics = Diagnostics(net, optimizer, every=1)
        for set_to_none in (True, False):
            train(net, optimizer, None, x, y, 1)
            optimizer.zero_grad(set_to_none)
            assert diagnostics.step(x, y, cross_entropy)["gradient_norm"] > 0

    def test_closed_and_empty(self):
        net, x, y = classes()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        diagnostics = Diagnostics(net, optimizer)
        said = "diagnostics: expected a measurement, got none yet."
        for results in (diagnostics.nodes, diagnostics.edges, diagnostics.plot):
            assert_refused(results, said, fw.InputError)
        assert str(diagnostics) == "Diagnostics: nothing measured yet."
        assert diagnostics.report() == []
        assert_refused(lambda: diagnostics.load_state_dict({}), "state: expected what state_dict", fw.InputError)
        train(net, optimizer, None, x, y, 2)
        assert str(diagnostics).startswith("Diagnostics: nothing measured in 2 steps. Call step(x, y, loss_fn, loss)")
        assert repr(diagnostics) == "Diagnostics(2 steps, every=10, 0 records)"
        diagnostics.close()
        diagnostics.close()
        assert_refused(lambda: diagnostics.step(x, y, cross_entropy), "step: expected open diagnostics", fw.InputError)


class TestResults:
    def test_other_files(self, tmp_path):
        net = classes()[0]
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        path = tmp_path / "notes.txt"
        for content in ("my notes", "my notes\n", '{"step": 1}\n', '{"steps": '):
            path.write_text(content)
            said = "log: expected a new file or a log of diagnostics, got '.*', which has other content."
            assert_refused(lambda: Diagnostics(net, optimizer, log=path), said, fw.InputError)
            assert path.read_text() == content
        path.write_text('{"step": 0, "loss": 1, "levels": {}}\n[]\n')
        said = "path: expected a log of diagnostics, got '.*', whose line 2 is no record."
        assert_refused(lambda: read_diagnostics(path), said, fw.FileFormatError)
        with pytest.raises(FileNotFoundError):
            read_diagnostics(tmp_path / "missing.jsonl")

    def test_plot(self, monkeypatch):
        assert_refused(lambda: plot_diagnostics([]), "records: expected at least one record, got none.", fw.InputError)
        records = [{"levels": {"level": [1]}}, {"levels": {"level": [1, 2]}}]
        said = "records: expected those of one network, got several with different levels."
        assert_refused(lambda: plot_diagnostics(records), said, fw.InputError)
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        said = "matplotlib: expected it to be installed, got no such package. Install it: pip install freewire.viz.."
        assert_refused(lambda: plot_diagnostics(records), said, fw.BuildError)

# SPDX-License-Identifier: MIT
"""Direct calls of a network's operators with wrong arguments, on every device."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.support.graphs import CASES
from tests.support.tensors import batch_of, network


def shifted(words: Tensor) -> Tensor:
    """A packed plan whose header states more slots than it has."""
    words = words.clone()
    words[3] += 1
    return words


class TestRawChecks:
    """Direct calls with wrong arguments raise; they never reach the kernels."""

    def arguments(self, request: pytest.FixtureRequest, **changes: Any) -> tuple[list[Any], list[Any]]:
        """The arguments of a forward and of a backward, after the changes.

        Off the CPU an operator reads the plan's header from the host's memory. It is taken here before the words are
        changed, as a network takes it, and then changed with them: the words alone would not be noticed there.
        """
        net = network(CASES["random"]).to(request.getfixturevalue("device"))
        x, grad_y = batch_of(net, 3)
        plan, weight, bias, words = net.plan, net.weight.detach(), net.bias.detach(), net._placed.words
        header = None if request.node.callspec.params["device"] == "cpu" else plan.pack().header
        _, tape = torch.ops.freewire.forward(x, weight, bias, words, header, plan.num_outputs, plan.tape_rows)
        values = dict(x=x, grad_y=grad_y, weight=weight, bias=bias, words=words, header=header, tape=tape)
        values |= dict(outputs=plan.num_outputs, inputs=plan.num_inputs, biases=len(bias), rows=plan.tape_rows)
        values |= {name: change(values[name]) for name, change in changes.items()}
        if header is not None and "words" in changes and values["words"].dtype == torch.int64:
            values["header"] = tuple(values["words"][: len(header)].tolist())
        forward = [values[k] for k in ("x", "weight", "bias", "words", "header", "outputs", "rows")]
        backward = [values[k] for k in ("grad_y", "tape", "weight", "words", "header", "inputs", "biases")]
        return forward, [*backward, True, True]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"x": lambda t: t[:, 1:]}, r"x: expected shape \[batch, 9\]"),
            ({"x": lambda t: t[0]}, r"x: expected shape \[batch, 9\]"),
            (
                {"x": lambda t: t.int(), "weight": lambda t: t.int(), "bias": lambda t: t.int()},
                "x: expected one of float32",
            ),
            ({"x": lambda t: t.float()}, "weight: expected the element type of x"),
            ({"weight": lambda t: t[1:]}, "weight: expected a vector of"),
            ({"bias": lambda t: t[1:]}, "bias: expected a vector of"),
            ({"words": lambda t: t[:-1]}, r"plan: expected a plan that Plan.pack\(\)"),
            ({"words": lambda t: t.int()}, "plan: expected a contiguous int64 vector"),
            ({"words": lambda t: t * 0}, r"plan: expected a plan that Plan.pack\(\)"),
            ({"words": lambda t: shifted(t)}, r"plan: expected a plan that Plan.pack\(\)"),
            (
                {"header": lambda _: (1, 2)},
                r"header: expected the first \d+ words of the packed plan, or None .*got 2\.",
            ),
            ({"outputs": lambda n: n + 1}, "num_outputs: expected 5, got 6"),
            ({"rows": lambda n: n + 1}, "tape_rows: expected 0 or"),
        ],
    )
    def test_forward(self, request: pytest.FixtureRequest, device: str, changes: dict[str, Any], message: str) -> None:
        forward, _ = self.arguments(request, **changes)
        with pytest.raises(RuntimeError, match=message):
            torch.ops.freewire.forward(*forward)
        if "rows" not in changes:
            with pytest.raises(RuntimeError, match=message):
                torch.ops.freewire.inference(*forward[:-1])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"grad_y": lambda t: t[:, 1:]}, r"grad_y: expected shape \[batch, 5\]"),
            ({"grad_y": lambda t: t.float()}, "weight: expected the element type"),
            ({"tape": lambda t: t[1:]}, "tape: expected a vector of"),
            ({"tape": lambda t: t.float()}, "tape: expected the element type"),
            ({"weight": lambda t: t[1:]}, "weight: expected a vector of"),
            ({"words": lambda t: t[:-1]}, r"plan: expected a plan that Plan.pack\(\)"),
            ({"inputs": lambda n: n + 1}, "num_inputs: expected 9, got 10"),
            ({"biases": lambda n: n + 1}, "num_biases: expected 0 or"),
        ],
    )
    def test_backward(self, request: pytest.FixtureRequest, device: str, changes: dict[str, Any], message: str) -> None:
        _, backward = self.arguments(request, **changes)
        with pytest.raises(RuntimeError, match=message):
            torch.ops.freewire.backward(*backward)

# SPDX-License-Identifier: MIT
"""The suite of recurrent networks: candidates that agree, in short runs of the command."""

from __future__ import annotations

import pytest
import torch

from benchmarks.suites import recurrent

WIRING = recurrent.Wiring(nodes=60, edges=400, inputs=5, batch=3, steps=4)


def test_candidates_have_the_same_gradients():
    found = recurrent.candidates(WIRING.graph())
    x = [torch.randn(4, 3, 5).requires_grad_() for _ in found]
    with torch.no_grad():
        for other in x[1:]:
            other.copy_(x[0])
    for own, (run, _) in zip(x, found.values(), strict=True):
        run(own).sum().backward()
    for other in x[1:]:
        torch.testing.assert_close(other.grad, x[0].grad)


def test_a_candidate_that_computes_something_else_is_noticed():
    found = recurrent.candidates(WIRING.graph())
    found["torch CSR"] = (lambda x: found["freewire"][0](2 * x), [])
    with pytest.raises(RuntimeError, match="torch CSR: expected freewire's outputs, got others"):
        recurrent._table("quick", found, torch.randn(4, 3, 5), 1, 1)


@pytest.mark.slow
def test_the_command(capsys):
    recurrent.main(["--quick", "--rounds", "2"])
    recurrent.main(["--quick", "--rounds", "2", "--brain"])
    text = capsys.readouterr().out
    assert text.count("| freewire |") == 2
    assert "| nn.RNN |" in text
    assert "peak of the process" in text

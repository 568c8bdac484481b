# SPDX-License-Identifier: MIT
"""Random networks (tests/support/fuzz.py): a few on every device, and by night thousands on every instruction set."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from freewire.graph import ACTIVATIONS, AGGREGATIONS
from tests.conftest import SHIM
from tests.support import ROOT, fuzz
from tests.support.random_graphs import draw_graph
from tests.support.sanitize import ISAS

FEW, FEW_ON_THE_SHIM, MANY = 60, 10, 2000


def test_a_few(request: pytest.FixtureRequest, device: str) -> None:
    on_the_shim = request.node.callspec.params["device"] in SHIM
    assert fuzz.run(0, FEW_ON_THE_SHIM if on_the_shim else FEW) == []


@pytest.mark.nightly
def test_many() -> None:
    """Each instruction set has cases of its own; one that the processor lacks runs as the best that it has."""
    share = -(-MANY // len(ISAS))

    def run(i: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tests.support.fuzz", "--first", str(FEW + i * share), "--count", str(share)]
        environment = {**os.environ, "FREEWIRE_ISA": ISAS[i], "OMP_NUM_THREADS": "1"}
        return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for isa, done in zip(ISAS, pool.map(run, range(len(ISAS))), strict=True):
            assert done.returncode == 0, f"FREEWIRE_ISA={isa}\n{done.stdout}{done.stderr}"


def test_a_wrong_gradient_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(fuzz.FROM_VALUE, "linear", lambda grad, v: grad * 1.001)
    with pytest.raises(AssertionError, match="grad_"):
        check_some()


def test_a_wrong_value_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = fuzz.FUNCTIONS["linear"]
    monkeypatch.setitem(fuzz.FUNCTIONS, "linear", lambda z: right(z) + 1e-3)
    with pytest.raises(AssertionError, match=": y"):
        check_some()


def check_some() -> None:
    for seed in range(FEW):
        fuzz.check(fuzz.Case.draw(seed), most=4)


def test_a_case_is_its_seed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = fuzz.Case.draw(5), fuzz.Case.draw(5)
    assert one.net.graph.wiring_hash == other.net.graph.wiring_hash
    for a, b in zip((one.x, one.grad_y, *one.net.parameters()), (other.x, other.grad_y, *other.net.parameters()),
                    strict=True):  # fmt: skip
        assert torch.equal(a.nan_to_num(), b.nan_to_num())
        assert a.stride() == b.stride()
    monkeypatch.setattr(fuzz, "run", lambda first, count: [f"case {first}: {count}"])
    monkeypatch.setattr(sys, "argv", ["fuzz", "--first", "7", "--count", "2"])
    assert fuzz.main() == 1
    assert re.match(r"case 7: 2\nRepeat one by: .* --first CASE\n2 cases, 1 wrong", capsys.readouterr().out)


def test_the_graphs_have_every_shape() -> None:
    graphs = [draw_graph(np.random.default_rng(seed)) for seed in range(300)]
    fan_ins = np.concatenate([np.bincount(g.edge_index[1], minlength=g.num_nodes) for g in graphs])
    assert fan_ins.min() == 0
    assert fan_ins.max() > 200
    assert max(g.depth for g in graphs) > 30
    for known, codes in ((ACTIVATIONS, "activation"), (AGGREGATIONS, "aggregation")):
        assert set(np.concatenate([getattr(g, codes) for g in graphs])) == set(range(len(known)))
    for has in (
        lambda g: len(np.unique(g.edge_index, axis=1).T) < g.num_edges,  # parallel edges
        lambda g: set(g.inputs) & set(g.outputs),
        lambda g: np.isin(g.output_index, g.edge_index[0]).any(),
        lambda g: not g.reaches_output.all(),
        lambda g: not g.reachable_from_input.all(),
        lambda g: not g.num_edges,
        lambda g: not g.inputs,
    ):
        assert any(map(has, graphs))

# SPDX-License-Identifier: MIT
"""The examples of evolution, in a small form."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import freewire as fw
from tests.support.examples import imported

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestXor:
    @pytest.mark.nightly
    def test_it_is_solved(self, capsys):
        with imported("evolve_xor") as example:
            example.main(["--out", "made"])
        out = capsys.readouterr().out
        rows = re.findall(r"^(\d) (\d)  (\d\.\d\d)$", out, re.MULTILINE)
        assert [(a, b, round(float(y))) for a, b, y in rows] == [
            ("0", "0", 0),
            ("0", "1", 1),
            ("1", "0", 1),
            ("1", "1", 0),
        ]
        assert Path("made/xor.png").is_file()
        network = fw.Network(fw.read_graph("made/xor.json"))
        assert (network(torch.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]])) > 0.5).flatten().tolist() == [0, 1, 1, 0]

    def test_it_continues(self, capsys):
        with imported("evolve_xor") as example:
            example.main(["--generations", "2"])
            first = Path("demo/evolve_xor/search-0.jsonl").read_text()
            example.main(["--generations", "3"])
        assert len(re.findall(r"^\d \d  \d\.\d\d$", capsys.readouterr().out, re.MULTILINE)) == 8
        assert fw.read_graph("demo/evolve_xor/xor.json").inputs == (-1, -2)
        assert Path("demo/evolve_xor/xor.png").is_file()
        longer = Path("demo/evolve_xor/search-0.jsonl").read_text()
        assert longer.startswith(first)
        assert longer.count("\n") == 1 + 3 * 150

    def test_refused(self, capsys):
        with imported("evolve_xor") as example, pytest.raises(SystemExit):
            example.main(["--generations", "0"])
        assert "expected --generations of at least 1" in capsys.readouterr().err


class TestCartPole:
    @pytest.fixture(autouse=True)
    def needs_gymnasium(self):
        pytest.importorskip("gymnasium")

    def test_a_few_generations(self, capsys):
        with imported("evolve_cartpole") as example:
            example.main(["--generations", "3", "--population", "20", "--test", "3"])
        out = capsys.readouterr().out
        values = [float(value) for value in re.findall(r"best mean return +(\d+\.\d)", out)]
        assert 1 <= len(values) <= 3
        assert values[-1] > 9.5  # any network holds the pole for some steps
        assert Path("demo/evolve_cartpole/cartpole.png").is_file()

    def test_returns_are_those_of_single_episodes(self):
        """Against gymnasium's own environment of one pole, from the same starts and with the same network."""
        import gymnasium
        from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

        networks = [fw.Network(fw.generators.mlp([4, 3, 1], activation="tanh"), init="uniform") for _ in range(3)]
        with imported("evolve_cartpole") as example, torch.no_grad():
            found = example.returns(fw.Population(networks), 2, seed=5)
        environments = CartPoleVectorEnv(num_envs=6, max_episode_steps=500)
        environments.reset(seed=5)
        for k, start in enumerate(environments.state.T):
            one = gymnasium.make("CartPole-v1")
            one.reset(seed=0)
            one.unwrapped.state = tuple(start)
            observed, steps, ended = start, 0, False
            while not ended:
                with torch.no_grad():
                    right = networks[k // 2](torch.as_tensor(np.asarray(observed, np.float32))) > 0
                observed, _, fallen, cut, _ = one.step(int(right))
                steps, ended = steps + 1, fallen or cut
            assert found[k // 2, k % 2] == steps
            one.close()
        environments.close()

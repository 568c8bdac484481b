# SPDX-License-Identifier: MIT
"""The training script of examples/imagenet/ under torchrun: killed, on two machines, with other numbers of processes.

Everything here is one run, in different ways: its weights at the end are compared with those of the run that two
agents of torchrun carried out together, as two machines would, without being disturbed.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.support.examples import EXAMPLES

#: Six steps per epoch, each of four micro-batches; random numbers in training; averaged weights.
TINY = "--preset tiny --model-options channels=4 edge_drop=0.5 drop_rate=0.2 --epochs 3 --warmup-epochs 1 --batch 16"
TINY += " --micro-batch 4 --lr 0.02 --ema 0.8 --workers 1 --checkpoint-every 2 --log-every 1 --no-tensorboard"
STEPS = 18
LIMIT = 240  # seconds that any command may take; it takes about ten


def command(out: Path, data: Path, *options: str, torchrun: str) -> list[str]:
    script = [str(EXAMPLES / "imagenet" / "train.py"), str(data), "--out", str(out), *TINY.split(), *options]
    return [sys.executable, "-m", "torch.distributed.run", *torchrun.split(), *script]


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", **changes}


def run(*arguments, **options) -> str:
    """Run the command to its end; return what it printed."""
    done = subprocess.run(
        command(*arguments, **options), env=environment(), capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def weights(out: Path, step: int = STEPS) -> dict[str, torch.Tensor]:
    return load_file(out / "checkpoints" / f"step-{step:09}.safetensors")


def steps(out: Path) -> list[int]:
    """The steps of which training figures were written."""
    try:
        lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    found = [json.loads(line) for line in lines if line.endswith("}\n")]
    return [row["step"] for row in found if row["kind"] == "train"]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def alone(data: Path, out: Path, *options: str, rank: int, port: int, **variables: str) -> subprocess.Popen[str]:
    """Start one of two processes, as torchrun would."""
    variables |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return subprocess.Popen(
        [sys.executable, *command(out, data, *options, torchrun="")[3:]],
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def reference(digits, tmp_path_factory) -> Path:
    """The folder of a run on two machines, which is to say by two agents."""
    out = tmp_path_factory.mktemp("reference")
    where = f"--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:{free_port()} --rdzv-id r"
    folders = (out, out / "of the other machine")  # which writes nothing
    agents = [
        subprocess.Popen(
            command(folder, digits, "--keep", "99", torchrun=f"{where} --local-addr 127.0.0.1 --node-rank {number}"),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number, folder in enumerate(folders)
    ]
    printed = [agent.communicate(timeout=LIMIT)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], printed
    return out


class TestSeveralMachines:
    def test_one_of_them_writes(self, reference):
        wrote = [path for path in (reference, reference / "of the other machine") if (path / "checkpoints").exists()]
        assert len(wrote) == 1
        assert steps(wrote[0]) == list(range(1, STEPS + 1))

    def test_restarts_need_separate_stores(self, digits, tmp_path):
        """torchrun would let restarted processes look for those that are gone."""
        variables = {"TORCHELASTIC_USE_AGENT_STORE": "True", "GROUP_WORLD_SIZE": "2", "TORCHELASTIC_MAX_RESTARTS": "3"}
        process = alone(digits, tmp_path, rank=0, port=29999, **variables)
        printed = process.communicate(timeout=LIMIT)[0]
        assert process.returncode == 2
        assert re.match("train.py: --max-restarts: expected TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in", printed)

    def test_a_mistake_on_one_machine_ends_both(self, digits, tmp_path):
        """Neither waits for the other, and one sentence is printed, by process 0."""
        port = free_port()
        processes = [
            alone(digits, tmp_path / str(rank), "--val", str((digits / "val", "nowhere")[rank]), rank=rank, port=port)
            for rank in range(2)
        ]
        printed = [process.communicate(timeout=LIMIT)[0] for process in processes]
        assert [process.returncode for process in processes] == [2, 2], printed
        assert re.fullmatch("train.py: .*nowhere.*\n", printed[0]), printed
        assert printed[1] == ""


class TestStopped:
    def test_at_five_random_steps(self, reference, digits, tmp_path):
        """SIGKILL to either process, wherever it is; torchrun restarts both. Nothing differs by a bit in the end."""
        chance = random.Random(13)
        out, output = tmp_path / "run", tmp_path / "output.txt"
        torchrun = "--standalone --nproc-per-node 2 --max-restarts 5"
        with output.open("w") as file:
            agent = subprocess.Popen(
                command(out, digits, "--keep", "99", torchrun=torchrun), env=environment(), stdout=file, stderr=file
            )
        deadline = time.monotonic() + LIMIT

        def wait_for(starts: int, step: int) -> None:
            while output.read_text().count(" parameters, on ") < starts or step not in steps(out):
                assert agent.poll() is None, output.read_text()
                assert time.monotonic() < deadline, output.read_text()
                time.sleep(0.005)

        try:
            for number in range(5):
                wait_for(number + 1, 3 + 3 * number + chance.randrange(3))
                time.sleep(0.1 * chance.random())
                os.kill(chance.choice(children(agent.pid)), signal.SIGKILL)
            assert agent.wait(timeout=LIMIT) == 0, output.read_text()
        finally:
            agent.terminate()
            agent.wait()
        assert output.read_text().count(", from step ") == 5
        assert steps(out) == list(range(1, STEPS + 1))
        killed, whole = weights(out), weights(writer(reference))
        assert killed.keys() == whole.keys()
        assert [name for name in whole if not torch.equal(killed[name], whole[name])] == []

    def test_at_the_request_of_a_scheduler(self, reference, digits, tmp_path):
        """SIGTERM to all processes, those that read images too: a checkpoint is saved before they end."""
        torchrun = "--standalone --nproc-per-node 2"
        agent = subprocess.Popen(
            command(tmp_path, digits, "--keep", "99", "--checkpoint-every", "99", torchrun=torchrun),
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        while not any(row >= 3 for row in steps(tmp_path)):
            assert agent.poll() is None
            time.sleep(0.005)
        agent.terminate()
        printed = agent.communicate(timeout=LIMIT)[0]
        assert agent.returncode != 0
        stopped = re.search(r"Stopped after step (\d+), as requested\. The same command continues\.", printed)
        assert stopped, printed
        found = weights(tmp_path, int(stopped[1]))
        if int(stopped[1]) % 2 == 0:
            whole = weights(writer(reference), int(stopped[1]))
            assert [name for name in whole if not torch.equal(found[name], whole[name])] == []


def writer(reference: Path) -> Path:
    """The folder of the machine of process 0, which is the one that came first."""
    return next(path for path in (reference, reference / "of the other machine") if (path / "checkpoints").exists())


class TestOtherProcesses:
    @pytest.fixture
    def half(self, reference, tmp_path) -> Path:
        """A copy of the run as it was in the middle of the second epoch."""
        out = tmp_path / "run"
        (out / "checkpoints").mkdir(parents=True)
        shutil.copy(writer(reference) / "checkpoints" / "step-000000008.safetensors", out / "checkpoints")
        return out

    def differences(self, out: Path, reference: Path, step: int) -> dict[str, float]:
        """How far the tensors of each kind are apart at a step, relative to the change since the eighth step."""
        one, other, start = weights(out, step), weights(writer(reference), step), weights(writer(reference), 8)
        sums: dict[str, list[float]] = {}
        for name in one:
            if one[name].is_floating_point() and name != "counts":
                kind = sums.setdefault(name.split(".")[0] + (" statistics" if "running" in name else ""), [0.0, 0.0])
                kind[0] += (one[name] - other[name]).square().sum().item()
                kind[1] += (start[name] - other[name]).square().sum().item()
        return {kind: (apart / moved) ** 0.5 for kind, (apart, moved) in sums.items()}

    def test_one_continues_the_run_of_two(self, half, reference, digits):
        """After two steps only rounding differs, and the running statistics, which are those of fewer micro-batches."""
        printed = run(half, digits, "--keep", "99", torchrun="--standalone --nproc-per-node 1")
        assert "(processes x passes x images: 1 x 4 x 4), fp32, cpu, from step 8" in printed
        found = self.differences(half, reference, 10)
        assert max(found["model"], found["momentum"], found["average"]) < 1e-2, found

    def test_divided_parameters(self, half, reference, digits):
        """A run with whole parameters goes on with divided ones: after two steps, only rounding differs."""
        run(half, digits, "--fsdp", "--keep", "99", torchrun="--standalone --nproc-per-node 2")
        found = self.differences(half, reference, 10)
        assert max(found.values()) < 1e-2, found

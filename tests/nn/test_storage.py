# SPDX-License-Identifier: MIT
"""Files that are saved, read, overwritten and killed at once by threads and processes."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

import freewire as fw
from freewire.nn import serialization
from tests.support.graphs import CASES
from tests.support.messages import assert_refused
from tests.support.storage import finish, start

#: Overwrites a file in place for as long as the main thread reads it.
OVERWRITTEN = """
import os, sys, threading, time
import freewire as fw
path = sys.argv[1]
fw.save(fw.Network(fw.generators.mlp([100, 1000, 100])), path)  # 4 MB
whole, end, counts = open(path, "rb").read(), time.monotonic() + 0.8, {True: 0, False: 0}

def overwrite():
    while time.monotonic() < end:
        with open(path, "r+b") as file:
            file.truncate(len(whole) // 20)
            file.truncate(0)
            file.write(whole)

thread = threading.Thread(target=overwrite)
thread.start()
while time.monotonic() < end:
    try:
        fw.load(path)
        counts[True] += 1
    except fw.FileFormatError:
        counts[False] += 1
thread.join()
fw.load(path)
print(counts[True], counts[False])
"""

#: Forks three savers that believe to have the same process number; each has two saving threads and reads meanwhile.
AT_ONCE = """
import os, sys, threading, time
import torch
import freewire as fw
folder, seconds = sys.argv[1], float(sys.argv[2])
os.getpid = lambda: 1  # as in containers
nets = [fw.Network(fw.generators.mlp([10, 40, 5 + k])) for k in range(3)]
for net in nets:
    torch.nn.init.constant_(net.weight, len(net.graph.outputs))
wirings = {net.graph.num_nodes: net.graph for net in nets}

def check(k):
    net = fw.load(f"{folder}/net")
    assert (net.weight == len(net.graph.outputs)).all()
    for ending in ("json", "csv.gz"):
        g = fw.read_graph(f"{folder}/g.{ending}")
        assert g.num_edges == wirings[g.num_nodes].num_edges

def save(k):
    fw.save(nets[k], f"{folder}/net")
    for ending in ("json", "csv.gz"):
        fw.write_graph(nets[k].graph, f"{folder}/g.{ending}")

def repeat(function, k):
    try:
        while time.monotonic() < end:
            function(k)
    except BaseException:
        import traceback
        traceback.print_exc()
        os._exit(1)

save(0)
children = []
for _ in range(3):
    child = os.fork()
    if not child:
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=repeat, args=(save, k)) for k in (0, 1)]
        for thread in threads:
            thread.start()
        repeat(check, 2)
        for thread in threads:
            thread.join()
        os._exit(0)
    children.append(child)
sys.exit(any([os.waitpid(child, 0)[1] for child in children]))
"""

#: Loads a network of 4 million edges; prints the file's size, and the peak of memory beyond what imports take.
MEMORY = """
import os, subprocess, sys
make = "import sys, numpy as np, freewire as fw; src, dst = np.divmod(np.arange(4_000_000), 2000); " \\
    "fw.save(fw.Network(fw.Graph.from_edges(src, dst + 2000), bias=False), sys.argv[1])"
subprocess.run([sys.executable, "-c", make, sys.argv[1]], check=True)
import freewire as fw
def resident(which):  # not getrusage, which knows the peak of the process that started this one
    status = open("/proc/self/status").read()
    return 1024 * int(status.partition(which + ":")[2].split()[0])

start = resident("VmRSS")
net = fw.load(sys.argv[1])
print(os.path.getsize(sys.argv[1]), resident("VmHWM") - start)
"""

#: Saves until it is killed. A version is a number of nodes; each has its own weights.
ENDLESS = """
import itertools, sys
import torch
import freewire as fw
folder = sys.argv[1]
nets = [fw.Network(fw.generators.mlp([50, 400, k])) for k in (1, 2, 3)]
for k, net in enumerate(nets, 1):
    torch.nn.init.constant_(net.weight, k)
print("ready", flush=True)
for net in itertools.cycle(nets):
    fw.save(net, f"{folder}/net")
    for ending in ("json", "csv", "graphml.gz"):
        fw.write_graph(net.graph, f"{folder}/g.{ending}")
"""


class TestOverwritten:
    """Files that other programs overwrite in place."""

    @pytest.mark.nightly  # for seconds; the next test cuts the file at one moment
    def test_loading_survives(self, tmp_path):
        """A map of a file that becomes shorter kills the process with SIGBUS."""
        loaded, refused = map(int, finish(start(OVERWRITTEN, tmp_path / "net")).split())
        assert refused > 0
        assert loaded + refused > 5

    @pytest.mark.parametrize("length", [0, 100, 5000])
    def test_cut_short_after_it_is_opened(self, length, tmp_path, monkeypatch):
        open_it = serialization.open_to_read

        def open_and_cut(*arguments):
            file = open_it(*arguments)
            os.truncate(tmp_path / "net", length)
            return file

        fw.save(fw.Network(CASES["random"]), tmp_path / "net")
        assert length < (tmp_path / "net").stat().st_size
        monkeypatch.setattr(serialization, "open_to_read", open_and_cut)
        assert_refused(
            lambda: fw.load(tmp_path / "net"),
            ".*net: expected a whole safetensors file, got one that cannot be read",
            fw.FileFormatError,
        )

    @pytest.mark.nightly
    @pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
    def test_memory(self, tmp_path):
        """The network takes 3.1 times the file; beside it there is at most one copy of the file."""
        child = subprocess.run([sys.executable, "-c", MEMORY, tmp_path / "net"], capture_output=True, text=True)
        assert not child.returncode, child.stderr
        size, peak = map(int, child.stdout.split())
        assert size > 70_000_000
        assert peak < 4.2 * size


@pytest.mark.slow
def test_saving_and_reading_at_once(tmp_path):
    finish(start(AT_ONCE, tmp_path, 0.8))
    assert sorted(os.listdir(tmp_path)) == ["g.csv.gz", "g.json", "net"]


@pytest.mark.nightly
def test_saving_and_reading_at_once_for_long(tmp_path):
    finish(start(AT_ONCE, tmp_path, 30))
    assert sorted(os.listdir(tmp_path)) == ["g.csv.gz", "g.json", "net"]


@pytest.mark.nightly
def test_killed_at_any_moment(tmp_path):
    """After a kill the files are whole and of one version, and the next save leaves nothing but them."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    moments = random.Random(seed)
    names = ["g.csv", "g.graphml.gz", "g.json", "net"]
    left = 0
    for _ in range(20):
        with start(ENDLESS, tmp_path) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(moments.uniform(0, 0.3))
            process.send_signal(signal.SIGKILL)
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        found = sorted(os.listdir(tmp_path))
        left += len([name for name in found if name.endswith(".partial")])
        for name in [name for name in names if name in found]:
            if name == "net":
                net = fw.load(tmp_path / name)
                assert (net.weight == len(net.graph.outputs)).all()
            else:
                g = fw.read_graph(tmp_path / name)
                k = len(g.outputs)
                assert k in (1, 2, 3)
                assert g.num_edges == 400 * (50 + k)
        net = fw.Network(fw.generators.mlp([50, 400, 2]))
        torch.nn.init.constant_(net.weight, 2)
        fw.save(net, tmp_path / "net")
        for name in names[:-1]:
            fw.write_graph(net.graph, tmp_path / name)
        assert sorted(os.listdir(tmp_path)) == names
    print(f"{left} partial files were left by kills")
    assert left > 0, "no kill was in the middle of a save"

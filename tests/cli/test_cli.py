# SPDX-License-Identifier: MIT
"""The command line: what each command prints and writes, exit codes, ``--json``, and users' mistakes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch

import freewire as fw
from freewire import cli
from freewire.cli import bench
from freewire.errors import BuildError
from tests.support.commands import run, run_json
from tests.support.tables import ID, write_table


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with a graph's and a network's file in it."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    net = fw.Network(fw.generators.random_graph(3, 20, 2, 4, activation="tanh", seed=0))
    fw.save(net, "net.safetensors")
    fw.write_graph(net.graph, "wires.json")
    Path("wires.csv").write_text("source,target,weight\na,h,0.5\nb,h,-1\nh,y,2\na,y,1\n")
    return tmp_path


class TestInfo:
    def test_graph(self, capsys, folder):
        code, out, err = run(capsys, "info", "wires.json")
        assert (code, err) == (0, "")
        graph = fw.read_graph("wires.json")
        assert out == f"wires.json: a graph\n\n{fw.metrics.summary(graph)}\n\n{fw.Network(graph).plan}\n"

    def test_network(self, capsys, folder):
        record = run_json(capsys, "info", "net.safetensors")
        net = fw.load("net.safetensors")
        assert record["kind"] == "network"
        assert record["wiring_hash"] == net.graph.wiring_hash
        assert record["summary"]["edges"] == net.graph.num_edges
        assert record["summary"]["stored_weights"] == 1.0
        assert record["plan"]["flops_per_sample"] == net.plan.flops
        assert record["parameters"]["count"] == net.weight.numel() + net.bias.numel()
        assert record["parameters"]["weight"]["std"] == pytest.approx(net.weight.std(correction=0).item())
        assert record["parameters"]["bias"]["zeros"] == 1.0
        assert "zeros" in run(capsys, "info", "net.safetensors")[1]

    def test_a_network_that_has_diverged(self, capsys, folder):
        net = fw.load("net.safetensors")
        with torch.no_grad():
            net.weight[:2] = torch.tensor([torch.nan, -torch.inf])
            net.bias[:] = torch.nan
        fw.save(net, "net.safetensors")
        record = run_json(capsys, "info", "net.safetensors")["parameters"]
        assert record["weight"]["not_finite"] == 2
        assert record["weight"]["max"] == net.weight[2:].max().item()
        assert record["bias"] == {"zeros": 0, "not_finite": net.bias.numel()}
        out = run(capsys, "info", "net.safetensors")[1]
        assert f"0.0% zeros, {net.bias.numel()} NaN or infinite" in out

    def test_how_a_file_is_read(self, capsys, folder):
        Path("numbers.csv").write_text("0;2;7\n1;2;7\n2;3;7\n0;3;7\n")
        options = ("--inputs", "1,0", "--source", "0", "--target", "1", "--header", "no", "--activation", "tanh")
        record = run_json(capsys, "info", "numbers.csv", *options)
        assert record["summary"]["activations"] == {"linear": 1, "tanh": 1}
        assert (record["summary"]["inputs"], record["summary"]["edges"]) == (2, 4)
        wanted = fw.read_graph("numbers.csv", inputs=[1, 0], activation="tanh", source=0, target=1, header=False)
        assert record["wiring_hash"] == wanted.wiring_hash

    @pytest.mark.parametrize("suffix", [".csv.gz", ".parquet", ".feather"])
    def test_tables(self, capsys, folder, suffix):
        columns = {"a": [ID, ID], "b": [ID + 1, 5], "n": [3, 4], "s": [1, -1]}
        write_table(Path(f"t{suffix}"), columns)
        Path("nodes.csv").write_text(f"root_id\n5\n{ID + 1}\n{ID}\n6\n")
        options = ("--source", "a", "--target", "b", "--sign", "3", "--nodes", "nodes.csv", "--recurrent")
        assert run(capsys, "convert", f"t{suffix}", "out.json", *options, "--weight", "n")[0] == 0
        g = fw.read_graph("out.json")
        assert g.nodes == (5, ID + 1, ID, 6)
        assert sorted(zip(g.weight.tolist(), g.sign.tolist(), strict=True)) == [(3, 1), (4, -1)]
        record = run_json(capsys, "info", f"t{suffix}", *options, "--no-weight")
        assert record["summary"]["stored_weights"] == 0
        code, _, err = run(capsys, "info", f"t{suffix}", *options)
        assert code == 2
        assert "Pass weight=" in err
        assert run(capsys, "plot", f"t{suffix}", *options, "--weight", "n", "-o", "out.dot")[0] == 0
        code, _, err = run(capsys, "info", f"t{suffix}", *options, "--weight", "n", "--no-weight")
        assert (code, "--no-weight: expected no --weight with it, got 'n'." in err) == (2, True)

    def test_a_matrix(self, capsys, folder):
        arrays = {"row": [0, 1], "col": [1, 2], "data": [0.5, 2.0], "shape": [3, 3]}
        np.savez("matrix.npz", format=b"coo", **{name: np.array(values) for name, values in arrays.items()})
        assert run(capsys, "convert", "matrix.npz", "matrix.csv")[0] == 0
        assert Path("matrix.csv").read_text() == "source,target,weight\n0,1,0.5\n1,2,2.0\n"

    def test_names_are_text_where_one_is(self, capsys, folder):
        Path("names.csv").write_text('source,target\n"1",h\n"x, y",h\nh,"2"\n')
        for inputs in ('"x, y",1', ' 1 ,"x, y"'):
            assert run_json(capsys, "info", "names.csv", "--inputs", inputs)["summary"]["inputs"] == 2

    def test_a_number_names_a_node_whose_name_is_text(self, capsys, folder):
        Path("text.csv").write_text("source,target\n1,2\n2,3\n01,3\n")  # 01 is no number, so all are text
        for inputs in ("1,01", "01,1"):
            record = run_json(capsys, "info", "text.csv", "--inputs", inputs, "--outputs", "3")
            wanted = fw.read_graph("text.csv", inputs=inputs.split(","), outputs=["3"])
            assert record["wiring_hash"] == wanted.wiring_hash

    def test_text_and_other_names_in_one_graph(self, capsys, folder):
        graph = fw.Graph.from_networkx(nx.DiGraph([("a", "y"), (7, "y"), (("b", 1), "y"), ("7", "y")]))
        fw.write_graph(graph, "mixed.json")
        record = run_json(capsys, "info", "mixed.json", "--inputs", "a,7,\"('b', 1)\"")
        assert record["summary"]["inputs"] == 3  # the text 7 comes before the number
        wanted = fw.read_graph("mixed.json", inputs=["a", "7", ("b", 1)])
        assert record["wiring_hash"] == wanted.wiring_hash


class TestConvert:
    @pytest.mark.parametrize("out", ["out.json", "out.graphml", "out.json.gz"])
    def test_a_graph(self, capsys, folder, out):
        code, text, _ = run(capsys, "convert", "wires.csv", out)
        assert (code, text) == (0, f"{out}: 4 nodes, 4 edges, from wires.csv\n")
        found, wanted = fw.read_graph(out), fw.read_graph("wires.csv")
        assert found.wiring_hash == wanted.wiring_hash
        np.testing.assert_array_equal(found.weight, wanted.weight)

    def test_a_network_to_a_graph_keeps_what_was_learnt(self, capsys, folder):
        assert run(capsys, "convert", "net.safetensors", "learnt.json")[0] == 0
        x, net = torch.randn(5, 3), fw.load("net.safetensors")
        assert torch.equal(fw.Network(fw.read_graph("learnt.json"))(x), net(x))

    def test_a_graph_to_a_network(self, capsys, folder):
        state = torch.random.get_rng_state()
        for name, seed in (("one", "1"), ("again", "1"), ("two", "2")):
            assert run(capsys, "convert", "wires.json", f"{name}.safetensors", "--seed", seed)[0] == 0
        one, again, two = (fw.load(f"{name}.safetensors").weight for name in ("one", "again", "two"))
        assert torch.equal(one, again)
        assert not torch.equal(one, two)
        assert torch.equal(torch.random.get_rng_state(), state)
        run(capsys, "convert", "wires.csv", "stored.safetensors")
        assert sorted(fw.load("stored.safetensors").weight.tolist()) == [-1, 0.5, 1, 2]


class TestBench:
    def test_times(self, capsys, folder):
        record = run_json(capsys, "bench", "wires.json", "--batch", "7", "--seconds", "0.01", "--threads", "1")
        assert record["batch"] == 7
        assert set(record["seconds"]) == {f"{n} {w}" for n in ("freewire", "dense") for w in ("forward", "training")}
        assert 0 < record["seconds"]["freewire forward"] < record["seconds"]["freewire training"]
        out = run(capsys, "bench", "net.safetensors", "--batch", "7", "--seconds", "0.01")[1]
        assert "7 samples per call, float32" in out

    def test_what_is_timed(self):
        net, x = fw.Network(fw.generators.mlp([2, 3, 1]), dtype=torch.float64), torch.randn(4, 2, dtype=torch.float64)
        assert torch.equal(y := bench._forward(net, x)(), net(x))
        assert not y.requires_grad
        wanted = torch.autograd.grad(net(x).sum(), net.weight)[0]
        train = bench._training(net, x)
        for _ in range(2):  # gradients are not summed over calls
            train()
            torch.testing.assert_close(net.weight.grad, wanted)

    @pytest.mark.parametrize("sizes", [(784, 1990, 10, 32), (3, 40, 1, 3), (5, 1, 1, 1)])
    def test_the_dense_network_has_as_many_parameters(self, sizes):
        net = fw.Network(fw.generators.random_graph(*sizes, seed=0))
        dense, wanted = bench.dense_like(net), sum(p.numel() for p in net.parameters())
        found, hidden = sum(p.numel() for p in dense.parameters()), dense[0].out_features
        assert dense(torch.zeros(sizes[0])).shape == (sizes[2],)
        assert abs(found - wanted) <= hidden + sizes[0] + sizes[2] + 2 or hidden == 1  # half a step of its size


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((), "the following arguments are required: COMMAND"),
            (("draw", "wires.json"), "argument COMMAND: invalid choice: 'draw'"),
            (("info",), "the following arguments are required: FILE"),
            (("info", "gone.json"), "path: expected a graph file, got 'gone.json', which is not a file."),
            (("info", "."), "path: expected a name that ends in .graphml"),
            (
                ("info", "wires.csv", "--inputs", "nobody"),
                "--inputs: expected names of nodes, got 'nobody'. Use those of this graph: 'a', 'h', 'b', 'y'.",
            ),
            (("info", "wires.csv", "--outputs", "y,"), "--outputs: expected names of nodes, got ''."),
            (("info", "wires.csv", "--inputs", ""), "--inputs: expected node names with commas between them, got ''."),
            (("info", "wires.csv", "--inputs", "a\nb"), "--inputs: expected node names with commas between them, got"),
            (("info", "wires.csv", "--inputs", '"a,b'), "--inputs: expected node names with commas between them, got"),
            (("info", "wires.csv", "--source", "9" * 5000, "--target", "1"), "source: expected one of the columns"),
            (("info", "wires.json", "--activation", "rleu"), "argument --activation: invalid choice: 'rleu'"),
            (("info", "wires.json", "--header", "no"), "header: expected None for .json, got False."),
            (("info", "net.safetensors", "--inputs", "0"), "--inputs: expected a graph file with it, got the network"),
            (("convert", "wires.json", "out.xyz"), "path: expected a name that ends in .graphml"),
            (("convert", "wires.json", "gone/out.json"), "gone"),
            (("convert", "wires.csv", "./wires.csv"), "OUT: expected another file than FILE"),  # its other columns
            (("plot", "wires.json", "-o", "out.bmp"), "--out: expected a name that ends in .png"),
            (("plot", "wires.json", "-o", ""), "--out: expected a name that ends in .png"),
            (("plot", "wires.json", "--dpi", "19"), "--dpi: expected a number from 20 to 1,200, got 19."),
            (("plot", "wires.json", "--dpi", "1201"), "--dpi: expected a number from 20 to 1,200, got 1201."),
            (("convert", "wires.json", "a.safetensors", "--seed", "9" * 30), "--seed: expected a number from 0 to"),
            (("bench", "--batch", "0"), "--batch: expected a number from 1 to 2,147,483,647, got 0."),
            (("bench", "--threads", "100000"), "--threads: expected a number from 1 to "),
            (("bench", "--seconds", "nan"), "--seconds: expected a number from 0.01 to 86,400, got nan."),
            (
                ("bench", "--device", "meta"),
                "--device: expected one that this torch can use, got 'meta' ('a meta tensor",
            ),
            (
                ("info", "wires.csv", "--inputs", "-1,2"),
                "expected one argument, perhaps written with = as in --inputs=-1",
            ),
            (("info", "wires.csv", "--output", "y"), "unrecognized arguments: --output y"),
            (("bench", "--device", "no_such"), "--device: expected one that this torch can use, got 'no_such'"),
        ],
    )
    def test_one_sentence_and_exit_code_2(self, capsys, folder, arguments, message):
        code, out, err = run(capsys, *arguments)
        assert (code, out) == (2, "")
        assert message in err
        assert err.startswith("python -m freewire")

    def test_the_machines_fault_is_exit_code_1(self, capsys, folder, monkeypatch):
        def missing(*_):
            raise BuildError("matplotlib: expected the package, got none. Install it.")

        monkeypatch.setattr("freewire.cli.plot.plot", missing)
        code, _, err = run(capsys, "plot", "wires.json")
        assert (code, err) == (1, "python -m freewire plot: matplotlib: expected the package, got none. Install it.\n")

    @pytest.mark.parametrize(
        ("error", "code", "message"),
        [
            (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate"), 1, "out of memory ([enforce fail]"),
            (MemoryError(), 1, "out of memory (MemoryError). Use a smaller graph or batch, or a larger machine."),
            (torch.OutOfMemoryError("CUDA out of memory."), 1, "out of memory (CUDA out of memory.)."),
            (OSError(28, "No space left on device", "out.png"), 1, "out.png: No space left on device"),
            (PermissionError(13, "Permission denied", "in.json"), 2, "in.json: Permission denied"),
        ],
    )
    def test_too_little_memory_or_disk(self, capsys, folder, monkeypatch, error, code, message):
        def fail(*_):
            raise error

        monkeypatch.setattr("freewire.cli.info.metrics.summary", fail)
        found, out, err = run(capsys, "info", "wires.json")
        assert (found, out) == (code, "")
        assert err.startswith(f"python -m freewire info: {message}")

    def test_a_bug_has_a_traceback(self, folder, monkeypatch):
        def fail(*_):
            raise RuntimeError("a bug")

        monkeypatch.setattr("freewire.cli.info.metrics.summary", fail)
        with pytest.raises(RuntimeError, match="a bug"):
            cli.main(["info", "wires.json"])

    def test_interrupted(self, capsys, folder, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr("freewire.cli.info.metrics.summary", interrupt)
        assert run(capsys, "info", "wires.json")[0] == 130


class TestHelp:
    def test_every_command_teaches(self, capsys):
        code, out, _ = run(capsys, "--help")
        assert code == 0
        for command in ("info", "plot", "convert", "bench", "doctor"):
            assert f"    {command}" in out
            code, text, _ = run(capsys, command, "--help")
            assert code == 0
            assert f"python -m freewire {command}" in text.partition("examples:")[2]
            assert "``" not in text


class TestPlot:
    @pytest.mark.parametrize(
        ("out", "head"),
        [("net.png", b"\x89PNG"), ("a.svg", b"<?xml"), ("a.html", b"<!doctype html>"), ("a.dot", b"digraph")],
    )
    def test_formats(self, capsys, folder, out, head):
        options = () if out == "net.png" else ("-o", out)
        code, text, _ = run(capsys, "plot", "net.safetensors", *options)
        assert (code, text) == (0, f"{out}: drawn from net.safetensors\n")
        assert Path(out).read_bytes().lower().startswith(head.lower())

    def test_pixels_per_inch(self, capsys, folder):
        width = {}
        for dpi in (50, 100):
            run(capsys, "plot", "wires.json", "-o", "a.png", "--dpi", str(dpi))
            width[dpi] = int.from_bytes(Path("a.png").read_bytes()[16:20])
        assert width[100] == 2 * width[50]


def test_a_process_of_its_own(folder):
    """``python -m freewire``, and a reader that stops reading."""
    command = [sys.executable, "-m", "freewire", "info", "wires.json", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0

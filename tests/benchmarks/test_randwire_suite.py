# SPDX-License-Identifier: MIT
"""benchmarks/suites/randwire.py: plain PyTorch and freewire compute one network; a quick run writes every figure."""

from __future__ import annotations

import argparse
import json
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import freewire as fw
from benchmarks.harness import randwire_table, report
from benchmarks.harness.command import checkout, spelled
from benchmarks.harness.correctness import WrongResultError
from benchmarks.peers import randwire_checkouts
from benchmarks.peers.randwire_candidates import CANDIDATES, MEASURES, PLAIN, Candidate, Setup, check, cost, make, step
from benchmarks.peers.randwire_plain import PlainRandWire, fold
from benchmarks.suites import randwire
from tests.benchmarks.test_report import MACHINE, results, timing

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = Setup(channels=4, size=64, batch=4, classes=10, compiler="eager", tiny=True)
BY_LABEL = {one.label: one for one in CANDIDATES}


def relative(got: torch.Tensor, expected: torch.Tensor) -> float:
    return float((got - expected).norm() / expected.norm())


def pair(setup: Setup = TINY) -> tuple[fw.models.RandWire, PlainRandWire, torch.Tensor, torch.Tensor]:
    """freewire and plain PyTorch in float64, and the images and classes."""
    model = setup.model().double()
    images, classes = setup.data()
    return model, PlainRandWire.of(model), images.double(), classes


class TestPlain:
    @pytest.mark.parametrize("tiny", [True, False])
    def test_outputs_and_gradients_equal_freewires(self, tiny: bool) -> None:
        model, plain, images, classes = pair(replace(TINY, tiny=tiny))
        expected, got = step(plain, images, classes), step(model, images, classes)
        assert relative(got, expected) < 1e-10
        ours, theirs = dict(model.named_parameters()), dict(plain.named_parameters())
        assert ours.keys() == theirs.keys()
        for name, parameter in theirs.items():
            assert parameter.grad is not None
            assert float(parameter.grad.norm()) > 0, name
            assert relative(ours[name].grad, parameter.grad) < 1e-10, name
        for name, statistic in plain.named_buffers():
            torch.testing.assert_close(dict(model.named_buffers())[name], statistic, rtol=1e-10, atol=1e-12)

    def test_folded_networks_agree_in_eval_mode(self) -> None:
        model, plain, images, _ = pair()
        with torch.no_grad():
            expected = plain.eval()(images)
            for other in (model.eval(), model.fuse(), fold(plain)):
                assert relative(other(images), expected) < 1e-10
        assert not any(isinstance(module, nn.BatchNorm2d) for module in fold(plain).modules())
        assert any(isinstance(module, nn.BatchNorm2d) for module in plain.modules())

    def test_stays_in_channels_last_without_freewires_operators(self) -> None:
        plain = make(BY_LABEL[PLAIN], TINY, "inference")
        assert isinstance(plain, PlainRandWire)
        seen = []
        for stage in plain.stages:
            stage.register_forward_hook(lambda module, args, result: seen.append(result))
        with torch.no_grad(), torch.profiler.profile() as profiler:
            plain(TINY.data()[0])
        assert len(seen) == 3
        assert all(maps.is_contiguous(memory_format=torch.channels_last) for maps in seen)
        names = {event.key for event in profiler.key_averages()}
        assert "aten::mul" in names
        assert not any("freewire" in name for name in names)


class TestCheck:
    @pytest.mark.parametrize("what", MEASURES)
    def test_wrong_network_is_not_timed(self, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(randwire, "_step_bytes_here", lambda label, setup: 1)

        def wrong(model: fw.models.RandWire, setup: Setup) -> nn.Module:
            with torch.no_grad():
                model.stages[1].weight[3] += 0.5
            return model

        broken = Candidate("broken", wrong)
        with pytest.raises(WrongResultError, match=f"broken, {what}, float32, outputs: expected .* at most 0.001"):
            randwire.measure(TINY, [BY_LABEL[PLAIN], replace(broken, measures=(what,))], rounds=1, block=1e-4)

    def test_error_hidden_in_float32_is_found_in_float64(self) -> None:
        def rounded(model: fw.models.RandWire, setup: Setup) -> nn.Module:
            return model.float() if next(model.parameters()).dtype == torch.float32 else Rounded(model)

        class Rounded(nn.Module):
            def __init__(self, model: nn.Module) -> None:
                super().__init__()
                self.model = model

            def forward(self, x: torch.Tensor) -> torch.Tensor:
                return self.model(x).float().double()

        model = TINY.model()
        one = Candidate("rounded", rounded, ("inference",))
        module = make(one, TINY, "inference", model)
        with pytest.raises(WrongResultError, match=r"rounded, inference, float64, outputs: expected .* at most 1e-10"):
            check(one, TINY, "inference", module, model)

    def test_missing_gradient_and_wrong_shape_are_reported(self) -> None:
        model = TINY.model()
        frozen = deepcopy(model).to(memory_format=torch.channels_last)
        frozen.stages[0].weight.requires_grad_(False)
        own = BY_LABEL["freewire"]
        with pytest.raises(WrongResultError, match=r"gradients: expected \[\d+\], got \[\d+\]"):
            check(own, TINY, "training", frozen, model)
        with pytest.raises(WrongResultError, match=r"other, inference: expected finite outputs \[4, 10\]"):
            check(Candidate("other", own.build, same=False), TINY, "inference", nn.Flatten(), model)

    def test_missing_compiler_is_reported(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def none(*args: Any, **options: Any) -> None:
            raise RuntimeError("no C++ compiler\nmore")

        monkeypatch.setattr(torch, "compile", none)
        compiled = replace(BY_LABEL["plain, compiled"], measures=("inference",))
        rows = randwire.measure(TINY, [replace(BY_LABEL[PLAIN], measures=("inference",)), compiled], rounds=1)
        assert rows[2] == {
            "candidate": "plain, compiled",
            "measure": "inference",
            "refusal": "RuntimeError: no C++ compiler",
        }

    def test_project_that_raises_is_reported(self) -> None:
        def broken(model: fw.models.RandWire, setup: Setup) -> nn.Module:
            raise AssertionError("too old")

        plain = replace(BY_LABEL[PLAIN], measures=("inference",))
        rows = randwire.measure(TINY, [plain, Candidate("other", broken, same=False)], rounds=1)
        assert rows[1] == {"candidate": "other", "refusal": "AssertionError: too old"}
        with pytest.raises(AssertionError, match="too old"):
            randwire.measure(TINY, [plain, Candidate("ours", broken)], rounds=1)

    def test_sizes_of_the_paper(self) -> None:
        model = Setup().model()
        assert cost(model, Setup(size=224)) == cost(PlainRandWire.of(model), Setup(size=224))
        found = cost(model, Setup(size=224))
        assert 5.4e6 < found["parameters"] < 5.8e6
        assert 560e6 < found["multiply_adds"] < 610e6


SEUNGWONPARK = """
import torch
from .parts import Part
class RandWire(torch.nn.Module):
    def __init__(self, hp, graphs):
        super().__init__()
        assert [len(g["edges"]) > g["num_nodes"] for g in graphs] == [True] * 3
        self.part = Part(hp.model.input_maps, hp.model.classes)
    def forward(self, x):
        return self.part(x)
"""
PART = """
import torch
class Part(torch.nn.Linear):
    def forward(self, x):
        return super().forward(x.mean((2, 3)))
"""
JIAMINREN = """
import torch
from utils import build_graph, save_graph, Part
class CNN(Part):
    def __init__(self, args, num_classes):
        super().__init__(3, num_classes)
        self.sigmoid = torch.nn.Sigmoid()
        self.graphs = [build_graph(args.nodes, args) for _ in range(3)]
        for graph in self.graphs:
            save_graph(graph, args.model_dir)
    def forward(self, x):
        return super().forward(x * self.sigmoid(self.bias[0]))
"""
UTILS = PART + "def build_graph(): raise OSError\ndef save_graph(): raise OSError\n"


class TestCheckouts:
    def test_each_gets_our_wiring(self, tmp_path: Path) -> None:
        first, second = tmp_path / "first", tmp_path / "second"
        (first / "model").mkdir(parents=True)
        second.mkdir()
        for path, text in {
            first / "model" / "model.py": SEUNGWONPARK,
            first / "model" / "parts.py": PART,
            second / "model.py": JIAMINREN,
            second / "utils.py": UTILS,
        }.items():
            path.write_text(text)
        setup = replace(TINY, size=224, checkouts={"seungwonpark": str(first), "jiaminren": str(second)})
        before = dict(sys.modules)
        try:
            for label in ("seungwonpark/RandWireNN", "JiaminRen/RandWireNN"):
                module = make(BY_LABEL[label], setup, "inference")
                assert isinstance(module, nn.Module)
                assert module(setup.data()[0]).shape == (4, 10)
                assert cost(module, setup)["parameters"] == 3 * 10 + 10
            assert sys.modules.get("utils") is before.get("utils")
            graphs = module.graphs
            assert [sorted(map(tuple, map(sorted, graph.edges))) for graph in graphs] == [
                sorted(map(tuple, stage.graph.edge_index.T.tolist())) for stage in setup.model().stages
            ]
            too_small = make(BY_LABEL["JiaminRen/RandWireNN"], replace(setup, size=64), "inference")
            assert too_small == "its pooling takes maps of 7 x 7, images of 224 x 224"
        finally:
            for name in [name for name in sys.modules if name.startswith("_randwire_of_")]:
                del sys.modules[name]

    def test_missing_checkout_says_where_to_get_it(self, tmp_path: Path) -> None:
        for name, label in (("seungwonpark", "seungwonpark/RandWireNN"), ("jiaminren", "JiaminRen/RandWireNN")):
            url = randwire_checkouts.SOURCES[name]
            expected = f"no checkout given: git clone {url}, then --checkout {name}=PATH"
            assert make(BY_LABEL[label], TINY, "training") == expected
            empty = make(BY_LABEL[label], replace(TINY, checkouts={name: str(tmp_path)}), "training")
            assert str(empty).startswith("the given checkout has no file model")
            assert str(empty).endswith(f": git clone {url}")

    def test_names_and_commands(self, tmp_path: Path) -> None:
        names = randwire_checkouts.SOURCES
        assert checkout(f"jiaminren={tmp_path}", names) == ("jiaminren", tmp_path)
        expected = "expected NAME=PATH with NAME one of seungwonpark, jiaminren"
        with pytest.raises(argparse.ArgumentTypeError, match=expected):
            checkout("tensorneat=.", names)
        command = spelled("benchmarks.suites.randwire", ["--checkout", "jiaminren=/home/me"], names)
        assert command == "python -m benchmarks.suites.randwire --checkout jiaminren=PATH"


def invented(**more: Any) -> dict[str, Any]:
    """Invented results in which every goal is just met or just missed, in turn."""
    sizes = {"parameters": 5_600_000, "multiply_adds": 583_000_000}
    rows = [
        {"candidate": "plain PyTorch", **sizes, "step_bytes": 1_000_000_000},
        {"candidate": "plain, compiled", **sizes, "no_step_bytes": "killed"},
        {"candidate": "freewire", **sizes, "step_bytes": 501_000_000},
        {"candidate": "freewire, fused", **sizes},
        {"candidate": "freewire, fused, bfloat16", **sizes},
        {"candidate": "other", "refusal": "no checkout given"},
    ]
    for label, what, seconds, sick in (
        ("plain PyTorch", "inference", 0.375, 0),
        ("plain, BN folded, compiled", "inference", 0.1249, 0),
        ("freewire, fused", "inference", 0.125, 1),
        ("freewire, fused, bfloat16", "inference", 0.125 / 1.7, 0),
        ("plain PyTorch", "latency", 0.15, 0),
        ("freewire, fused", "latency", 0.1001, 0),
        ("plain PyTorch", "training", 1.0, 0),
        ("plain, compiled", "training", 0.66, 0),
        ("freewire", "training", 0.66, 0),
    ):
        speedup = {"inference": 0.375, "latency": 0.15, "training": 1.0}[what] / seconds
        row = {"candidate": label, "measure": what, "per_image": seconds / 10, "speedup": speedup}
        rows.append({**row, **timing(seconds, sick)})
    about = {"model": "m()", "batch": 10, "size": 224, "compiler": "inductor", "plain": "plain PyTorch"}
    machine = {**MACHINE, "peaks": {"flops": 2 * 583e6 / 0.0125 / 0.6001}}
    return {"quick": False, "machine": machine, "command": "python -m benchmarks.x", **about, "rows": rows, **more}


class TestTable:
    def test_every_figure_is_on_the_page(self) -> None:
        page = report.page({**results(), "randwire": invented()})
        assert "## RandWire compared with plain PyTorch" in page
        assert "`m()`, 10 images of 224 x 224" in page
        assert "(155 GFLOP/s, measured in the same run)" in page
        assert (
            "| plain PyTorch | 37.5 ± 5 % (1.00x, 20%) | 15 ± 5 % (1.00x) | 100 ± 5 % (1.00x) | 1,000 | 5.60 | 583.00 |"
        ) in page
        assert "| freewire, fused | 12.5 ± 5 % (3.00x, 60%) ! | 10 ± 5 % (1.50x) | - | - | 5.60 | 583.00 |" in page
        assert "| freewire, fused, bfloat16 | 7.35 ± 5 % (5.10x) | - | - | - | 5.60 | 583.00 |" in page
        assert "| other | - | - | - | - | - | - |" in page
        assert "- other: no checkout given" in page
        assert "- plain, compiled, memory: killed" in page
        assert "1 of 9 measurements are marked" in page

    def test_verdicts_follow_from_the_figures(self) -> None:
        disturbed = "Measured on a disturbed machine."
        assert randwire_table.goals(invented()) == [
            "- inference: at least 60% of the machine's peak: **met**, freewire, fused reaches 60%.",
            "- inference: freewire, fused, bfloat16 at least 1.7 times as fast as freewire, fused: **met**, 1.70 "
            f"times. {disturbed}",
            "- latency: freewire, fused at least 1.5 times as fast as plain PyTorch: **not met**, 1.50 times.",
            "- training: freewire at least 1.5 times as fast as plain PyTorch: **met**, 1.52 times.",
            "- training: freewire no slower than plain, compiled: **met**, 1.00 times.",
            "- inference: freewire, fused no slower than plain, BN folded, compiled: **not met**, 1.00 times. "
            f"{disturbed}",
            "- training: freewire, compiled no slower than freewire: not measured.",
            "- inference: freewire, fused, compiled no slower than freewire, fused: not measured.",
            "- training: at most 0.5 times plain PyTorch's memory: **not met**, 0.50 times.",
        ]
        assert all("not measured" in line for line in randwire_table.goals({**invented(), "rows": []}))


def test_memory_is_the_same_in_another_process_and_at_least_the_gradients() -> None:
    found = {measured("freewire", TINY) for measured in (randwire._step_bytes_here, randwire.step_bytes)}
    assert len(found) == 1
    gradients = sum(parameter.nbytes for parameter in TINY.model().parameters())
    assert found.pop() > gradients


@pytest.mark.slow
def test_quick_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "new" / "randwire.json"
    before = torch.get_num_threads()
    randwire.main(["--quick", "--threads", "1", "--json", str(path)])
    assert torch.get_num_threads() == before
    content = json.loads(path.read_text())
    assert content["quick"] is True
    assert content["compiler"] == "eager"
    rows = content["rows"]
    timed = {(row["candidate"], row["measure"]) for row in rows if "median" in row}
    wanted = {(one.label, what) for one in CANDIDATES if one.same for what in one.measures}
    assert timed == wanted
    assert {row["candidate"] for row in rows if "refusal" in row} == {one.label for one in CANDIDATES if not one.same}
    for row in rows:
        if "median" in row:
            assert row["per_image"] == pytest.approx(row["median"] / (1 if row["measure"] == "latency" else 4))
    sizes = {row["candidate"]: row for row in rows if "step_bytes" in row}
    assert set(sizes) == {label for label, what in wanted if what == "training"}
    assert len({row["parameters"] for row in sizes.values()}) == 1
    assert randwire_table.table(content) in capsys.readouterr().out


@pytest.mark.slow
def test_without_compiling(tmp_path: Path) -> None:
    randwire.main(["--quick", "--eager", "--json", str(tmp_path / "found.json")])
    rows = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert len({row["candidate"] for row in rows}) >= 4
    assert not any("compiled" in row["candidate"] for row in rows)

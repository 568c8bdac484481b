# SPDX-License-Identifier: MIT
"""Sizes past 32 bits: the index arithmetic of kernels and plans, on networks too large for the machine's memory.

csrc/testing/large_main.cpp says how: large indices into memory that is never touched.
"""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import freewire as fw
from freewire._native.planner import planner
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from freewire.plan import make_plan, memory
from tests.support import native, sanitize, simt
from tests.support.graphs import CASES
from tests.support.simt_torch import KERNELS

OVERCOMMIT = Path("/proc/sys/vm/overcommit_memory")
STRICT = OVERCOMMIT.exists() and OVERCOMMIT.read_text().strip() == "2"
NO_ADDRESSES = "this system reserves no addresses without memory behind them (vm.overcommit_memory is 2)"
CPU = ("csrc/cpu/isa/dispatch.cpp", *(f"csrc/cpu/isa/isa_{name}.cpp" for name in ("avx512", "avx2", "base")))
SOURCES = ["csrc/testing/large_main.cpp", *CPU, *(str(path.relative_to(native.ROOT)) for path in KERNELS)]
#: With kept rows, means, products and maxima; every edge reaches an output.
GRAPHS = ("random", "mixed_aggregations", "all_activations", "fan_in_33", "mlp")


@pytest.fixture(scope="module")
def program() -> native.Program:
    simt.build({"large": SOURCES}, ["plain"])
    return simt.program("large", "plain")


def written(folder: Path, name: str, dtype: torch.dtype) -> str:
    path, graph = folder / f"{name}.case", CASES[name]
    live = fw.Graph.from_edges(
        *graph.edge_index,
        num_nodes=graph.num_nodes,
        inputs=graph.input_index,  # every node of out-degree 0 is an output
        activation=[ACTIVATIONS[code] for code in graph.activation],
        aggregation=[AGGREGATIONS[code] for code in graph.aggregation],
    )
    assert make_plan(live).num_live_edges == live.num_edges, name
    sanitize.Case(name, live, dtype, 256, 128).write(path)
    return str(path)


@pytest.mark.slow
@pytest.mark.skipif(STRICT, reason=NO_ADDRESSES)
@pytest.mark.parametrize("dtype", sanitize.DTYPES, ids=str)
def test_far_indices_give_the_same_bits(program: native.Program, dtype: torch.dtype, tmp_path: Path) -> None:
    done = program.run(*(written(tmp_path, name, dtype) for name in GRAPHS))
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


#: A source, the header that is changed, its text and the text with a 32-bit index, and where the result differs.
INTS = {
    "rows_on_the_cpu": (
        "cpu/isa/isa_base.cpp",
        "cpu/network/forward_nodes.h",
        "int64_t{src[e]} * G",
        "src[e] * G",
        "CPU, y",
    ),
    "edges_on_the_cpu": (
        "cpu/isa/isa_base.cpp",
        "cpu/network/forward_nodes.h",
        "V w(weight[e]);",
        "V w(weight[int(e)]);",
        "CPU, y",
    ),
    "rows_on_a_gpu": (
        "cuda/network/streamed.cu",
        "cuda/network/rows.h",
        "data[row * stride",
        "data[unsigned(row) * unsigned(stride)",
        "CUDA, y",
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(STRICT, reason=NO_ADDRESSES)
@pytest.mark.parametrize("name", INTS)
def test_an_int_is_noticed(name: str, tmp_path: Path) -> None:
    """A source rebuilt with a 32-bit index gives a wrong result, or leaves the address range."""
    source, header, right, wrong, where = INTS[name]
    spoilt = simt.build_spoilt(SOURCES, f"csrc/{source}", header, right, wrong, tmp_path)
    case = written(tmp_path, "random", torch.float32)  # inputs are read on every level
    done = spoilt.run(case, FREEWIRE_ISA="base")
    assert done.returncode != 0
    assert done.returncode < 0 or where in done.stderr, done.stderr


#: All sources without torch and Python; each is compiled alone, its templates instantiated.
RAW = sorted({*KERNELS, *native.ROOT.glob("csrc/cpu/isa/isa_*.cpp"), *native.ROOT.glob("csrc/planner/*.cpp")})


@pytest.mark.slow
@pytest.mark.parametrize(
    "source", [p for p in RAW if p.name != "module.cpp"], ids=lambda p: f"{p.parent.name}/{p.name}"
)
def test_no_implicit_narrowing_conversion(source: Path) -> None:
    """Integers are narrowed by explicit casts only."""
    flags = "-fsyntax-only -Wconversion -Wno-sign-conversion -Wno-float-conversion -Werror -Wno-unknown-pragmas"
    command = [native.compiler(), *native.FLAGS.split(), *flags.split(), f"-I{native.ROOT / 'csrc'}", "-x", "c++"]
    done = subprocess.run([*command, str(source)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]


class TestPlan:
    PLAN = make_plan(fw.generators.random_graph(8, 50, 4, 6, "gelu", seed=0))

    def test_estimates(self) -> None:
        """Batches past 32 bits, and so bytes past 40 bits."""
        few, many = (memory.call_bytes(self.PLAN, batch, 8, training=True, threads=2) for batch in (2**20, 2**40))
        assert many == pytest.approx(few * 2**20, rel=1e-2)
        few, many = (
            memory.gpu_call_bytes(self.PLAN, batch, 4, training=True, shared_bytes=0) for batch in (2**20, 2**40)
        )
        assert many == pytest.approx(few * 2**20, rel=1e-2)
        assert self.PLAN.tape_bytes(2**40, 8) == self.PLAN.tape_rows * 2**43

    def test_estimates_past_64_bits(self) -> None:
        """In proportion, so that no batch is so large that its size overflows and seems to fit."""
        few, many = (memory.call_bytes(self.PLAN, batch, 8, training=True, threads=2) for batch in (2**24, 2**60))
        assert many == few * 2**36

    def test_edges(self) -> None:
        """The packed header holds sizes past 32 bits."""
        far = replace(self.PLAN, num_biases=2**33 - 8)
        assert far.sizes.num_biases == 2**33 - 8
        assert far.pack().header[2 + planner.plan_layout()["sizes"].index("num_biases")] == far.num_biases

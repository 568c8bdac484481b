# SPDX-License-Identifier: MIT
"""The raw kernels and the planner under ASan, UBSan and (kernels only) TSan: ``make test-sanitize``.

It needs a C++ compiler ($CXX, else c++, g++ or clang++) with its sanitizer runtimes, prints one line per run, and exits
with status 0 or 1. build/sanitize/ keeps the cases and the programs, which are rebuilt only where a source changed.

pytest does not run under a sanitizer, since Python, torch and OpenMP would drown reports or cause false ones. Instead
the cases are drawn here, answered by the float64 reference, and run by a program of the kernels alone
(csrc/testing/sanitize_main.cpp), on every instruction set that this CPU has; the planner's program
(csrc/testing/planner_main.cpp) draws its own. Bugs injected into the same programs show that a run can fail.
"""

from __future__ import annotations

import os
import shutil
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import freewire as fw
from freewire._native.planner import planner
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from freewire.ops import network_reference
from freewire.plan.steps import step_graph
from tests.support import native
from tests.support.cpu_sequences import sequence_cases
from tests.support.dense_graphs import PARTS, planted_graph
from tests.support.graphs import CASES
from tests.support.native import ROOT, SANITIZERS
from tests.support.tensors import DTYPES, NARROW
from tests.support.tolerances import with_tolerances

BUILD = ROOT / "build" / "sanitize"

ROW_BYTES = (64, 128, 256)
BATCHES = (15, 16, 17, 33, 64, 65, 130)
FEW = (0, 1, 2, 3, 4, 7, 8)  # in rows shorter than a cache line, whatever the plan's choice
SHORT_ROWS = (0, 16, 32)  # bytes; 0 is a row of one number
ISAS = ("base", "avx2", "avx512")  # narrowest first, as csrc/cpu/isa/dispatch.cpp lists them

#: Bug of csrc/testing/cases/injected_bugs.h to the program that must report it, and words of the report; the last
#: three are of stages.
BUGS = {
    "short_tape": ("address", ("AddressSanitizer", "READ of size", "backward_tile")),
    "short_y": ("address", ("AddressSanitizer", "WRITE of size", "write_outputs")),
    "short_gradient": ("address", ("AddressSanitizer", "WRITE of size", "run_backward")),
    "short_plan": ("address", ("AddressSanitizer", "READ of size", "run_nodes")),
    "overflow": ("address", ("signed integer overflow", "read_inputs")),
    "race": ("thread", ("data race", "backward_tile")),
    "wrong_number": ("address", ("grad_bias of all gradients: expected", "within")),
    "thread_count": ("address", ("expected the same bits from 1 and 4 threads",)),
    "short_results": ("address", ("AddressSanitizer", "WRITE of size", "MatrixProduct")),
    "short_map": ("address", ("AddressSanitizer", "WRITE of size", "StageInference")),
    "stage_race": ("thread", ("data race", "StageForward")),
}

#: Likewise, of sequences.
SEQUENCE_BUGS = {
    "short_kept": ("address", ("AddressSanitizer", "READ of size", "SequenceBackward")),
    "short_last": ("address", ("AddressSanitizer", "WRITE of size", "write_states")),
    "short_grad_states": ("address", ("AddressSanitizer", "WRITE of size", "write_states")),
    "sequence_race": ("thread", ("data race", "run_sequence")),
    "forgotten_states": ("address", ("y of other states: expected", "within")),
}

#: Likewise, of csrc/testing/planner_main.cpp.
PLANNER_BUG = ("short_level", ("AddressSanitizer", "WRITE of size 8", "planner::order"))

_RESULT_NAMES = ("y", "grad_x", "grad_weight", "grad_bias")


#: The sequence that they are injected into: more than one tile, and states kept before every second step.
BUGGY_SEQUENCE = "sequence-float32-33"


class SanitizeError(native.NativeError):
    """A check failed, or could not be made; the message says it all."""


# ---------------------------------------------------------------------------------- cases


@dataclass(frozen=True, eq=False)
class Case:
    """One network with the arguments of one call; csrc/testing/cases/case_file.h reads the file that `write` makes."""

    name: str
    graph: fw.Graph
    dtype: torch.dtype
    #: Maximum bytes of a tape row; see `row_bytes_used`.
    row_bytes: int
    batch: int
    bias: bool = True
    #: Whether x has infinities, NaN and huge numbers; results are then not compared with the reference.
    wild: bool = False
    plan: fw.plan.Plan = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", fw.plan.make_plan(self.graph, row_bytes=self.row_bytes))

    @property
    def row_bytes_used(self) -> int:
        """Bytes of a row in this batch, by the rule of csrc/cpu/network/tiling.h; 0 for a row of one number."""
        return 0 if self._tiling["columns"] == 1 else self._tiling["row_bytes"]

    @property
    def tiles(self) -> int:
        return self._tiling["tiles"]

    @property
    def _tiling(self) -> planner.Tiling:
        return planner.cpu_tiling(self.plan.sizes, self.batch, self.dtype.itemsize)

    def write(self, path: Path) -> None:
        arguments = _arguments(self.graph, self.dtype, self.batch, self.bias, self.wild)
        nothing = torch.empty(0, dtype=self.dtype)
        results = [] if self.wild else _results(self.graph, self.dtype, self.batch, self.bias)
        with path.open("wb") as file:
            file.write(b"fwcase02")
            file.write(struct.pack("<4q", DTYPES.index(self.dtype), self.batch, self.bias, not self.wild))
            packed = torch.from_numpy(self.plan.pack().words)
            for values in (packed, *(nothing if value is None else value for value in arguments)):
                file.write(struct.pack("<q", values.numel()) + bytes(values.untyped_storage())[: values.nbytes])
            for tolerance, values in results or [(0.0, torch.empty(0))] * len(_RESULT_NAMES):
                file.write(struct.pack("<dq", tolerance, values.numel()) + values.numpy().tobytes())


def every_kind(seed: int = 0) -> fw.Graph:
    """Every activation with every aggregation, twice: reading the inputs, and reading each other.

    Fan-in is 0, 1, 2, 3, 5, 31 or 33 (at most 5 deep inside, where terms are multiplied); sources repeat, so there are
    parallel edges. 37 inputs (registers hold 2 to 16), one of which is also an output; 106 outputs, in and before the
    last layer; some nodes reach no output.
    """
    rng = np.random.default_rng(seed)
    num_inputs, kinds = 37, len(ACTIVATIONS) * len(AGGREGATIONS)
    edges: list[tuple[int, int]] = []
    for node in range(num_inputs, num_inputs + 2 * kinds):
        deep = node >= num_inputs + kinds
        fan_in = int(rng.choice((0, 1, 2, 3, 5) if deep else (0, 1, 2, 3, 5, 31, 33)))
        edges += [(int(u), node) for u in rng.integers(0, num_inputs + deep * kinds, fan_in)]
    nodes = num_inputs + 2 * kinds
    outputs = [*range(nodes - 100, nodes), *range(num_inputs, num_inputs + 5), 1]
    return fw.Graph.from_edges(
        *np.array(edges).T,
        num_nodes=nodes,
        inputs=range(num_inputs),
        outputs=outputs,
        activation=["linear"] * num_inputs + list(ACTIVATIONS) * (2 * len(AGGREGATIONS)),
        aggregation=["sum"] * num_inputs + list(np.repeat(AGGREGATIONS, len(ACTIVATIONS))) * 2,
    )


def of_other_type(dtype: torch.dtype, i: int) -> bool:
    """Whether the other type of 16 bits has the i-th case: the two differ only in how a number is read and written."""
    return dtype in NARROW and i % 2 != NARROW.index(dtype)


def cases() -> Iterator[Case]:
    """All cases: every kind of node in every kernel at every batch, dense blocks, each shared graph once per type."""
    kinds, dense = every_kind(), [planted_graph(PARTS, seed=0), planted_graph(PARTS[::-1], seed=1)]
    for dtype in DTYPES:
        for i, batch in enumerate(FEW):
            yield Case(f"few-{str(dtype)[6:]}-{batch}", kinds, dtype, 256, batch, bias=i % 3 > 0)
        yield Case(f"few-{str(dtype)[6:]}-1-unbiased", kinds, dtype, 256, 1, bias=False)
        for batch in (1, 16 // max(dtype.itemsize, 4), 32 // max(dtype.itemsize, 4)):
            yield Case(f"few-{str(dtype)[6:]}-{batch}-wild", kinds, dtype, 256, batch, wild=True)
        # One tile and a sample: with more threads than tiles, a row of 256 bytes is cut into slices.
        for i, batch in enumerate((1, 3, 17, 256 // max(dtype.itemsize, 4) + 1)):
            for j, graph in enumerate((*dense, CASES["random"])):
                yield Case(f"shared{j}-{str(dtype)[6:]}-{batch}", graph, dtype, 256, batch, bias=(i + j) % 2 > 0)
        yield Case(f"shared-{str(dtype)[6:]}-wild", dense[0], dtype, 256, 65, wild=True)
        for row_bytes in ROW_BYTES:
            name = f"every_kind-{str(dtype)[6:]}-{row_bytes}"
            # 16 groups of tiles share the sums; a group has a second tile to add only if there are more than 16 tiles.
            batches = (*BATCHES, 16 * row_bytes // max(dtype.itemsize, 4) + 1)
            for i, batch in enumerate(batches):
                if of_other_type(dtype, i) and i + 1 < len(batches):
                    continue
                yield Case(f"{name}-{batch}", kinds, dtype, row_bytes, batch, bias=i % 3 > 0)
            yield Case(f"{name}-wild", kinds, dtype, row_bytes, 65, wild=True)
        for i, (name, graph) in enumerate(CASES.items()):
            if of_other_type(dtype, i):
                continue
            row_bytes, batch = ROW_BYTES[i % 3], BATCHES[-1 - i % 4]
            yield Case(f"{name}-{str(dtype)[6:]}", graph, dtype, row_bytes, batch, bias=i % 2 == 0)


@cache
def _arguments(
    graph: fw.Graph, dtype: torch.dtype, batch: int, bias: bool, wild: bool
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """x, weight, bias and grad_y of a case; values are of order one at every node whose aggregation allows it."""
    rng = np.random.default_rng(batch)
    dst = graph.edge_index[1]
    fan_in = np.bincount(dst, minlength=graph.num_nodes)[dst]
    summed = graph.aggregation[dst] == AGGREGATIONS.index("sum")
    x = rng.standard_normal((batch, len(graph.input_index)))
    weight = rng.standard_normal(graph.num_edges) / np.where(summed, np.sqrt(fan_in), 1)
    values = x, weight, rng.standard_normal(len(graph.computed_index)) / 2
    if wild:
        spoilt = (np.inf, -np.inf, np.nan, 1e30, -1e30, 1e-42, 7e3, -0.0, 88.8, -104.5)
        x[rng.random(x.shape) < 0.1] = rng.choice(spoilt)
        x.flat[: len(spoilt)] = spoilt
    x, weight, biases = (torch.from_numpy(value).to(dtype) for value in values)
    grad_y = torch.from_numpy(rng.standard_normal((batch, len(graph.output_index)))).to(dtype)
    return x, weight, biases if bias else None, grad_y


@cache
def _results(graph: fw.Graph, dtype: torch.dtype, batch: int, bias: bool) -> list[tuple[float, Tensor]]:
    """The float64 results, each with its tolerance."""
    x, weight, biases, grad_y = (
        None if a is None else a.double() for a in _arguments(graph, dtype, batch, bias, False)
    )
    assert x is not None
    assert weight is not None
    assert grad_y is not None
    parameters = (x, weight) if biases is None else (x, weight, biases)
    return with_tolerances(lambda given: _gradients(graph, given, grad_y), parameters, dtype)


def _gradients(graph: fw.Graph, parameters: Sequence[Tensor], grad_y: Tensor) -> list[Tensor]:
    """y, grad_x, grad_weight and grad_bias (empty where there is no bias) by the reference."""
    wiring, row = network_reference.Wiring.of_step(step_graph(graph))
    leaves = [p.detach().requires_grad_() for p in parameters]
    values = network_reference.node_values(wiring, leaves[0], leaves[1], leaves[2] if len(leaves) > 2 else None)
    y = values.index_select(1, torch.from_numpy(row[graph.output_index]))
    grads = torch.autograd.grad(y, leaves, grad_y, allow_unused=True) if y.requires_grad else [None] * 3
    found = [torch.zeros_like(p) if g is None else g for p, g in zip(leaves, grads, strict=False)]
    return [y.detach(), *found, *[grad_y.new_empty(0)] * (3 - len(found))]


# ---------------------------------------------------------------------------------- programs


def build() -> None:
    """A program a sanitizer, `Program`."""
    # What pays in large networks only is done in all: with stages shared by threads, and rows fetched early.
    sanitizers = {name: f"{flags} -DFREEWIRE_TINY_NETWORKS" for name, flags in SANITIZERS.items()}
    isas = sorted(str(p.relative_to(ROOT)) for p in ROOT.glob("csrc/cpu/isa/isa_*.cpp"))
    objects, programs = {}, {}
    for name, flags in sanitizers.items():
        if name == "thread":  # what threads share is decided above the kernels, and these take minutes to compile
            isas, flags = ["csrc/cpu/isa/isa_base.cpp"], f"{flags} -DFREEWIRE_BASE_ONLY"
        # The longest first.
        sources = [*reversed(isas), *(f"csrc/testing/sanitize_{part}.cpp" for part in ("stages", "main"))]
        sources += [f"csrc/cpu/isa/{part}.cpp" for part in ("paired_products", "matrix_unit", "dispatch")]
        parts = {f"{name}/{Path(source).stem}.o": (source, flags) for source in sources}
        objects.update(parts)
        programs[f"{name}/sanitize"] = (flags, list(parts))
    flags = SANITIZERS["address"]  # the planner starts no threads
    raw = (str(p.relative_to(ROOT)) for p in ROOT.glob("csrc/planner/*.cpp") if p.name != "module.cpp")
    parts = {f"address/planner/{Path(s).stem}.o": (s, flags) for s in (*sorted(raw), "csrc/testing/planner_main.cpp")}
    objects.update(parts)
    programs["address/plan"] = (flags, list(parts))
    native.build(BUILD, objects, programs)


class Program(native.Program):
    """The program of one sanitizer."""

    def __init__(self, sanitizer: str) -> None:
        super().__init__(BUILD / sanitizer / "sanitize")
        self.sanitizer = sanitizer
        done = self.run(FREEWIRE_ISA=ISAS[-1])
        if done.returncode or done.stdout.strip() not in ISAS:
            raise SanitizeError(f"{sanitizer}: expected the program to start, got\n{done.stdout}{done.stderr}")
        self.isas = ISAS[: ISAS.index(done.stdout.strip()) + 1]


def check(program: Program, isa: str, paths: Sequence[str]) -> None:
    """Run all cases; the program must find nothing to report."""
    start = time.perf_counter()
    done = program.run(*paths, FREEWIRE_ISA=isa)
    last = done.stdout.splitlines()[-1] if done.stdout else "the start"
    if done.returncode or done.stderr:
        raise SanitizeError(
            f"{program.sanitizer}, {isa}: expected no report, got one at {last}. Repeat it by FREEWIRE_ISA={isa} "
            f"{' '.join(program.command)} and that path.\n{done.stderr}"
        )
    if not last.startswith(f"{isa};"):
        raise SanitizeError(f"{program.sanitizer}: expected a run on {isa}, got {last.split(';')[0]}.")
    print(f"{program.sanitizer:7}  {last}; clean ({time.perf_counter() - start:.1f} s)", flush=True)


def check_bug(program: Program, isa: str, bug: str, path: str) -> None:
    """Run one case with a bug injected; the program must report that bug."""
    done = program.run("--inject", bug, path, FREEWIRE_ISA=isa)
    missing = [words for words in (BUGS | SEQUENCE_BUGS)[bug][1] if words not in done.stderr]
    if done.returncode == 0 or missing:
        raise SanitizeError(
            f"{program.sanitizer}, {isa}: expected the injected bug {bug!r} to be reported with {missing}, got status "
            f"{done.returncode} and\n{done.stdout}{done.stderr}"
        )


def check_planner() -> None:
    """Run the planner over graphs of its own (csrc/testing/planner_main.cpp), then with a bug injected."""
    program = native.Program(BUILD / "address" / "plan")
    start, done = time.perf_counter(), program.run()
    if done.returncode or done.stderr or not done.stdout.startswith("planner; "):
        raise SanitizeError(f"planner: expected no report, got one.\n{done.stdout}{done.stderr}")
    print(f"address  {done.stdout.strip()}; clean ({time.perf_counter() - start:.1f} s)", flush=True)
    done = program.run("--inject", PLANNER_BUG[0])
    if done.returncode == 0 or not all(words in done.stderr for words in PLANNER_BUG[1]):
        raise SanitizeError(
            f"planner: expected the injected bug {PLANNER_BUG[0]!r} to be reported with {PLANNER_BUG[1]}, got "
            f"status {done.returncode} and\n{done.stdout}{done.stderr}"
        )


def main() -> int:
    """Build, run every case on every instruction set, then show that injected bugs are found."""
    start = time.perf_counter()
    torch.set_num_threads(1)  # the reference's tensors are small
    try:
        build()
        print(f"built    {', '.join(SANITIZERS)} ({time.perf_counter() - start:.0f} s)", flush=True)
        written = time.perf_counter()
        folder = BUILD / "cases"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        paths = []
        for case in (*cases(), *sequence_cases()):
            paths.append(folder / f"{case.name}.case")
            case.write(paths[-1])
        print(f"written  {len(paths)} cases ({time.perf_counter() - written:.0f} s)", flush=True)
        programs = {sanitizer: Program(sanitizer) for sanitizer in SANITIZERS}
        runs = [(program, isa) for program in programs.values() for isa in program.isas]
        check_planner()
        small, sequence = (str(folder / f"{name}.case") for name in ("every_kind-float32-64-65", BUGGY_SEQUENCE))
        bugs = [
            (programs[name], isa, bug, path)
            for known, path in ((BUGS, small), (SEQUENCE_BUGS, sequence))
            for bug, (name, _) in known.items()
            for isa in programs[name].isas
        ]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(lambda run: check(*run, [str(path) for path in paths]), runs))
            list(pool.map(lambda arguments: check_bug(*arguments), bugs))
    except native.NativeError as error:
        print(error, file=sys.stderr)
        print("test-sanitize: FAILED", file=sys.stderr)
        return 1
    print(
        f"test-sanitize: {len(paths)} cases and the planner clean in {len(runs) + 1} runs, {len(bugs) + 1} injected "
        f"bugs reported ({time.perf_counter() - start:.0f} s)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

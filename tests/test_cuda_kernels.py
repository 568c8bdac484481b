# SPDX-License-Identifier: MIT
"""The CUDA kernels without a GPU: their unedited sources on the CPU shim over the sanitizers' cases, and under nvcc.

Every regime and width of tile, both types, all activations and aggregations, against the float64 reference; bitwise the
same in any order of blocks and threads; under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import product
from pathlib import Path

import pytest
import torch

from benchmarks import kernels
from tests import native, sanitize, simt
from tests.graphs import CASES

pytestmark = pytest.mark.slow

CUDA = kernels.SOURCES
Reports = dict[tuple[Path, str], Future[dict[str, kernels.Resources]]]
SOURCES = ["csrc/testing/cuda_main.cpp", *(str(path.relative_to(native.ROOT)) for path in CUDA)]


def chosen(kind: str, case: sanitize.Case) -> bool:
    """Which cases a kind of program runs: all, or under a sanitizer the small ones. Row widths are the CPU's."""
    every_kind = case.name.startswith("every_kind")
    if every_kind and case.row_bytes != 64:
        return False
    limit = {"plain": 10**9, "address": 6_000, "thread": 1_500}[kind]
    if case.dtype in sanitize.NARROW:  # another way only where numbers are read and written
        limit = min(limit // 4, 50_000)
    small = case.graph.num_edges * case.batch < limit
    return small or (case.name.startswith("long") and kind != "address")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Case files of each kind of program."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # the reference's tensors are small
    folder = tmp_path_factory.mktemp("cases")
    paths: dict[str, list[str]] = {"plain": [], "address": [], "thread": []}
    # More than one slice of the batch in the weight gradients: kSliceColumns of csrc/cuda/kernels.h is 2048.
    long = [sanitize.Case(f"long-{d}", CASES["diamond"], d, 64, 2049) for d in (torch.float32, torch.float64)]
    for case in (*sanitize.cases(), *long):
        kinds = [kind for kind in paths if chosen(kind, case)]
        if kinds:
            path = folder / f"{case.name}.case"
            case.write(path)
            for kind in kinds:
                paths[kind].append(str(path))
    torch.set_num_threads(before)
    return paths


@pytest.mark.parametrize("kind", ["plain", "address", "thread"])
def test_kernels(kind: str, cases: dict[str, list[str]]) -> None:
    """Right, orderless and clean; and no kernel of csrc/cuda/ went unchecked."""
    simt.build({"cuda": SOURCES}, [kind])
    assert len(cases[kind]) >= 10
    quick = ["--quick"] if kind == "thread" else []
    done = simt.program("cuda", kind).run(*quick, *cases[kind])
    assert (done.returncode, done.stderr) == (0, ""), f"at {done.stdout.splitlines()[-1:]}: {done.stderr[-3000:]}"
    assert simt.started(done.stdout).keys() == simt.kernels(CUDA)


def test_a_wrong_kernel_is_noticed(cases: dict[str, list[str]], tmp_path: Path) -> None:
    """The same run over a copy of the sources in which one edge too few is gathered."""
    csrc = shutil.copytree(native.ROOT / "csrc", tmp_path / "csrc")
    source = csrc / "cuda" / "pack.cu"
    wrong = source.read_text().replace("k < count ? edge(k)", "k + 1 < count ? edge(k)")
    assert wrong != source.read_text()
    source.write_text(wrong)
    objects = []
    for name in (*SOURCES, *simt.RUNTIME):
        objects.append(str(tmp_path / f"{Path(name).stem}.o"))
        language = simt.KERNEL_FLAGS.split() if name.endswith(".cu") else []
        command = [native.compiler(), *native.FLAGS.split(), f"-I{csrc}", *language, "-c", str(tmp_path / name)]
        subprocess.run([*command, "-o", objects[-1]], check=True)
    subprocess.run([native.compiler(), "-pthread", *objects, "-o", str(tmp_path / "cuda")], check=True)
    done = native.Program(tmp_path / "cuda").run("--quick", *cases["plain"])
    assert done.returncode == 1
    assert re.search(r"\by\b.*: expected .* got ", done.stderr)


needs_nvcc = pytest.mark.skipif(
    shutil.which("nvcc") is None, reason="nvcc is not on PATH; without it a GPU build is impossible too"
)


@pytest.fixture(scope="module")
def reports() -> Iterator[Reports]:
    """What nvcc says of each source, on the way since the first was asked for: as many at a time as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        jobs = product(CUDA, kernels.ARCHITECTURES)
        yield {job: pool.submit(kernels.compile_report, *job) for job in jobs}


@needs_nvcc
@pytest.mark.parametrize("architecture", kernels.ARCHITECTURES)
@pytest.mark.parametrize("source", CUDA, ids=lambda path: path.stem)
def test_nvcc_compiles_without_spills(source: Path, architecture: str, reports: Reports) -> None:
    """And docs/kernels.md has every kernel, with the registers it has."""
    found = reports[source, architecture].result()
    assert {name.partition("<")[0] for name in found} == simt.kernels([source])
    assert {name for name, resources in found.items() if resources.spilled} == set()
    page = kernels.PAGE.read_text()
    column = 2 + kernels.ARCHITECTURES.index(architecture)
    rows = {cells[1].strip(" `"): cells for line in page.splitlines() if len(cells := line.split("|")) > 3}
    assert found.keys() <= rows.keys(), "out of date: run `python -m benchmarks.kernels`"
    if f"nvcc {kernels.nvcc_version()}." in page:  # another one allots registers otherwise
        told = {name: int(rows[name][column]) for name in found}
        assert told == {name: resources.registers for name, resources in found.items()}, (
            "run `python -m benchmarks.kernels`"
        )


@needs_nvcc
def test_a_spill_is_noticed(tmp_path: Path) -> None:
    source = tmp_path / "greedy.cu"
    source.write_text(
        """__global__ void __launch_bounds__(1024) greedy(const double* from, double* to) {
             double held[64];
             #pragma unroll
             for (int i = 0; i < 64; ++i) held[i] = from[i * 1024 + threadIdx.x];
             __syncthreads();
             #pragma unroll
             for (int i = 0; i < 64; ++i) to[i * 1024 + threadIdx.x] = held[i] * held[63 - i];
           }"""
    )
    assert kernels.compile_report(source, "sm_90")["greedy"].spilled > 0


@needs_nvcc
def test_a_warning_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "careless.cu"
    source.write_text("__global__ void careless() { int never_read = 3; }\n")
    with pytest.raises(kernels.CompileError, match="never_read"):
        kernels.compile_report(source, "sm_90")


def test_the_page_names_no_kernel_that_is_gone() -> None:
    named = {found for found in re.findall(r"^\| `(\w+)", kernels.PAGE.read_text(), re.MULTILINE)}
    assert named == simt.kernels(CUDA)

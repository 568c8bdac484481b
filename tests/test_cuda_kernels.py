# SPDX-License-Identifier: MIT
"""The CUDA kernels without a GPU: their unedited sources on the CPU shim over the sanitizers' cases, and under nvcc.

Every regime and width of tile, both types, all activations and aggregations, against the float64 reference; bitwise the
same in any order of blocks and threads; under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from tests import native, sanitize, simt
from tests.graphs import CASES

pytestmark = pytest.mark.slow

CUDA = sorted((native.ROOT / "csrc" / "cuda").glob("*.cu"))
SOURCES = ["csrc/testing/cuda_main.cpp", *(str(path.relative_to(native.ROOT)) for path in CUDA)]
#: Architectures that must compile: A100, H100 and H200, B200.
ARCHITECTURES = ("sm_80", "sm_90", "sm_100")


def chosen(kind: str, case: sanitize.Case) -> bool:
    """Which cases a kind of program runs: all, or under a sanitizer the small ones. Row widths are the CPU's."""
    every_kind = case.name.startswith("every_kind")
    if every_kind and case.row_bytes != 64:
        return False
    small = case.graph.num_edges * case.batch < {"plain": 10**9, "address": 20_000, "thread": 1_500}[kind]
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
    source = csrc / "cuda" / "gather.h"
    wrong = source.read_text().replace("if (k < count)", "if (k + 1 < count)")
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


@pytest.mark.skipif(
    shutil.which("nvcc") is None, reason="nvcc is not on PATH; without it a GPU build is impossible too"
)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("source", CUDA, ids=lambda path: path.stem)
def test_nvcc_compiles_without_spills(source: Path, architecture: str, tmp_path: Path) -> None:
    command = ["nvcc", "-std=c++20", "--expt-relaxed-constexpr", "-Xptxas", "-v", f"-arch={architecture}"]
    command += [f"-I{native.ROOT / 'csrc'}", "-cubin", "-o", str(tmp_path / "out.cubin"), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    report = done.stdout + done.stderr
    assert done.returncode == 0, report[-3000:]
    assert "warning" not in report, report[-3000:]
    spilled = [int(n) for n in re.findall(r"(\d+) bytes spill", report)]
    kernels = report.count("Compiling entry function")
    assert len(spilled) >= 2 * kernels >= 2 * len(simt.kernels([source]))  # functions that are no kernels report too
    assert not any(spilled), report[-3000:]

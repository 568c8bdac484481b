# SPDX-License-Identifier: MIT
"""The CUDA kernels without a GPU: their unedited sources on the CPU shim over the sanitizers' cases.

Every regime and width of tile, both types, all activations and aggregations, against the float64 reference; bitwise the
same in any order of blocks and threads; and two widths under AddressSanitizer, UndefinedBehaviorSanitizer and
ThreadSanitizer.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tests.support import native, sanitize, simt
from tests.support.graphs import CASES
from tests.support.simt_torch import KERNELS

pytestmark = pytest.mark.slow

SOURCES = ["csrc/testing/cuda_main.cpp", *(str(path.relative_to(native.ROOT)) for path in KERNELS)]


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
    # More than one slice of the batch in the weight gradients: kSliceColumns of csrc/cuda/network/kernels.h is 2048.
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
    assert simt.started(done.stdout).keys() == simt.kernels(KERNELS)


def test_a_wrong_kernel_is_noticed(cases: dict[str, list[str]], tmp_path: Path) -> None:
    """The same run, but of one source, in which an edge too few is gathered."""
    right, wrong = "k < count ? edge(k)", "k + 1 < count ? edge(k)"
    program = simt.build_spoilt(SOURCES, "csrc/cuda/network/pack.cu", "cuda/network/pack.cu", right, wrong, tmp_path)
    done = program.run("--quick", *cases["plain"])
    assert done.returncode == 1
    assert re.search(r"\by\b.*: expected .* got ", done.stderr)

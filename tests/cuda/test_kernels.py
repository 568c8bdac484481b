# SPDX-License-Identifier: MIT
"""The CUDA kernels without a GPU: their unedited sources on the CPU shim over the sanitizers' cases.

Every type and width of tile, resident and streamed, all activations and aggregations, against the float64 reference;
bitwise the same in any order of blocks and threads; two widths under AddressSanitizer, UndefinedBehaviorSanitizer and
ThreadSanitizer. It takes minutes, so ``make test-sanitize`` runs it; ``make test`` runs the kernels through their
operators (tests/ops).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.support import native, sanitize, simt
from tests.support.cuda_populations import population_cases
from tests.support.cuda_sequences import sequence_cases
from tests.support.graphs import CASES
from tests.support.simt_torch import KERNELS

pytestmark = [pytest.mark.slow, pytest.mark.sanitize]

SOURCES = ["csrc/testing/cuda_main.cpp", *(str(path.relative_to(native.ROOT)) for path in KERNELS)]


#: Batches that the kernels handle differently, of one type or another: none, one sample, a column past a warp, a column
#: past a pitch of 64, and several tiles. The sanitizers' others are multiples of the CPU's rows.
BATCHES = {0, 1, 33, 65, 130}


def chosen(kind: str, case: sanitize.Case) -> bool:
    """Whether a kind of program runs a case: under a sanitizer small ones only. Row widths are the CPU's."""
    kind_of_case = case.name.split("-")[0]
    if kind_of_case.startswith("shared") or (kind_of_case == "few" and case.batch not in BATCHES):
        return False  # other rows and threads of the CPU
    every_kind = kind_of_case == "every_kind"
    if every_kind and (case.row_bytes != 64 or not (case.wild or case.batch in BATCHES)):
        return False
    limit = {"plain": 10**9, "address": 6_000, "thread": 1_500}[kind]
    if case.dtype in sanitize.NARROW:  # another way only where numbers are read and written
        limit = min(limit // 4, 50_000)
    small = case.graph.num_edges * case.batch < limit
    return small or (case.name.startswith("long") and kind != "address")


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Callable[[str], list[str]]:
    """Writes the case files of a kind of program, each once, and returns their paths."""
    folder = tmp_path_factory.mktemp("cases")
    # More than one slice of the batch in the weight gradients: kSliceColumns of csrc/cuda/network/kernels.h is 2048.
    long = [sanitize.Case(f"long-{d}", CASES["diamond"], d, 64, 2049) for d in (torch.float32, torch.float64)]
    every = [*sanitize.cases(), *long]

    def paths(kind: str) -> list[str]:
        found = []
        for case in (case for case in every if chosen(kind, case)):
            path = folder / f"{case.name}.case"
            if not path.exists():
                case.write(path)
            found.append(str(path))
        for other in (*sequence_cases(kind), *population_cases(kind)):
            path = folder / f"{other.name}.{other.suffix}"
            if not path.exists():
                other.write(path)
            found.append(str(path))
        return found

    return paths


@pytest.mark.parametrize("kind", ["plain", *native.SANITIZERS])
def test_kernels(kind: str, cases: Callable[[str], list[str]]) -> None:
    """Right, orderless and clean; and no kernel of csrc/cuda/ went unchecked."""
    simt.build({"cuda": SOURCES}, [kind])
    paths = cases(kind)
    assert len(paths) >= 10
    quick = ["--quick"] if kind == "thread" else []
    done = simt.program("cuda", kind).run(*quick, *paths)
    assert (done.returncode, done.stderr) == (0, ""), f"at {done.stdout.splitlines()[-1:]}: {done.stderr[-3000:]}"
    assert simt.started(done.stdout).keys() == simt.kernels(KERNELS)


#: A source, its text, the text of a kernel that gathers an edge too few, and what that kernel gets wrong.
WRONG = {
    "pack.cu": ("k < count ? edge(k)", "k + 1 < count ? edge(k)", r"\by\b"),
    "population_forward.cu": ("? node.count : 0", "? node.count - 1 : 0", r"y of a population"),
    "population_backward.cu": ("if (k >= count) continue;", "if (k + 1 >= count) continue;", r"grad_\w+"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_kernel_is_noticed(name: str, cases: Callable[[str], list[str]], tmp_path: Path) -> None:
    """The same run, but of one source with a bug."""
    right, wrong, where = WRONG[name]
    file = f"cuda/network/{name}"
    program = simt.build_spoilt(SOURCES, f"csrc/{file}", file, right, wrong, tmp_path)
    paths = cases("plain")
    if name.startswith("population"):
        paths = [path for path in paths if path.endswith(".population")]
    done = program.run("--quick", *paths)
    assert done.returncode == 1
    assert re.search(rf"{where}.*: expected .* got ", done.stderr)

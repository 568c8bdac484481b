# SPDX-License-Identifier: MIT
"""The sanitizers' cases cover the kernels, and their reader refuses other files. ``make test-sanitize`` runs them."""

from __future__ import annotations

import shlex
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

import freewire as fw
from freewire.graph import ACTIVATIONS, AGGREGATIONS
from tests.support import cpu_sequences, native, sanitize
from tests.support.graphs import CASES
from tests.support.recurrent import own_gradients, wired

CASE_LIST = list(sanitize.cases())
VARIANTS = list(product(sanitize.DTYPES, (*sanitize.SHORT_ROWS, *sanitize.ROW_BYTES)))


class TestCases:
    def test_names_are_unique(self) -> None:
        assert len({case.name for case in CASE_LIST}) == len(CASE_LIST)

    @pytest.mark.parametrize(("dtype", "row_bytes"), VARIANTS)
    def test_every_kernel(self, dtype: torch.dtype, row_bytes: int) -> None:
        mine = [case for case in CASE_LIST if (case.dtype, case.row_bytes_used) == (dtype, row_bytes)]
        columns = row_bytes // max(dtype.itemsize, 4) or 1
        assert {case.bias for case in mine} == {True, False}
        assert any(case.wild for case in mine)
        if columns > 2:  # fewer samples have a shorter row
            assert any(case.batch % columns for case in mine), "no tile is cut short by the batch's end"
        assert any(case.batch >= columns for case in mine), "no tile is full"
        if row_bytes not in sanitize.SHORT_ROWS:
            assert any(case.tiles > 16 for case in mine), "no group adds a second tile to its sums"
        for known, codes in ((ACTIVATIONS, "activation"), (AGGREGATIONS, "aggregation")):
            ran = np.concatenate([getattr(case.plan, codes) for case in mine])
            assert {known[code] for code in ran} == set(known)
        pairs = {pair for case in mine for pair in zip(case.plan.activation, case.plan.aggregation, strict=True)}
        assert len(pairs) == len(ACTIVATIONS) * len(AGGREGATIONS)

    @pytest.mark.parametrize("dtype", sanitize.DTYPES)
    def test_dense_blocks(self, dtype: torch.dtype) -> None:
        mine = [case for case in CASE_LIST if case.dtype == dtype and case.plan.sizes.num_blocks]
        used = {case.row_bytes_used for case in mine}
        assert 256 in used
        assert used & set(sanitize.SHORT_ROWS)
        assert {case.wild for case in mine} == {True, False}
        for panels in (True, False):
            assert any(((case.plan.block_panel >= 0) == panels).any() for case in mine)
        assert any(
            (case.plan.in_split < case.plan.in_end)[case.plan.in_split > case.plan.in_begin].any() for case in mine
        )

    @pytest.mark.parametrize("dtype", sanitize.DTYPES)
    def test_every_graph(self, dtype: torch.dtype) -> None:
        sharing = sanitize.NARROW if dtype in sanitize.NARROW else (dtype,)
        mine = [case for case in CASE_LIST if case.dtype in sharing]
        assert {case.batch for case in mine} >= set(sanitize.BATCHES)
        assert {id(case.graph) for case in mine} >= set(map(id, CASES.values()))
        fan_in = np.concatenate([case.plan.in_end - case.plan.in_begin for case in mine])
        assert {0, 1, 31, 33, 1000} <= set(fan_in.tolist())

    def test_every_kind_has_all_shapes(self) -> None:
        graph, plan = CASE_LIST[0].graph, CASE_LIST[0].plan
        assert len(np.unique(graph.edge_index, axis=1).T) < graph.num_edges, "no parallel edges"
        assert plan.num_slots < graph.num_nodes, "no dead nodes"
        assert plan.num_live_edges < plan.num_edges, "no dead edges"
        assert set(graph.inputs) & set(graph.outputs), "no input is an output"
        assert np.isin(graph.output_index, graph.edge_index[0]).any(), "no output feeds"

    def test_answers_are_those_of_a_network(self) -> None:
        """w * x + b by hand, so that a mistake in calling the reference is not taken for a kernel's."""
        graph = CASES["single_edge"]
        x, weight, bias, grad_y = sanitize._arguments(graph, torch.float64, 5, True, False)
        assert bias is not None
        wanted = (x * weight + bias, grad_y * weight, (grad_y * x).sum().reshape(1), grad_y.sum().reshape(1))
        for (tolerance, values), want in zip(sanitize._results(graph, torch.float64, 5, True), wanted, strict=True):
            torch.testing.assert_close(values, want)
            assert 0 < tolerance < 1e-13


class TestSequences:
    """The cases of recurrent networks."""

    CASE_LIST = tuple(cpu_sequences.sequence_cases())

    def test_names_are_unique(self) -> None:
        names = [case.name for case in (*CASE_LIST, *self.CASE_LIST)]
        assert len(set(names)) == len(names)
        (buggy,) = (case for case in self.CASE_LIST if case.name == sanitize.BUGGY_SEQUENCE)
        assert buggy.every
        assert buggy.bias
        assert buggy.batch > 32

    @pytest.mark.parametrize("dtype", sanitize.DTYPES)
    def test_everything_runs(self, dtype: torch.dtype) -> None:
        mine = [case for case in self.CASE_LIST if case.dtype == dtype]
        assert {case.every for case in mine} == set(cpu_sequences.EVERY)
        assert {case.bias for case in mine} == {True, False}
        assert {case.steps for case in mine} >= set(cpu_sequences.STEPS)
        assert any(case.plan.sizes.num_blocks for case in mine)
        assert any(case.plan.leaks is None for case in mine)
        assert any(case.batch > 16 * 64 // max(dtype.itemsize, 4) for case in mine)
        sharing = sanitize.NARROW if dtype in sanitize.NARROW else (dtype,)
        batches = {case.batch for case in self.CASE_LIST if case.dtype in sharing}
        assert batches >= set(cpu_sequences.BATCHES)

    def test_answers_are_those_of_a_network(self) -> None:
        """As `Recurrent` computes them, through weights and biases of its own."""
        graph = wired(1, leak=False)
        case = cpu_sequences.SequenceCase("", graph, torch.float64, 4, 3, 0)
        x, states, weight, bias, grad_y, grad_last = case._arguments()
        net = fw.Recurrent(graph, dtype=torch.float64)
        net.load_state_dict({"weight": weight, "bias": bias}, strict=False)
        wanted = own_gradients(net, x, states, grad_y, grad_last)
        for (tolerance, values), want in zip(case.results(), wanted, strict=True):
            torch.testing.assert_close(values, want)
            assert 0 < tolerance < 1e-12


class TestRowBytes:
    @pytest.mark.parametrize(
        ("batch", "row_bytes", "used"),
        [
            (0, 256, 16),
            (1, 256, 0),
            (4, 64, 16),
            (8, 256, 32),
            (9, 256, 64),
            (33, 256, 128),
            (32, 128, 64),
            (65, 256, 256),
        ],
    )
    def test_follows_the_kernels(self, batch: int, row_bytes: int, used: int) -> None:
        case = sanitize.Case("", CASES["diamond"], torch.float32, row_bytes, batch)
        assert case.row_bytes_used == used


READER = """\
#include <cstdio>
#include "testing/cases/case_file.h"
int main(int, char** arguments) {
  try {
    freewire::testing::CaseReader reader(arguments[1]);
    reader.number<int64_t>("bytes a number");
    const freewire::testing::Case<float> given(reader);
    std::printf("%ld %ld", static_cast<long>(given.weight.size()), static_cast<long>(given.y.values.size()));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s", error.what());
    return 1;
  }
}
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader")
    (folder / "reader.cpp").write_text(READER)
    command = [*shlex.split(native.compiler()), "-std=c++20", "-D_GLIBCXX_ASSERTIONS"]
    command += ["-I", str(native.ROOT / "csrc"), str(folder / "reader.cpp"), "-o", str(folder / "reader")]
    subprocess.run(command, check=True)
    return folder / "reader"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("case") / "diamond.case"
    sanitize.Case("diamond", CASES["diamond"], torch.float32, 64, 3).write(path)
    return path.read_bytes()


class TestReader:
    """csrc/testing/cases/case_file.h, alone."""

    @staticmethod
    def read(reader: Path, content: bytes) -> tuple[int, str]:
        path = reader.with_name("given.case")
        path.write_bytes(content)
        done = subprocess.run([str(reader), str(path)], capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def test_reads(self, reader: Path, content: bytes) -> None:
        assert self.read(reader, content) == (0, "4 3")

    def test_cut_short_anywhere(self, reader: Path, content: bytes) -> None:
        for length in (*range(8, len(content), 61), len(content) - 1):
            status, message = self.read(reader, content[:length])
            assert status == 1
            assert message.endswith("expected more bytes, got the end of the file."), f"{length}: {message}"

    @pytest.mark.parametrize("content", [b"", b"fwcase", b"fwcase00" + bytes(100)])
    def test_not_a_case(self, reader: Path, content: bytes) -> None:
        status, message = self.read(reader, content)
        assert (status, message[:38]) == (1, "expected a case file of this version, ")

    def test_no_file(self, reader: Path) -> None:
        done = subprocess.run([str(reader), str(reader.with_name("gone"))], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (1, "expected a case file, got none that can be opened.")

    def test_too_long(self, reader: Path, content: bytes) -> None:
        assert self.read(reader, content + b"x") == (1, "expected the file to end after grad_bias, got 1 bytes more.")

    @pytest.mark.parametrize(
        ("word", "value", "message"),
        [
            (2, -1, "batch: expected 0 to 1048576, got -1."),
            (2, 2**40, "batch: expected 0 to 1048576, got 1099511627776."),
            (2, 4, "x: expected 4 entries, got 3."),
            (5, -1, "plan: expected any number of entries, got -1."),
            (5, 2**61, "plan: expected more bytes, got the end of the file."),
            (6, 1, "plan: expected a packed plan, got other words."),
            (8, 100, "plan: expected a packed plan, got other words."),  # more inputs than slots
        ],
    )
    def test_wrong_word(self, reader: Path, content: bytes, word: int, value: int, message: str) -> None:
        words = np.frombuffer(content[: len(content) // 8 * 8], np.int64).copy()
        words[word] = value
        assert self.read(reader, words.tobytes() + content[words.nbytes :]) == (1, message)

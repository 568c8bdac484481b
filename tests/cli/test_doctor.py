# SPDX-License-Identifier: MIT
"""``freewire doctor``: what it finds on this machine and on others, and that it fails where a kernel is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import freewire as fw
from freewire.cli import doctor
from freewire.errors import BuildError
from freewire.ops import library
from tests.support.commands import run, run_json


class TestDoctor:
    def test_this_installation(self, capsys):
        record = run_json(capsys, "doctor")
        assert record["passed"]
        assert record["required"]["torch"] == torch.__version__
        assert record["cpu"]["instruction_set"] == library.instruction_set() in ("base", "avx2", "avx512")
        assert record["cpu"]["matrix_unit"] == library.matrix_unit() in ("none", "avx512bf16", "amx")
        assert set(record["checks"][0]["largest_error"]) == {"float32", "float64", "bfloat16", "float16"}
        out = run(capsys, "doctor")[1]
        assert "self-test on cpu: passed" in out
        assert str(Path.home()) not in out

    @pytest.mark.parametrize(
        "change",
        [lambda y: y * 1.00001, lambda y: y + 0.01 * (y - y.detach())],
        ids=["output", "gradient"],
    )
    def test_a_kernel_that_is_wrong(self, capsys, monkeypatch, change):
        monkeypatch.setattr(doctor, "reference", lambda net, x: change(fw.reference(net, x)))
        code, out, _ = run(capsys, "doctor")
        assert code == 1
        assert "self-test on cpu: FAILED: results differ from the reference" in out

    def test_a_kernel_that_returns_nan(self, capsys, monkeypatch):
        monkeypatch.setattr(doctor, "reference", lambda net, x: fw.reference(net, x) * torch.nan)
        code, out, _ = run(capsys, "doctor", "--json")
        (check,) = json.loads(out, parse_constant=pytest.fail)["checks"]
        assert (code, check["passed"], check["largest_error"]["float32"]) == (1, False, None)

    def test_a_kernel_that_raises(self, capsys, monkeypatch):
        def broken(*_):
            raise RuntimeError("no such operator")

        monkeypatch.setattr(doctor, "reference", broken)
        code, out, _ = run(capsys, "doctor")
        assert code == 1
        assert "FAILED: no such operator" in out

    def test_what_cuda_needs(self, capsys, monkeypatch):
        def missing():
            raise BuildError("nvcc: expected CUDA's compiler, got none. Install it.")

        monkeypatch.setattr("freewire._native.toolchain.find_nvcc", missing)
        monkeypatch.setattr("freewire.ops.cuda_cache.driver_version", lambda: (12, 4))
        monkeypatch.setattr("torch.version.cuda", None)
        found = run_json(capsys, "doctor")["cuda"]
        assert found["driver"] == "12.4"
        assert [line.partition(":")[0] for line in found["missing"]] == ["torch", "nvcc"]
        assert "missing: nvcc: expected CUDA's compiler, got none. Install it." in run(capsys, "doctor")[1]

    @pytest.mark.parametrize("kernels", ["found", "none", "refused"])
    def test_a_machine_with_a_gpu(self, capsys, monkeypatch, kernels):
        """A stub of one: what is missing is listed once, and only where there are no kernels yet."""
        refusal = "nvcc: expected CUDA's compiler, got none. Install it."

        def find(_):
            if kernels == "refused":
                raise BuildError(refusal)
            return Path("libfreewire_cuda.so") if kernels == "found" else None

        monkeypatch.setattr("torch.cuda.is_available", lambda: True)
        monkeypatch.setattr("freewire.ops.cuda_cache.obstacles", lambda: [refusal])
        monkeypatch.setattr("freewire.ops.cuda_cache.find", find)
        monkeypatch.setattr(doctor, "_cuda", lambda: {"torch": "13.0", "driver": "13.0", "gpus": ["GPU (9.0)"]})
        tested = []
        check = {"name": "self-test", "passed": True, "largest_error": {}, "problem": None}
        monkeypatch.setattr(doctor, "_self_test", lambda device: tested.append(device) or check)
        out = run(capsys, "doctor")[1]
        assert tested == (["cpu", "cuda"] if kernels == "found" else ["cpu"])
        assert out.count(refusal) == (0 if kernels == "found" else 1)
        assert f"kernels: {'libfreewire_cuda.so' if kernels == 'found' else 'none yet'}" in out

    def test_packages_that_are_missing(self, capsys, monkeypatch):
        monkeypatch.setattr(doctor, "OPTIONAL", {"no_such_package": ("nothing", "viz"), "nor_this": ("nothing", None)})
        out = run(capsys, "doctor")[1]
        assert "no_such_package not installed (nothing): pip install 'freewire[viz]'" in out
        assert "nor_this not installed (nothing): pip install nor_this" in out

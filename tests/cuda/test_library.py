# SPDX-License-Identifier: MIT
"""The CUDA library as nvcc builds it from this repository's sources, and how it is loaded; no GPU is needed.

It is built for one architecture in ``make test``, and for all of docs/kernels.md in ``make test-cuda-all``. build/cuda/
keeps the objects of sources that did not change.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from benchmarks.suites import kernels
from freewire import generators
from freewire._native import cuda_build, toolchain
from freewire.errors import BuildError
from freewire.nn import placement
from freewire.ops import cuda_cache, library
from freewire.plan import make_plan
from tests.support import native, simt
from tests.support.simt_torch import KERNELS

TORCH = Path(torch.__file__).parent

# Capture safety without a GPU: all that the kernels' host code may ask of CUDA, and why it is harmless while a stream
# is captured. What allocates, frees, copies, fills, waits, or makes a stream is not here.
HARMLESS = {
    "__cudaRegisterFatBinary": "as the library loads: names its kernels",
    "__cudaRegisterFatBinaryEnd": "as the library loads",
    "__cudaRegisterFunction": "as the library loads",
    "__cudaRegisterVar": "as the library loads",
    "__cudaUnregisterFatBinary": "as the process ends",
    "__cudaGetKernel": "CUDA 13: looks up the kernel that <<<>>> names",
    "__cudaLaunchKernel": "CUDA 13: what <<<>>> becomes, a launch",
    "cudaLaunchKernel": "CUDA 12: what <<<>>> becomes, a launch",
    "cudaLaunchKernelExC": "a launch with attributes",
    "__cudaPushCallConfiguration": "keeps the launch's grid, on the host",
    "__cudaPopCallConfiguration": "keeps the launch's grid, on the host",
    "cudaFuncSetAttribute": "allows shared memory beyond 48 KiB: a kernel's setting, no operation on a stream",
    "cudaDeviceGetAttribute": "reads a number that the driver keeps",
    "cudaDriverGetVersion": "reads a number that the driver keeps",
    "cudaRuntimeGetVersion": "returns a constant",
    "cudaGetDevice": "reads which device is current",
    "cudaGetLastError": "reads and clears this runtime's own error; does not wait",
    "cudaGetErrorString": "returns a constant",
    "aoti_torch_create_cuda_guard": "sets the current device of the thread",
    "aoti_torch_delete_cuda_guard": "sets it back",
    "aoti_torch_get_current_cuda_stream": "reads which stream is current",
    "aoti_torch_device_type_cuda": "returns a constant",
}
#: The CUDA runtime's, the driver's, and torch's functions of CUDA.
CUDA_CALL = re.compile(rf"(_*cuda|cu[A-Z]|{cuda_build.STUBBED.pattern})")
#: What the library may need at run time: torch, and the C and C++ runtimes.
NEEDED = re.compile(
    r"libtorch_c(pu|uda)\.so|(libstdc\+\+|libgcc_s|libc|libm|libdl|librt|libpthread|ld-linux[\w-]*)\.so\.\d"
)


def harmful(objects: list[Path]) -> set[str]:
    """CUDA functions that objects call and HARMLESS does not name."""
    called = cuda_build.undefined_symbols(objects, toolchain.find_compiler())
    return {name for name in called if CUDA_CALL.match(name)} - HARMLESS.keys()


def nvcc_or_skip() -> toolchain.Nvcc:
    try:
        return toolchain.find_nvcc()
    except BuildError as error:
        pytest.skip(f"needs nvcc, without which the CUDA library cannot be built: {error}")


class Built:
    """The library of this repository's sources for some architectures."""

    def __init__(self, architectures: tuple[str, ...]) -> None:
        self.nvcc, self.architectures = nvcc_or_skip(), architectures
        folder = native.ROOT / "build" / "cuda" / "-".join(architectures)
        self.csrc, self.work, self.log = folder / "csrc", folder / "work with a space", folder / "build.log"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):  # of another run of the tests
            self.refresh(folder)
            with pytest.MonkeyPatch.context() as environment:
                given = os.environ.get("NVCC_APPEND_FLAGS", "")
                environment.setenv("NVCC_APPEND_FLAGS", f"{given} {kernels.VERBOSE}")
                try:
                    self.library = self.build()
                finally:
                    self.keep_reports()
        objects = re.findall(r"^build (\S+\.cu\.o):", (self.work / "build.ninja").read_text(), re.MULTILINE)
        reports = [(self.work / name).with_suffix(".report").read_text() for name in objects]
        self.reports = kernels.read_reports("\n".join(reports))

    def refresh(self, folder: Path) -> None:
        """Bring the copy of the sources up to date; ninja compiles what was written, and what includes it.

        A copy, so that a header can be edited; and only of what an installation carries, to show that it suffices.
        """
        csrc = cuda_build.source_folder()
        contents = {path.relative_to(csrc): path.read_bytes() for path in cuda_build.source_files(csrc)}
        flags = [os.environ.get(f"NVCC_{name}_FLAGS") for name in ("PREPEND", "APPEND")]
        key = repr((self.nvcc, flags, TORCH, sorted(map(str, contents))))
        key_file, unfinished = folder / "key", folder / "unfinished"
        if unfinished.exists() or not key_file.exists() or key_file.read_text() != key:
            shutil.rmtree(folder)
            folder.mkdir()
            key_file.write_text(key)
        unfinished.touch()
        for name, content in contents.items():
            path = self.csrc / name
            if not path.exists() or path.read_bytes() != content:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def keep_reports(self) -> None:
        """Write what nvcc printed beside each object that it has just compiled."""
        for part in re.split(r"^\[\d+/\d+\] ", self.log.read_text(), flags=re.MULTILINE):
            command, _, output = part.partition("\n")
            if compiled := re.search(r" -o (\S+\.cu\.o)$", command):
                (self.work / compiled[1]).with_suffix(".report").write_text(output)
        self.work.with_name("unfinished").unlink()

    def build(self) -> Path:
        return cuda_build.build(self.csrc, TORCH, self.work, self.log, self.nvcc, self.architectures)

    def would_build(self) -> set[str]:
        """What another build would rebuild."""
        command = [*toolchain.find_ninja(), "-C", str(self.work), "-n", "-v", cuda_build.LIBRARY]
        planned = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return set(re.findall(r"-o (\S+)", planned))

    def read(self, *command: str) -> str:
        """The output of one of the compiler's tools for the library."""
        which = [toolchain.find_compiler(), f"-print-prog-name={command[0]}"]
        tool = subprocess.run(which, capture_output=True, text=True, check=True).stdout.strip()
        return subprocess.run([tool, *command[1:], self.library], capture_output=True, text=True, check=True).stdout


@pytest.fixture(
    scope="module",
    params=[("9.0",), pytest.param(kernels.ARCHITECTURES, marks=pytest.mark.cuda_all)],
    ids=["sm_90", "all"],
)
def built(request: pytest.FixtureRequest) -> Built:
    return Built(request.param)


@pytest.mark.slow
class TestLibrary:
    def test_calls_nothing_of_cuda_that_could_wait_or_allocate(self, built: Built) -> None:
        objects = list(built.work.glob("*.o"))
        sources = [path for path in cuda_build.source_files(built.csrc) if path.suffix in (".cu", ".cpp")]
        compiled = {re.sub(r"\.(float|double|bfloat16|half)(?=\.cu)", "", path.name) for path in objects}
        assert compiled == {f"{path.name}.o" for path in sources} | {"stamp.cpp.o"}
        assert harmful(objects) == set()

    @pytest.mark.parametrize(
        "name", ["cudaMalloc", "cudaStreamSynchronize", "cuMemcpyDtoH_v2", "torch_cuda_stream_synchronize"]
    )
    def test_such_a_call_is_noticed(self, name: str, built: Built, tmp_path: Path) -> None:
        caller, compiled = tmp_path / "caller.cpp", tmp_path / "caller.o"
        caller.write_text(f'extern "C" int {name}(); int caller() {{ return {name}(); }}\n')
        subprocess.run([toolchain.find_compiler(), "-c", caller, "-o", compiled], check=True)
        assert harmful([*built.work.glob("*.o"), compiled]) == {name}

    def test_needs_torch_and_the_system_only(self, built: Built) -> None:
        needed = re.findall(r"\(NEEDED\).*\[(.+)\]", built.read("readelf", "-d"))
        assert {"libtorch_cpu.so", "libtorch_cuda.so"} <= set(needed)
        assert [name for name in needed if not NEEDED.fullmatch(name)] == []

    def test_shows_nothing_of_its_cuda_runtime(self, built: Built) -> None:
        shown = re.findall(r" [A-Z] (\w+)$", built.read("nm", "-D", "--defined-only"), re.MULTILINE)
        assert "freewire_cuda_stamp" in shown
        assert [name for name in shown if "cuda" in name.lower()] == ["freewire_cuda_stamp"]

    def test_says_what_it_was_built_from(self, built: Built) -> None:
        stamp = cuda_build.Stamp(cuda_build.source_hash(built.csrc), built.nvcc.version, built.architectures)
        assert cuda_build.read_stamp(built.library) == stamp

    def test_registers_the_operators(self, built: Built) -> None:
        script = f"""
import sys, torch, freewire
from pathlib import Path
def registered():
    names = ["forward", "inference", "backward", "sequence", "recurrent", "sequence_backward"]
    names += ["population_forward", "population_inference", "population_backward"]
    return [torch._C._dispatch_has_kernel_for_dispatch_key("freewire::" + name, "CUDA") for name in names]
print(registered())
freewire.ops.library.load_library(Path({str(built.library)!r}))
print(registered())
"""
        environment = {**os.environ, "LD_LIBRARY_PATH": str(built.work)}  # the stub's folder
        done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
        assert done.stdout.splitlines() == [str([False] * 9), str([True] * 9)], done.stderr

    def test_second_build_does_nothing(self, built: Built) -> None:
        before = built.library.stat().st_mtime_ns
        assert built.build() == built.library
        assert built.library.stat().st_mtime_ns == before
        assert built.would_build() == set()

    def test_an_edited_header_is_built_again(self, built: Built) -> None:
        header = built.csrc / "plan_view.h"
        stat = header.stat()
        os.utime(header)
        again = built.would_build()
        os.utime(header, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        assert {"forward_op.cpp.o", "drive.cu.o", cuda_build.LIBRARY} <= again
        assert "stamp.cpp.o" not in again
        assert built.would_build() == set()


@pytest.mark.slow
class TestKernels:
    """As compiled: what docs/kernels.md shows."""

    def test_none_is_missing_and_none_spills(self, built: Built) -> None:
        assert built.reports.keys() == set(built.architectures)
        for found in built.reports.values():
            assert {name.partition("<")[0] for name in found} == simt.kernels(KERNELS)
            assert {name for name, resources in found.items() if resources.spilled} == set()

    def test_the_page_has_their_registers(self, built: Built) -> None:
        page = kernels.PAGE.read_text()
        if f"nvcc {kernels.nvcc_version()}." not in page:
            pytest.skip("another nvcc than the page's allots registers otherwise")
        assert kernels.outdated(page, built.reports) == [], "run `python -m benchmarks.suites.kernels`"

    def test_other_registers_and_a_missing_row_are_noticed(self, built: Built) -> None:
        reports = {name: dict(found) for name, found in built.reports.items()}
        name, resources = next(iter(reports["9.0"].items()))
        reports["9.0"][name] = resources._replace(registers=resources.registers + 1)
        reports["9.0"]["new_kernel"] = resources
        before = set(kernels.outdated(kernels.PAGE.read_text(), built.reports))
        noticed = set(kernels.outdated(kernels.PAGE.read_text(), reports)) - before
        assert sorted(line.partition(":")[0] for line in noticed) == sorted([f"{name} on 9.0", "new_kernel on 9.0"])

    @pytest.mark.parametrize(
        "architectures", [("9.0",), pytest.param(kernels.ARCHITECTURES, marks=pytest.mark.cuda_all)]
    )
    def test_a_spill_is_noticed(self, architectures: tuple[str, ...], tmp_path: Path) -> None:
        source = """__global__ void __launch_bounds__(1024) greedy(const double* from, double* to) {
          double held[64];
          #pragma unroll
          for (int i = 0; i < 64; ++i) held[i] = from[i * 1024 + threadIdx.x];
          __syncthreads();
          #pragma unroll
          for (int i = 0; i < 64; ++i) to[i * 1024 + threadIdx.x] = held[i] * held[63 - i];
        }
        """
        nvcc_or_skip()
        (tmp_path / "greedy.cu").write_text(source)
        reports = kernels.compile_reports(tmp_path / "greedy.cu", architectures)
        assert {name: report["greedy"].spilled > 0 for name, report in reports.items()} == dict.fromkeys(
            architectures, True
        )

    def test_a_warning_is_an_error(self, tmp_path: Path) -> None:
        nvcc_or_skip()
        (tmp_path / "careless.cu").write_text("__global__ void careless() { int never_read = 3; }\n")
        with pytest.raises(kernels.CompileError, match="never_read"):
            kernels.compile_reports(tmp_path / "careless.cu", ["9.0"])

    def test_the_page_names_no_kernel_that_is_gone(self) -> None:
        named = {found for found in re.findall(r"^\| `(\w+)", kernels.PAGE.read_text(), re.MULTILINE)}
        assert named == simt.kernels(KERNELS)


class TestLoad:
    def test_once_for_all_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        loaded: list[Path] = []
        monkeypatch.setattr(library, "_cuda_is_loaded", False)
        monkeypatch.setattr(cuda_cache, "find_or_build", lambda installed: time.sleep(0.05) or installed)
        monkeypatch.setattr(library, "load_library", loaded.append)
        threads = [threading.Thread(target=library.load_cuda) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        library.load_cuda()
        assert loaded == [Path(cuda_build.__file__).with_name("libfreewire_cuda.so")]

    def test_a_failure_is_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library, "_cuda_is_loaded", False)
        monkeypatch.setattr(torch.version, "cuda", None)
        for _ in range(2):
            with pytest.raises(BuildError, match="torch: expected one built for CUDA"):
                library.load_cuda()

    def test_moving_a_network_comes_here(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(library, "_cuda_is_loaded", False)
        monkeypatch.setattr(torch.version, "cuda", None)
        plan = placement.pack(make_plan(generators.mlp([1, 1])))
        with pytest.raises(BuildError, match="torch: expected one built for CUDA"):
            placement.place(plan, torch.device("cuda"))

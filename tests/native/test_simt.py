# SPDX-License-Identifier: MIT
"""The SIMT shim notices what it is there for: bugs injected into kernels are reported, kernels without them are not.

The sanitizers' programs run in ``make test-sanitize``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import native, simt

INJECTED_CU = native.ROOT / "csrc" / "testing" / "simt" / "simt_injected.cu"
MARKS = {"plain": (), "fallback": pytest.mark.slow} | dict.fromkeys(native.SANITIZERS, pytest.mark.sanitize)
KINDS = [pytest.param(kind, marks=MARKS[kind]) for kind in simt.KINDS]
REPORTS = [
    pytest.param(kind, bug, words, id=f"{bug}-{kind}", marks=MARKS[kind])
    for bug, reports in simt.BUGS.items()
    for kind, words in reports.items()
]
RACES = [bug for bug, reports in simt.BUGS.items() if "data race" in reports.get("thread", ())]

# What the shim promises, checked by kernels: prints the names of the checks that failed.
CHECKS_CU = """\
#include <atomic>
#include <cmath>
#include <cstdio>
#include <vector>

#include "cuda/common/device.h"
#include "node_math.h"

using namespace freewire;
using namespace freewire::cuda;

void expect(bool good, const char* what) {
  if (!good) std::printf("%s\\n", what);
}

__global__ void shuffle_kernel(int* y) {
  const int t = threadIdx.x, value = 10 * t;
  y[t] = __shfl_sync(kFullWarp, value, 5);
  y[64 + t] = __shfl_sync(kFullWarp, value, 5, 8);
  y[128 + t] = __shfl_up_sync(kFullWarp, value, 3, 16);
  y[192 + t] = __shfl_down_sync(kFullWarp, value, 3, 16);
  y[256 + t] = __shfl_xor_sync(kFullWarp, value, 6);
  y[320 + t] = __shfl_xor_sync(kFullWarp, value, 8, 4);
  const double wide = __shfl_xor_sync(kFullWarp, 0.1 * t, 1);
  y[384 + t] = wide == 0.1 * (t ^ 1);
  y[448 + t] = __ballot_sync(kFullWarp, t % 3 == 0) == 0x49249249u << (t < 32 ? 0 : 1);
  y[512 + t] = __any_sync(kFullWarp, t == 40) + 2 * __all_sync(kFullWarp, t < 32);
}

void shuffles() {
  std::vector<int> y(576);
  launch<shuffle_kernel>(1, 64, 0, nullptr, y.data());
  for (int t = 0; t < 64; ++t) {
    const int warp = t & ~31, lane = t & 31;
    expect(y[t] == 10 * (warp + 5), "shfl");
    expect(y[64 + t] == 10 * ((t & ~7) + 5), "shfl of width 8");
    expect(y[128 + t] == 10 * (t % 16 < 3 ? t : t - 3), "shfl_up of width 16");
    expect(y[192 + t] == 10 * (t % 16 > 12 ? t : t + 3), "shfl_down of width 16");
    expect(y[256 + t] == 10 * (warp + (lane ^ 6)), "shfl_xor");
    expect(y[320 + t] == 10 * (lane & 8 ? t ^ 8 : t), "shfl_xor of width 4");
    expect(y[384 + t], "shfl of double");
    expect(t >= 32 || y[448 + t], "ballot");
    expect(y[512 + t] == (t < 32 ? 2 : 1), "any, all");
  }
}

template <int kInstance>
__device__ float* own_array() {
  FREEWIRE_SHARED(array, float[4][8]);
  return array[kInstance];
}
__global__ void shared_kernel(int* y) {
  FREEWIRE_SHARED(other, float[4]);
  float* dynamic = dynamic_shared<float>();
  y[threadIdx.x] = own_array<0>() + 8 != own_array<1>() && own_array<0>() == own_array<0>() &&
                   other != own_array<0>() && dynamic != own_array<0>() && dynamic != other;
}
void shared() {
  std::vector<int> y(4);
  launch<shared_kernel>(1, 4, 4 * sizeof(float), nullptr, y.data());
  expect(y == std::vector<int>{1, 1, 1, 1}, "shared arrays, one a declaration and instance");
}

__global__ void order_kernel(int* y, std::atomic<int>* next) { y[(*next)++] = blockIdx.x * 4 + threadIdx.x; }
std::vector<int> order(uint64_t seed) {
  simt::options().seed = seed;
  std::vector<int> y(32);
  std::atomic<int> next = 0;
  launch<order_kernel>(8, 4, 0, nullptr, y.data(), &next);
  expect(next == 32, "every thread runs");
  return y;
}

__global__ void index_kernel(unsigned* y) {
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  y[block * 24 + thread] = block * 24 + thread;
}
void indices() {
  std::vector<unsigned> y(24 * 30, 0);
  launch<index_kernel>({5, 3, 2}, {2, 3, 4}, 0, nullptr, y.data());
  for (unsigned i = 0; i < y.size(); ++i) expect(y[i] == i, "threadIdx and blockIdx");
}

// Every function of node_math.h, as the same call on the host gives it.
template <class T>
__global__ void math_kernel(const T* z, T* value, T* slope, int n) {
  const int i = threadIdx.x;
  if (i >= n) return;
  with_activation(static_cast<Activation>(blockIdx.x), [&](auto activation) {
    value[blockIdx.x * n + i] = activate<decltype(activation)::value>(z[i]);
    slope[blockIdx.x * n + i] = derivative<decltype(activation)::value>(z[i]);
  });
}
template <class T>
void math() {
  const std::vector<T> z{T(-30), T(-3), T(-1.25), T(-0.5), T(0), T(1e-5), T(0.75), T(1), T(2.5), T(21), T(NAN)};
  const int n = z.size();
  std::vector<T> value(kNumActivations * n), slope(value);
  launch<math_kernel<T>>(kNumActivations, 32, 0, nullptr, z.data(), value.data(), slope.data(), n);
  const auto same = [](T a, T b) { return a == b || (a != a && b != b); };
  const auto check = [&](Activation code, const char* name, auto by_std) {
    for (int i = 0; i < n; ++i) expect(same(value[static_cast<int>(code) * n + i], by_std(z[i])), name);
  };
  check(Activation::kTanh, "tanh", [](T x) { return std::tanh(x); });
  check(Activation::kSin, "sin", [](T x) { return std::sin(x); });
  check(Activation::kElu, "elu", [](T x) { return x > 0 ? x : std::expm1(x); });
  check(Activation::kSigmoid, "sigmoid", [](T x) { return 1 / (1 + std::exp(-x)); });
  check(Activation::kGelu, "gelu", [](T x) { return T(0.5) * x * (1 + std::erf(x * T(M_SQRT1_2))); });
  for (int a = 0; a < kNumActivations; ++a) {
    with_activation(static_cast<Activation>(a), [&](auto activation) {
      for (int i = 0; i < n; ++i) {
        expect(same(value[a * n + i], activate<decltype(activation)::value>(z[i])), "activate");
        expect(same(slope[a * n + i], derivative<decltype(activation)::value>(z[i])), "derivative");
      }
    });
  }
}

void refusals() {
  const auto refused = [](Extent grid, Extent block, size_t bytes) {
    launch<index_kernel>(grid, block, bytes, nullptr, nullptr);
    std::printf("refused: %s\\n", take_error());
    expect(take_error() == nullptr, "an error is reported once");
  };
  refused(1, 1025, 0);
  refused(1, {64, 32}, 0);
  refused(1, 0, 0);
  refused(int64_t{1} << 33, 1, 0);
  refused(-1, 1, 0);
  refused({1, 65536}, 1, 0);
  refused(1, 1, 232449);
  launch_cooperative<index_kernel>(133 * 2, 1024, 0, nullptr, nullptr);
  std::printf("refused: %s\\n", take_error());
  launch<index_kernel>({7, 0}, 1, 0, nullptr, nullptr);
  expect(take_error() == nullptr, "an empty grid is nothing to do");
}

int main() {
  shuffles();
  shared();
  indices();
  expect(order(1) == order(1), "an order a seed");
  expect(order(1) != order(2), "another order another seed");
  simt::options().cpu_threads = 3;
  indices();
  simt::options().cpu_threads = 1;
  math<float>();
  math<double>();
  const Device device = describe_device();
  expect(device.multiprocessors == 132 && device.shared_bytes == 232448 && device.capability == 90, "device");
  refusals();
  for (const auto& [kernel, count] : simt::launches()) std::printf("%s %ld\\n", kernel.c_str(), long(count));
}
"""

REFUSALS = """\
block: expected sides of 1 to 1024 threads, got 1025.
block: expected at most 1024 threads, got 2048.
block: expected sides of 1 to 1024 threads, got 0.
grid: expected at most 2147483647 blocks in x, got 4294967295.
grid: expected at most 2147483647 blocks in x, got 4294967295.
grid: expected at most 65535 blocks in y and z, got 65536.
shared_bytes: expected at most 232448, got 232449.
grid: expected at most 264 blocks at once, got 266.
"""


@pytest.fixture(scope="module")
def injected() -> Callable[[str], native.Program]:
    """The program of csrc/testing/simt/simt_injected.cu of a kind, built when first asked for."""
    built = {}

    def get(kind: str) -> native.Program:
        if kind not in built:
            simt.build({"injected": [str(INJECTED_CU.relative_to(native.ROOT))]}, [kind])
            built[kind] = simt.program("injected", kind)
        return built[kind]

    return get


class TestInjectedBugs:
    """csrc/testing/simt/simt_injected.cu."""

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize(("seed", "threads"), [(1, 1), (2, 1), (3, 3)])
    def test_kernels_without_bugs_are_clean(self, injected, kind, seed, threads):
        done = injected(kind).run(FREEWIRE_SIMT_SEED=str(seed), FREEWIRE_SIMT_THREADS=str(threads))
        assert (done.returncode, done.stderr) == (0, "")
        started = simt.started(done.stdout)
        assert set(started) == simt.kernels([INJECTED_CU])
        assert started["block_chain_kernel"] == 3

    @pytest.mark.sanitize
    def test_kernels_without_bugs_are_clean_by_the_block(self, injected):
        done = injected("thread").run(FREEWIRE_SIMT_RACES="blocks")
        assert (done.returncode, done.stderr) == (0, "")

    @pytest.mark.parametrize(("kind", "bug", "words"), REPORTS)
    def test_bug_is_reported(self, injected, kind, bug, words):
        done = injected(kind).run("--inject", bug)
        assert done.returncode != 0
        assert [part for part in words if part not in done.stderr] == [], done.stderr

    @pytest.mark.sanitize
    @pytest.mark.parametrize("bug", RACES)
    @pytest.mark.parametrize("threads", ["1", "3"])
    def test_race_is_reported_whatever_the_order(self, injected, bug, threads):
        for seed in range(10, 13):
            done = injected("thread").run("--inject", bug, FREEWIRE_SIMT_SEED=str(seed), FREEWIRE_SIMT_THREADS=threads)
            assert done.returncode != 0
            assert [part for part in simt.BUGS[bug]["thread"] if part not in done.stderr] == [], done.stderr

    @pytest.mark.sanitize
    @pytest.mark.parametrize("bug", ["block_race", "block_chain", "missing_grid_barrier"])
    def test_race_between_blocks_is_reported_by_the_block(self, injected, bug):
        done = injected("thread").run("--inject", bug, FREEWIRE_SIMT_RACES="blocks")
        assert done.returncode != 0
        words = (*simt.BUGS[bug]["thread"], "'block (0,0,0)'")
        assert [part for part in words if part not in done.stderr] == [], done.stderr

    def test_sentences_say_where(self, injected):
        """Kernel, block and thread, and the source's line."""
        done = injected("plain").run("--inject", "early_return")
        found = re.fullmatch(
            r"simt: freewire::cuda::early_return_kernel, block \([012],0,0\): thread \(\d+,0,0\) waits in "
            r"__syncthreads\(\) at \S*csrc/testing/simt/simt_injected\.cu:(\d+), where thread \(63,0,0\) does not "
            r"come: it has returned\.\n",
            done.stderr,
        )
        assert found, done.stderr
        assert INJECTED_CU.read_text().splitlines()[int(found[1]) - 1] == "  __syncthreads();"

    def test_every_bug_has_its_report(self):
        named = re.findall(r'^    \{"(\w+)", start', INJECTED_CU.read_text(), re.MULTILINE)
        assert sorted(named) == sorted(simt.BUGS)

    def test_kernel_that_never_ran_shows(self, injected):
        done = injected("plain").run("--inject", "block_chain")  # its result is wrong, but it ends
        assert set(simt.started(done.stdout)) == {"block_chain_kernel"}

    @pytest.mark.parametrize("arguments", [["--inject", "nothing"], ["--inject"], ["global_read"]])
    def test_no_bug_of_that_name(self, injected, arguments):
        done = injected("plain").run(*arguments)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "simt_injected: expected no argument or --inject and a bug's name.\n"

    @pytest.mark.slow
    @pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not on PATH")
    def test_compiles_with_nvcc(self, tmp_path):
        command = ["nvcc", "-std=c++20", "--expt-relaxed-constexpr", "-arch=sm_90", f"-I{native.ROOT / 'csrc'}"]
        command += ["-c", str(INJECTED_CU), "-o", str(tmp_path / "injected.o")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


class TestShim:
    """csrc/testing/simt/simt.h and cuda/device.h beside it."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_keeps_its_promises(self, kind):
        source = simt.BUILD / "checks.cu"
        source.parent.mkdir(parents=True, exist_ok=True)
        if not source.exists() or source.read_text() != CHECKS_CU:
            source.write_text(CHECKS_CU)
        simt.build({"checks": [str(source.relative_to(native.ROOT))]}, [kind])
        done = simt.program("checks", kind).run()
        assert (done.returncode, done.stderr) == (0, "")
        counts = simt.started(done.stdout)
        assert counts == {
            "shuffle_kernel": 1, "shared_kernel": 1, "index_kernel": 2, "order_kernel": 4, "math_kernel": 2
        }  # fmt: skip
        said = [line for line in done.stdout.splitlines() if not simt.started(line)]  # failed checks would be here
        assert said == [f"refused: index_kernel: {line}" for line in REFUSALS.splitlines()]


class TestKernels:
    """What the sources define, and what ran."""

    def test_names(self, tmp_path: Path):
        (tmp_path / "a.cu").write_text(
            "// a __global__ comment\n__global__ void one(int n) {}\n"
            "template <int kTile>\n__global__ void __launch_bounds__(640, 1)\n    two_kernel(const Network net) {}\n"
            "__global__ void __launch_bounds__(kThreads) three() {}\n"
        )
        assert simt.kernels([tmp_path / "a.cu"]) == {"one", "two_kernel", "three"}

    def test_unknown_form(self, tmp_path: Path):
        (tmp_path / "a.cu").write_text("__global__ static void one(int n) {}\n")
        with pytest.raises(native.NativeError, match=r"a\.cu: expected every kernel to start with .*, got 1 kernels"):
            simt.kernels([tmp_path / "a.cu"])

    def test_counts(self):
        output = "freewire::cuda::a_kernel<4, float> 2\nnoise\nb_kernel 1\nfreewire::cuda::a_kernel<8, float> 3\n"
        assert simt.started(output) == {"a_kernel": 5, "b_kernel": 1}

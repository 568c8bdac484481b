// SPDX-License-Identifier: MIT
// Chooses the matrix unit once, on the first call of paired_kernels().
#include "cpu/isa/matrix_unit.h"

#include <cstdlib>
#include <cstring>

#include "cpu/network/kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__x86_64__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace freewire::cpu {
namespace {

enum class MatrixUnit { kNone, kAvx512Bf16, kAmx };
constexpr const char* kUnitNames[] = {"none", "avx512bf16", "amx"};

#if defined(__x86_64__)
// Whether the system saves the state of tiles, and lets this process use them. Linux grants that once it is asked for,
// to all threads of the process.
bool may_use_tiles() {
#if defined(__linux__)
  unsigned low = 0, high = 0;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  constexpr unsigned kTileStates = 3u << 17;  // configuration and data
  if ((low & kTileStates) != kTileStates) return false;
  constexpr long kAskForState = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kAskForState, kTileData) == 0;
#else
  return false;
#endif
}
#endif

MatrixUnit detect() {
  MatrixUnit best = MatrixUnit::kNone;
#if defined(__x86_64__)
  if (std::strcmp(isa_name(), "avx512") != 0) return best;  // so the processor also has xgetbv
  constexpr unsigned kPairs = 1u << 5, kTilePairs = 1u << 22, kTiles = 1u << 24;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & kPairs)) best = MatrixUnit::kAvx512Bf16;
  if (best == MatrixUnit::kNone) return best;
  const char* const wanted = std::getenv("FREEWIRE_MATRIX");
  const auto is_wanted = [&](MatrixUnit unit) {
    return wanted && !std::strcmp(wanted, kUnitNames[static_cast<int>(unit)]);
  };
  if (is_wanted(MatrixUnit::kNone)) return MatrixUnit::kNone;
  if (is_wanted(MatrixUnit::kAvx512Bf16)) return best;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kTilePairs) && (d & kTiles)) {
    // On processors with tiles the instruction for pairs in registers is slower than that for floats: 0.55 ns against
    // 0.14 (Xeon, 2 cores), for twice as many products.
    best = may_use_tiles() ? MatrixUnit::kAmx : MatrixUnit::kNone;
  }
#endif
  return best;
}

MatrixUnit matrix_unit() {
  static const MatrixUnit chosen = detect();
  return chosen;
}

}  // namespace

const PairedKernels* paired_kernels() {
#if defined(__x86_64__)
  if (matrix_unit() == MatrixUnit::kAmx) return &kTileKernels;
  if (matrix_unit() == MatrixUnit::kAvx512Bf16) return &kRegisterKernels;
#endif
  return nullptr;
}

}  // namespace freewire::cpu

// For freewire/ops/library.py, which looks it up in the loaded library.
extern "C" __attribute__((visibility("default"))) const char* freewire_matrix_unit() {
  using namespace freewire::cpu;
  return kUnitNames[static_cast<int>(matrix_unit())];
}

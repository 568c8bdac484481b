// SPDX-License-Identifier: MIT
// Chooses the instruction set once, on the first call of kernels().
//
// FREEWIRE_BASE_ONLY leaves the base set as the only choice, for test programs in which registers play no part.
#include <cstdlib>
#include <cstring>

#include "cpu/network/kernels.h"

#if defined(__x86_64__) && !defined(FREEWIRE_BASE_ONLY)
#define FREEWIRE_CHOICE 1
#include <cpuid.h>
#endif

namespace freewire::cpu {
namespace {

enum class Isa { kBase, kAvx2, kAvx512 };
constexpr const char* kIsaNames[] = {"base", "avx2", "avx512"};

Isa detect() {
#if defined(FREEWIRE_CHOICE)
  Isa best = Isa::kBase;
  unsigned a = 0, b = 0, c = 0, d = 0;
  // Not every compiler's __builtin_cpu_supports() knows F16C.
  const bool converts_halves = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && converts_halves) best = Isa::kAvx2;
  if (best == Isa::kAvx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    best = Isa::kAvx512;
  }
  // An instruction that the processor lacks would kill the process, so FREEWIRE_ISA can only lower the choice.
  if (const char* wanted = std::getenv("FREEWIRE_ISA")) {
    for (int i = 0; i < static_cast<int>(best); ++i) {
      if (std::strcmp(wanted, kIsaNames[i]) == 0) best = static_cast<Isa>(i);
    }
  }
  return best;
#else
  return Isa::kBase;
#endif
}

Isa isa() {
  static const Isa chosen = detect();
  return chosen;
}

}  // namespace

const char* isa_name() { return kIsaNames[static_cast<int>(isa())]; }

template <class T>
const Kernels<T>& kernels() {
#if defined(FREEWIRE_CHOICE)
  if (isa() == Isa::kAvx512) return kernel_table<T, 64>();
  if (isa() == Isa::kAvx2) return kernel_table<T, 32>();
#endif
  return kernel_table<T, 16>();
}
#define FREEWIRE_INSTANTIATE(T, tag, name) template const Kernels<T>& kernels<T>();
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cpu

// For freewire/ops/library.py, which looks it up in the loaded library.
extern "C" __attribute__((visibility("default"))) const char* freewire_isa() { return freewire::cpu::isa_name(); }

// SPDX-License-Identifier: MIT
// The kernels in 32-byte registers, for x86-64 with AVX2, FMA and F16C.
//
// Standard headers come before the target changes: an inline function of theirs compiled for AVX2 could be
// the copy that the linker keeps for the whole library.
#if defined(__x86_64__)
#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif

#include "cpu/isa/kernel_table.h"

namespace freewire::cpu {

template const Kernels<float>& kernel_table<float, 32>();
template const Kernels<double>& kernel_table<double, 32>();
template const Kernels<BFloat16>& kernel_table<BFloat16, 32>();
template const Kernels<Half>& kernel_table<Half, 32>();

}  // namespace freewire::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

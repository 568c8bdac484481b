// SPDX-License-Identifier: MIT
// The kernels in 64-byte registers, for x86-64 with AVX-512 (F, BW, DQ, VL).
//
// Standard headers come before the target changes: an inline function of theirs compiled for AVX-512 could be
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
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#endif

#include "cpu/isa/kernel_table.h"

namespace freewire::cpu {

template const Kernels<float>& kernel_table<float, 64>();
template const Kernels<double>& kernel_table<double, 64>();
template const Kernels<BFloat16>& kernel_table<BFloat16, 64>();
template const Kernels<Half>& kernel_table<Half, 64>();

}  // namespace freewire::cpu

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif

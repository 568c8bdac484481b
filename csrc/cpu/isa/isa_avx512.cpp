// SPDX-License-Identifier: MIT
// The kernels in 64-byte registers, for x86-64 with AVX-512 (F, BW, DQ and VL).
#if defined(__x86_64__)
#define FREEWIRE_VECTOR_BYTES 64
#define FREEWIRE_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
#include "cpu/isa/kernel_table.h"
#endif

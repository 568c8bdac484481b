// SPDX-License-Identifier: MIT
// The kernels in 32-byte registers, for x86-64 with AVX2, FMA and F16C.
#if defined(__x86_64__)
#define FREEWIRE_VECTOR_BYTES 32
#define FREEWIRE_TARGET "avx2,fma,f16c"
#include "cpu/isa/kernel_table.h"
#endif

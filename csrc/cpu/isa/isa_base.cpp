// SPDX-License-Identifier: MIT
// The kernels in 16-byte registers: SSE2 on x86-64, NEON on arm64, and elsewhere what the compiler has for them.
#define FREEWIRE_VECTOR_BYTES 16
#include "cpu/isa/kernel_table.h"

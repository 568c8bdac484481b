// SPDX-License-Identifier: MIT
// The part of the processor that multiplies matrices of bfloat16 numbers.
#pragma once

#include "cpu/stages/paired_kernels.h"

namespace freewire::cpu {

// The kernels for the fastest one that this processor has and the system lets us use, or for a slower one that
// FREEWIRE_MATRIX names (none, avx512bf16, amx); null if there is none, or if FREEWIRE_ISA names a set that is narrower
// than AVX-512.
const PairedKernels* paired_kernels();

// Kernels compiled for each, on x86-64.
extern const PairedKernels kRegisterKernels, kTileKernels;

}  // namespace freewire::cpu

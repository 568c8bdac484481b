// SPDX-License-Identifier: MIT
// The kernels for matrix units, for x86-64 with AVX-512 and BF16, and of those one for AMX.
#if defined(__x86_64__)
#if !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 warns about its own header
#endif
#define FREEWIRE_VECTOR_BYTES 64
#define FREEWIRE_REGISTERS registers_64_bf16
#define FREEWIRE_TARGET "amx-bf16,amx-tile,avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c"
// clang-format off: what follows this is compiled for the target
#include "cpu/isa/target_begin.h"
// clang-format on

#include "cpu/isa/matrix_unit.h"
#include "cpu/stages/paired_operands.h"
#include "cpu/stages/paired_product.h"

namespace freewire::cpu {

namespace {
template <class Product>
constexpr PairedKernels kernels_of() {
  return {PairedOperands::pad, PairedOperands::sum, PairedOperands::convolve, PairedOperands::pack, Product::multiply,
          Product::begin,      Product::end};
}
}  // namespace
constexpr PairedKernels kRegisterKernels = kernels_of<RegisterProduct>();
constexpr PairedKernels kTileKernels = kernels_of<TileProduct>();

}  // namespace freewire::cpu

#include "cpu/isa/target_end.h"
#endif

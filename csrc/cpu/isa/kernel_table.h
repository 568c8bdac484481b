// SPDX-License-Identifier: MIT
// The tables of kernels for one instruction set: everything that an isa_*.cpp holds.
//
// It defines two macros before it includes this file: FREEWIRE_VECTOR_BYTES, the size of a register, and optionally
// FREEWIRE_TARGET, the instruction sets that the kernels may use beyond the compiler's default.
#pragma once

// Standard headers come before the target changes: an inline function of theirs compiled for another instruction set
// could be the copy that the linker keeps for the whole library.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(FREEWIRE_TARGET)
#define FREEWIRE_PRAGMA(...) _Pragma(#__VA_ARGS__)
#define FREEWIRE_EXPANDED_PRAGMA(...) FREEWIRE_PRAGMA(__VA_ARGS__)
#if defined(__clang__)
FREEWIRE_EXPANDED_PRAGMA(clang attribute push(__attribute__((target(FREEWIRE_TARGET))), apply_to = function))
#else
FREEWIRE_EXPANDED_PRAGMA(GCC target(FREEWIRE_TARGET))
#endif
#endif

#include "cpu/blocks/depthwise_rows.h"
#include "cpu/blocks/gated_sum_span.h"
#include "cpu/network/backward_few.h"
#include "cpu/network/backward_tile.h"
#include "cpu/network/block_gradient.h"
#include "cpu/network/forward_tile.h"
#include "cpu/network/kernels.h"

namespace freewire::cpu {

// Kernels by kind of row, each for one geometry of the tile.
template <class T, int kBytes, int kStride = kBytes>
using TileOf = Tile<T, FREEWIRE_VECTOR_BYTES, kBytes, kStride>;
#define FREEWIRE_EACH_WIDE_ROW(kernel) \
  kernel<TileOf<T, 64>, T>, kernel<TileOf<T, 128>, T>, kernel<TileOf<T, 256>, T>, kernel<TileOf<T, 64, 256>, T>
#define FREEWIRE_EACH_SHORT_ROW(kernel) \
  kernel<TileOf<T, sizeof(Compute<T>)>, T>, kernel<TileOf<T, 16>, T>, kernel<TileOf<T, 32>, T>, kernel<TileOf<T, 64>, T>
#define FREEWIRE_EACH_ROW(kernel)                                                               \
  kernel<TileOf<T, sizeof(Compute<T>)>, T>, kernel<TileOf<T, 16>, T>, kernel<TileOf<T, 32>, T>, \
      FREEWIRE_EACH_WIDE_ROW(kernel)

template <class T, int kVectorBytes>
const Kernels<T>& kernel_table() {
  static constexpr Kernels<T> kTable = {
      {{FREEWIRE_EACH_ROW(read_inputs)},
       {FREEWIRE_EACH_ROW(run_nodes)},
       {FREEWIRE_EACH_ROW(write_outputs)},
       {FREEWIRE_EACH_SHORT_ROW(start_few)},
       {FREEWIRE_EACH_SHORT_ROW(run_few)},
       {FREEWIRE_EACH_SHORT_ROW(finish_few)},
       {nullptr, nullptr, nullptr, FREEWIRE_EACH_WIDE_ROW(backward_tile)},
       sum_slots<TileOf<T, 256>, T>,
       BlockGradients<T, kVectorBytes>::run},
      {GatedSumSpan<T, kVectorBytes>::forward, GatedSumSpan<T, kVectorBytes>::backward},
      {DepthwiseRows<T, kVectorBytes>::forward, DepthwiseRows<T, kVectorBytes>::add_kernel_gradient,
       DepthwiseRows<T, kVectorBytes>::relu_gradient},
  };
  return kTable;
}

#define FREEWIRE_INSTANTIATE(T, tag, name) template const Kernels<T>& kernel_table<T, FREEWIRE_VECTOR_BYTES>();
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cpu

#if defined(FREEWIRE_TARGET) && defined(__clang__)
FREEWIRE_PRAGMA(clang attribute pop)
#endif

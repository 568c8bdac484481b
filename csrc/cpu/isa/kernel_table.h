// SPDX-License-Identifier: MIT
// The tables of kernels for one instruction set: everything that an isa_*.cpp holds.
//
// It defines two macros before it includes this file: FREEWIRE_VECTOR_BYTES, the size of a register, and optionally
// FREEWIRE_TARGET, the instruction sets that the kernels may use beyond the compiler's default.
#pragma once

// clang-format off: what follows this is compiled for the target
#include "cpu/isa/target_begin.h"
// clang-format on

#include "cpu/blocks/depthwise_rows.h"
#include "cpu/blocks/gated_sum_span.h"
#include "cpu/network/backward_few.h"
#include "cpu/network/backward_tile.h"
#include "cpu/network/block_gradient.h"
#include "cpu/network/forward_tile.h"
#include "cpu/network/kernels.h"
#include "cpu/stages/matrix_product.h"
#include "cpu/stages/norm_rows.h"
#include "cpu/stages/padded_pixels.h"

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
      {PaddedPixels<T, kVectorBytes>::template pad<T>, PaddedPixels<T, kVectorBytes>::template unpad<T>,
       DepthwiseRows<T, kVectorBytes>::forward_strided, MatrixProduct<T, kVectorBytes>::pack,
       MatrixProduct<T, kVectorBytes>::multiply, MatrixProduct<T, kVectorBytes>::add_product},
      {NormRows<T, kVectorBytes>::affine_sum, NormRows<T, kVectorBytes>::add_statistics,
       NormRows<T, kVectorBytes>::gather, NormRows<T, kVectorBytes>::combine, NormRows<T, kVectorBytes>::scatter,
       PaddedPixels<T, kVectorBytes>::template pad<Compute<T>>,
       PaddedPixels<T, kVectorBytes>::template unpad<Compute<T>>, NormRows<T, kVectorBytes>::store},
  };
  return kTable;
}

#define FREEWIRE_INSTANTIATE(T, tag, name) template const Kernels<T>& kernel_table<T, FREEWIRE_VECTOR_BYTES>();
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cpu

#include "cpu/isa/target_end.h"

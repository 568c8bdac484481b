// SPDX-License-Identifier: MIT
// Fills the table of kernels for one register width. Included once by each isa_*.cpp, after its target is
// set.
#pragma once

#include "cpu/blocks/depthwise_rows.h"
#include "cpu/blocks/gated_sum_span.h"
#include "cpu/network/backward_tile.h"
#include "cpu/network/forward_tile.h"
#include "cpu/network/kernels.h"

namespace freewire::cpu {

template <class T, int kVectorBytes>
const Kernels<T>& kernel_table() {
  static constexpr Kernels<T> kTable = {
      {forward_tile<T, kVectorBytes, 64>, forward_tile<T, kVectorBytes, 128>, forward_tile<T, kVectorBytes, 256>},
      {backward_tile<T, kVectorBytes, 64>, backward_tile<T, kVectorBytes, 128>, backward_tile<T, kVectorBytes, 256>},
      {GatedSumSpan<T, kVectorBytes>::forward, GatedSumSpan<T, kVectorBytes>::backward},
      {DepthwiseRows<T, kVectorBytes>::forward, DepthwiseRows<T, kVectorBytes>::add_kernel_gradient,
       DepthwiseRows<T, kVectorBytes>::relu_gradient},
  };
  return kTable;
}

}  // namespace freewire::cpu

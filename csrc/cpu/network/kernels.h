// SPDX-License-Identifier: MIT
// The raw CPU kernels, without torch: their arguments, and the table of the kernels for this processor.
//
// A kernel runs one tile, a slice of the batch, through the whole network. Tiles are independent, so callers may
// distribute them over threads in any way (cpu/network/*_op.cpp by torch's pool, csrc/testing by std::thread). A row of
// a tile holds one node's values for the tile's samples; row_bytes() of tiling.h decides how many.
//
// x, y, their gradients and the tape are stored in T. Parameters and the gradients of nodes are Compute<T>, so that
// 16-bit types round a value once, and a gradient only when it is returned.
#pragma once

#include <cstdint>

#include "cpu/blocks/depthwise_kernels.h"
#include "cpu/blocks/gated_sum_kernels.h"
#include "number.h"
#include "plan_view.h"

namespace freewire::cpu {

template <class T>
struct ForwardArrays {
  const T* x;                // [batch, I]
  const Compute<T>* weight;  // [E]
  const Compute<T>* bias;    // [num_biases], or null
  T* y;                      // [batch, O]
  int64_t batch;
};

template <class T>
struct BackwardArrays {
  const T* grad_y;               // [batch, O]
  const Compute<T>* out_weight;  // [M] weights in out_edge's order
  const Compute<T>* weight;      // [E]
  T* grad_x;                     // [batch, I], or null
  int64_t batch;
};

// Memory of one thread in the backward. The sums are over one group of tiles.
template <class C>
struct BackwardScratch {
  C* grad;       // [S, columns] the gradient of each slot
  C* products;   // [product_fan_in, columns]
  C* out_sums;   // [M] weight gradients in out_edge's order, or null
  C* bias_sums;  // [C], or null
};

template <class T>
struct Kernels {
  // tape [rows, columns], where rows is plan.tape_rows if keep is set (for a backward) and plan.scratch_rows otherwise.
  using Forward = void (*)(const PlanView& plan, const ForwardArrays<T>& arrays, int64_t tile, bool keep, T* tape);
  // first: the tile is the first of its group, so the sums are written instead of added to.
  using Backward = void (*)(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t tile, bool first,
                            const T* tape, const BackwardScratch<Compute<T>>& scratch);
  Forward forward[3];  // by row bytes: 64, 128, 256
  Backward backward[3];
  GatedSumKernels<T> gated_sum;
  DepthwiseKernels<T> depthwise;
};

// The kernels for one instruction set, each compiled in a translation unit of its own.
template <class T, int kVectorBytes>
const Kernels<T>& kernel_table();

// The kernels for the widest instruction set that this processor has, or for a narrower one that FREEWIRE_ISA names
// (base, avx2, avx512).
template <class T>
const Kernels<T>& kernels();
const char* isa_name();

}  // namespace freewire::cpu

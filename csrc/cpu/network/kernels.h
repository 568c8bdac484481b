// SPDX-License-Identifier: MIT
// The raw CPU kernels, without torch: their arguments, and the table of the kernels for this processor.
//
// A kernel runs one tile, a slice of the batch, through the network or some of its nodes. Tiles are independent, so
// callers may distribute them over threads in any way (cpu/network/*_op.cpp by torch's pool, csrc/testing by
// std::thread). A row of a tile holds one node's values for the tile's samples; tiling.h decides how many.
//
// x, y, their gradients and the tape are stored in T. Parameters and the gradients of nodes are Compute<T>, so that
// 16-bit types round a value once, and a gradient only when it is returned.
#pragma once

#include <cstdint>

#include "cpu/blocks/depthwise_kernels.h"
#include "cpu/blocks/gated_sum_kernels.h"
#include "cpu/stages/norm_kernels.h"
#include "cpu/stages/stage_kernels.h"
#include "number.h"
#include "plan_view.h"

namespace freewire::cpu {

// Rows of one number, of 16 to 256 bytes, and rows of 64 bytes that are a quarter of rows of 256.
enum RowKind : int { kRow1, kRow16, kRow32, kRow64, kRow128, kRow256, kSlice };
constexpr int kRowKinds = 7;
constexpr int kFewKinds = 4;  // that may hold a batch of few samples: kRow1 to kRow64
constexpr int64_t row_bytes(RowKind kind, int64_t itemsize) {
  constexpr int64_t kBytes[kRowKinds] = {0, 16, 32, 64, 128, 256, 64};
  return kind == kRow1 ? itemsize : kBytes[kind];
}
constexpr int64_t kSlices = 4;  // of a row of 256 bytes

template <class T>
struct ForwardArrays {
  const T* x;                // [batch, I]
  const Compute<T>* weight;  // [E]
  const Compute<T>* panel;   // [num_panel] weights of padded blocks
  const Compute<T>* bias;    // [num_biases], or null
  T* y;                      // [batch, O]
  int64_t batch;
};

template <class T>
struct BackwardArrays {
  const T* grad_y;               // [batch, O]
  const Compute<T>* out_weight;  // [M] weights in out_edge's order; those in dense blocks are not read
  const Compute<T>* weight;      // [E]
  const Compute<T>* panel;       // [num_panel] weights of padded blocks
  T* grad_x;                     // [batch, I], or null
  int64_t batch;
};

// Memory of one tile in the backward. The sums are over one group of tiles.
template <class C>
struct BackwardScratch {
  C* grad;       // [S, columns] the gradient of each slot
  C* products;   // [product_fan_in, columns]
  C* out_sums;   // [M] weight gradients in out_edge's order, but for edges in dense blocks; or null
  C* bias_sums;  // [C], or null
};

// The same for the backward of one tile of few samples, whose nodes are in several parts.
template <class C>
struct FewScratch {
  C* grad;         // [parts, S, columns]: what the nodes of each part push
  C* products;     // [product_fan_in, columns], one for each thread
  C* weight_sums;  // [E] in canonical order, or null
  C* bias_sums;    // [C], or null
  int64_t parts;
  bool first;  // sums are written instead of added to
};

// Weight gradients of dense blocks: which nodes and tiles, and where their rows are.
template <class T>
struct BlockGradient {
  const T* tape;           // [tiles, tape_rows, columns]
  const Compute<T>* grad;  // [tiles, S, columns]
  int64_t tiles, columns;
  Compute<T>* panel;        // scratch [tiles * columns, kStripColumns]
  Compute<T>* weight_sums;  // [E]
  bool first;               // sums are written instead of added to
};
constexpr int64_t kStripColumns = 64;  // sources of a block that are transposed at a time

template <class T>
struct NetworkKernels {
  // Kernels of one tile take the first sample, and the tile's rows from its first column on. keep: the tape is for a
  // backward and has tape_rows rows, otherwise scratch_rows.
  //
  // read: x into the rows of the inputs. run: the nodes at positions [first, last) of run_node. write: the outputs
  // into y, and zeros past the batch's end if keep is set.
  using Read = void (*)(const PlanView& plan, const ForwardArrays<T>& arrays, int64_t begin, T* tape);
  using Run = void (*)(const PlanView& plan, const ForwardArrays<T>& arrays, int64_t first, int64_t last, bool keep,
                       bool prefetch, T* tape);
  using Write = void (*)(const PlanView& plan, const ForwardArrays<T>& arrays, int64_t begin, bool keep, T* tape);
  // first: the tile is the first of its group, so the sums are written instead of added to.
  using Backward = void (*)(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t begin, bool first,
                            bool prefetch, const T* tape, const BackwardScratch<Compute<T>>& scratch);
  // Of few samples. start: a part's gradients before the first node. run: the nodes at positions [first, last) of
  // run_node, last to first, as nodes of that part; with one part and no dense blocks, the nodes of those numbers.
  // finish: grad_x.
  using FewStart = void (*)(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t part,
                            const FewScratch<Compute<T>>& scratch);
  using FewRun = void (*)(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t part, int64_t first,
                          int64_t last, const T* tape, const FewScratch<Compute<T>>& scratch);
  using FewFinish = void (*)(const PlanView& plan, const BackwardArrays<T>& arrays,
                             const FewScratch<Compute<T>>& scratch);
  // Sums of weight and bias gradients of the slots [begin, end), from a tile's rows of values and gradients.
  using Sums = void (*)(const PlanView& plan, int64_t begin, int64_t end, bool first, const T* tape,
                        const BackwardScratch<Compute<T>>& scratch);
  // The nodes at positions [begin, end) of one dense block.
  using Gradient = void (*)(const PlanView& plan, int64_t block, int64_t begin, int64_t end,
                            const BlockGradient<T>& call);
  Read read[kRowKinds];
  Run run[kRowKinds];
  Write write[kRowKinds];
  FewStart few_start[kFewKinds];
  FewRun few_run[kFewKinds];
  FewFinish few_finish[kFewKinds];
  Backward backward[kRowKinds];
  Sums sums;  // rows of 256 bytes
  Gradient block_gradient;
};

template <class T>
struct Kernels {
  NetworkKernels<T> network;
  GatedSumKernels<T> gated_sum;
  DepthwiseKernels<T> depthwise;
  StageKernels<T> stage;
  NormKernels<T> norm;
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

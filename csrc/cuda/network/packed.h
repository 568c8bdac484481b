// SPDX-License-Identifier: MIT
// Edges and nodes in the form that the resident kernels read. They are packed in every call, since weights change.
//
// The edges of a node are contiguous, start at a multiple of kListAlignment, and are padded to whole chunks with idle
// edges, at least one chunk per node, so that a kernel loads chunks without tests. An idle edge reads a row of zeros
// with weight 0 (a weight of 0 alone could give 0 x infinity). No CUDA and no torch here.
#pragma once

#include <cstdint>

#include "number.h"
#include "plan_view.h"

namespace freewire::cuda {

// C is the type that is computed in. In double 4 bytes are padding, which is neither written nor read: a wider offset
// would be part of the same load, but the compiler reuses the dead half of its register, and waits for the load to do
// so.
template <class C>
struct alignas(2 * sizeof(C)) Edge {
  int32_t offset;  // bytes from the start of the tile to the row that is read
  C weight;
};

constexpr int64_t kListAlignment = 32;  // edges; the longest chunk

// The start of the index-th list, which would start at ptr if there were no gaps between lists.
constexpr int64_t packed_begin(int64_t ptr, int64_t index) { return (ptr / kListAlignment + index) * kListAlignment; }
inline int64_t forward_edges(const PlanSizes& plan) { return packed_begin(plan.num_edges, plan.num_computed()); }
inline int64_t backward_edges(const PlanSizes& plan) { return packed_begin(plan.num_live_edges, plan.num_slots); }

// A computed node in the forward. Networks with too many edges for 32 bits are streamed.
template <class C>
struct ForwardNode {
  int32_t count;  // edges
  int32_t kind;   // kind_of()
  int32_t row;    // of the tile
  C bias;
};

// A slot in the backward.
template <class C>
struct BackwardSlot {
  int32_t count;           // edges to readers that are linear
  int32_t kind;            // kind_of()
  int32_t derivative_row;  // the tape row from which the derivative is computed; -1 for an input
  int32_t output;          // index of the output, or -1
  C scale;                 // 1 / fan-in of a mean, else 1
};

// Activation, aggregation, and whether some readers are not linear, packed into one number.
constexpr int32_t kind_of(int32_t activation, int32_t aggregation, bool shares = false) {
  return activation | aggregation << 8 | (shares ? 1 << 16 : 0);
}
constexpr int32_t activation_of(int32_t kind) { return kind & 0xff; }
constexpr int32_t aggregation_of(int32_t kind) { return kind >> 8 & 0xff; }
constexpr bool has_shares(int32_t kind) { return kind >> 16; }

}  // namespace freewire::cuda

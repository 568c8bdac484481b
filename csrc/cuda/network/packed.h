// SPDX-License-Identifier: MIT
// Edges and nodes as the resident kernels read them: packed anew for every call, since weights change.
//
// Enters: nothing of CUDA's or torch's. Leaves: the structs, and how much memory they take. A node's edges stand side
// by side, from a multiple of kListAlignment on, and are filled up to whole chunks with idle edges, at least one chunk
// a node: so a kernel loads chunks and asks nothing. An idle edge reads a row of zeros, with weight 0 (a weight of 0
// alone would not do: 0 x infinity).
#pragma once

#include <cstdint>

#include "number.h"
#include "plan_view.h"

namespace freewire::cuda {

// C: the type that is computed in. In double 4 bytes are padding that nobody writes or reads: as part of the offset
// they would be one load with the rest, but the compiler uses that dead half of a register for other things, and waits
// for the load to do so.
template <class C>
struct alignas(2 * sizeof(C)) Edge {
  int32_t offset;  // bytes from the tile's start to the row it reads
  C weight;
};

constexpr int64_t kListAlignment = 32;  // edges; the longest chunk there is

// Where the index-th list begins, of lists that would begin at ptr if they stood without gaps.
constexpr int64_t packed_begin(int64_t ptr, int64_t index) { return (ptr / kListAlignment + index) * kListAlignment; }
inline int64_t forward_edges(const PlanView& plan) { return packed_begin(plan.num_edges, plan.num_computed()); }
inline int64_t backward_edges(const PlanView& plan) { return packed_begin(plan.num_live_edges, plan.num_slots); }

// A computed node of the forward. Networks of more edges than an int counts are streamed.
template <class C>
struct ForwardNode {
  int32_t count;  // edges
  int32_t kind;   // kind_of()
  int32_t row;    // of the tile
  C bias;
};

// A slot of the backward.
template <class C>
struct BackwardSlot {
  int32_t count;  // edges to readers that are linear
  int32_t kind;
  int32_t told_row;  // the tape row that the derivative is told by; -1: an input
  int32_t output;    // which output it is, or -1
  C scale;           // 1 / fan-in of a mean, else 1
};

// Activation, aggregation, and whether some readers are not linear, in one number.
constexpr int32_t kind_of(int32_t activation, int32_t aggregation, bool shares = false) {
  return activation | aggregation << 8 | (shares ? 1 << 16 : 0);
}
constexpr int32_t activation_of(int32_t kind) { return kind & 0xff; }
constexpr int32_t aggregation_of(int32_t kind) { return kind >> 8 & 0xff; }
constexpr bool has_shares(int32_t kind) { return kind >> 16; }

}  // namespace freewire::cuda

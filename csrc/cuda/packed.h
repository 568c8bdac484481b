// SPDX-License-Identifier: MIT
// Edges and nodes as the resident kernels read them: packed anew for every call, since weights change.
//
// Enters: nothing of CUDA's or torch's. Leaves: the structs, and how many of each a plan takes. A node's edges stand
// side by side, from an address that 16-byte loads can take; what that leaves open is filled with edges to a row of
// zeros, of weight 0 (a weight of 0 alone would not do: 0 x infinity).
#pragma once

#include <cstdint>

#include "plan_view.h"

namespace freewire::cuda {

template <class T>
struct alignas(2 * sizeof(T)) Edge {
  int32_t offset;  // of the row it reads, in numbers from the tile's start
  T weight;
};
template <class T>
constexpr int64_t kEdgeAlignment = 16 / sizeof(Edge<T>);

// Where the edges of the index-th list begin, of lists that would begin at ptr if none were aligned.
template <class T>
constexpr int64_t packed_begin(int64_t ptr, int64_t index) {
  constexpr int64_t kTo = kEdgeAlignment<T>;
  return (ptr + index * (kTo - 1)) / kTo * kTo;
}

// A computed node of the forward.
template <class T>
struct alignas(16) ForwardNode {
  int64_t begin, count;  // edges
  int32_t activation, aggregation;
  T bias;
};

// A slot of the backward.
template <class T>
struct alignas(16) BackwardSlot {
  int64_t begin, count;  // edges to readers that are linear
  int32_t activation, aggregation;
  int32_t told_row;  // the tape row that the derivative is told by; -1: an input
  int32_t output;    // which output it is, or -1
  T scale;           // 1 / fan-in of a mean, else 1
  bool shares;       // it has readers that are not linear
};

template <class T>
int64_t forward_edges(const PlanView& plan) {
  return packed_begin<T>(plan.num_edges, plan.num_computed());
}
template <class T>
int64_t backward_edges(const PlanView& plan) {
  return packed_begin<T>(plan.num_live_edges, plan.num_slots);
}

}  // namespace freewire::cuda

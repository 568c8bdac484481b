// SPDX-License-Identifier: MIT
// How a block of a population reads its member, and sums a node's terms.
//
// The sums are those of the resident kernels (gather.h) in the same order, of edges that are not packed beforehand: a
// member's edges are read by few blocks, and packing would take another launch and as much memory as the edges. So at
// the same width of tile y and grad_x have the same bits as those of the member's Network.
#pragma once

#include "cuda/common/device.h"
#include "cuda/network/population_kernels.h"
#include "cuda/network/resident.h"
#include "cuda/network/rows.h"
#include "population.h"

namespace freewire::cuda {

// A row of the table: where a member begins.
struct MemberPlace {
  __device__ MemberPlace(const int64_t* table, int64_t member)
      : word(table[kTableColumns * member]),
        weight(table[kTableColumns * member + 1]),
        bias(table[kTableColumns * member + 2]),
        row(table[kTableColumns * member + 3]) {}
  int64_t word, weight, bias, row;  // of words, weight, bias, and the tape
};

// Reads a packed plan's header, by all threads of the block: one load each. The caller must synchronise afterwards. The
// header is trusted, as read_plan() trusts the sections.
inline __device__ void read_member(const int64_t* words, PlanView& plan) {
  constexpr int kNumSizes = static_cast<int>(layout::kSizes) - 2;
  for (int i = threadIdx.x; i < kNumSizes; i += blockDim.x) {
    const int64_t size = words[2 + i];
    int place = 0;
#define FREEWIRE_SIZE(name) \
  if (place++ == i) plan.name = size;
    FREEWIRE_PLAN_SIZES(FREEWIRE_SIZE)
#undef FREEWIRE_SIZE
  }
  for (int i = threadIdx.x; i < static_cast<int>(layout::kSections); i += blockDim.x) {
    const int64_t* const section = words + words[kPlanSizes + 2 * i];
    int place = 0;
#define FREEWIRE_SECTION(type, name, length) \
  if (place++ == i) plan.name = reinterpret_cast<const type*>(section);
    FREEWIRE_PLAN_SECTIONS(FREEWIRE_SECTION, FREEWIRE_SECTION)
#undef FREEWIRE_SECTION
  }
}

// Calls body(Lanes, pair) with the lanes that with_lanes() of resident.h chooses for the member; pair is kPair of
// those. Lanes for few edges and for the usual number differ in nothing else here.
template <class T, int kColumns, class Body>
__device__ __forceinline__ void with_member_lanes(const PlanSizes& plan, Body&& body) {
  using Few = Lanes<T, kColumns, kSmallTeam, kFewEdges>;
  using Usual = Lanes<T, kColumns, kSmallTeam, kUsualEdges>;
  using Whole = Lanes<T, kColumns, kWholeWarp, kUsualEdges>;
  const int64_t nodes = plan.num_computed(), edges = plan.num_live_edges;
  if (edges > kManyEdges * nodes) return body(Whole{}, Whole::kPair);
  const bool usual = edges > (kFewEdges + kUsualEdges) / 2 * nodes;
  body(Few{}, usual ? Usual::kPair : Few::kPair);
}

// The place in a node's list of the j-th edge that a lane sums; pair, the neighbouring edges of one lane, is 1 or 2.
template <class L>
__device__ __forceinline__ int edge_of_lane(int j, int pair) {
  const int shift = pair - 1;
  return (((j >> shift) * L::kRows + L::row()) << shift) + (j & shift);
}

// kept = the sums of count weighted rows at the lane's columns, as gather() of gather.h; edge(k) -> MemberEdge. Called
// by whole warps, with a count for each team.
template <class L, class T, class EdgeAt>
__device__ __forceinline__ void gather_edges(const Rows<T>& rows, int count, int pair, EdgeAt&& edge,
                                             Compute<T> (&kept)[L::kKept]) {
  Compute<T> sums[L::kHeld] = {};
  for (int j = 0;; ++j) {
    const int k = edge_of_lane<L>(j, pair);
    if (k >= count) break;
    const auto read = edge(k);
    const auto values = load_pack<L::kHeld>(&rows.at(read.row, L::first_column()));
    for (int c = 0; c < L::kHeld; ++c) sums[c] += read.weight * widened(values.v[c]);
  }
  reduce<L::kAcross, L::kTeam>(sums);
#pragma unroll
  for (int c = 0; c < L::kKept; ++c) kept[c] = sums[c];
}

// Calls body(slot, mine) by whole warps for the slots from begin to end, one for each team of lanes; a team for which
// none is left has the last one, and mine is false.
template <class L, class Body>
__device__ __forceinline__ void each_slot(int begin, int end, Body&& body) {
  for (int first = begin + warp_in_block() * L::kTeams; first < end; first += warps_in_block() * L::kTeams) {
    const bool mine = first + L::team() < end;
    body(mine ? first + L::team() : end - 1, mine);
  }
}

}  // namespace freewire::cuda

// SPDX-License-Identifier: MIT
// How the lanes of a warp sum up weighted rows of a tile in shared memory: the inner loop of the resident kernels.
//
// Enters: nodes' packed edges (cuda/packed.h) and a tile of kColumns columns a row. Leaves: the sums. A team of lanes
// works at one node, so that a warp serves several and what a node costs beside its edges is paid once for all of them;
// a lane reads up to 16 bytes of a row, so that an edge's own load serves several columns. An edge moves 8 bytes (16 in
// double) from L2 or L1 and its row from shared memory. Nothing is asked an edge: lists end in whole chunks.
#pragma once

#include "cuda/network/packed.h"
#include "cuda/network/rows.h"

namespace freewire::cuda {

// How a warp covers nodes, edges and columns. T: what the tile's rows are stored as. kTeamWanted: lanes a node. kEdges:
// about as many edges as a usual node has, at most kListAlignment.
template <class T, int kTile, int kTeamWanted, int kEdges>
struct Lanes {
  using C = Compute<T>;
  static constexpr int kColumns = kTile;
  static_assert(kColumns >= 2 && kColumns <= kWarpSize && (kColumns & (kColumns - 1)) == 0 &&
                    (kTeamWanted & (kTeamWanted - 1)) == 0 && kTeamWanted <= kWarpSize,
                "a warp is a whole number of teams, a team covers whole rows");
  static constexpr int kHeld = kColumns < int(16 / sizeof(T)) ? kColumns : int(16 / sizeof(T));  // columns a lane reads
  static constexpr int kAcross = kColumns / kHeld;                                               // lanes a row
  static constexpr int kTeam = kTeamWanted > kAcross ? kTeamWanted : kAcross;                    // lanes a node
  static constexpr int kTeams = kWarpSize / kTeam;                                               // nodes a warp
  static constexpr int kRows = kTeam / kAcross;                          // edges a team reads by one instruction
  static constexpr int kKept = kColumns > kTeam ? kColumns / kTeam : 1;  // columns a lane ends with
  static constexpr int kPair = kRows * 2 <= kEdges ? 16 / int(sizeof(Edge<C>)) : 1;  // edges in one load
  static constexpr int kStep = kRows * kPair;                                        // edges that a team loads at once
  // At most 8 registers a chunk: three are held at a time.
  static constexpr int kMostSteps = 32 / (kPair * int(sizeof(Edge<C>)));
  static constexpr int kSteps = kStep >= kEdges ? 1 : kEdges / kStep < kMostSteps ? kEdges / kStep : kMostSteps;
  static constexpr int kChunk = kStep * kSteps;  // edges in registers at a time
  static_assert(kListAlignment % kChunk == 0, "lists have room for whole chunks");

  static __device__ __forceinline__ int team() { return lane_in_warp() / kTeam; }
  static __device__ __forceinline__ int row() { return lane_in_warp() % kTeam / kAcross; }
  static __device__ __forceinline__ int first_column() { return lane_in_warp() % kAcross * kHeld; }
  // The first of the columns whose sums the lane ends with.
  static __device__ __forceinline__ int column() { return first_column() + reduced_column<kAcross, kTeam, kHeld>(); }
  // Where a team has more lanes than columns the others have copies.
  static __device__ __forceinline__ bool has_copy() { return lane_in_warp() % kTeam >= kColumns; }
};

template <class T>
__device__ __forceinline__ const T* row_at(const T* tile, int32_t offset) {
  return reinterpret_cast<const T*>(reinterpret_cast<const char*>(tile) + offset);
}

// Edges in registers.
template <class L, class T>
class Chunk {
  using C = Compute<T>;

 public:
  __device__ __forceinline__ void load(const Edge<C>* edges) {
#pragma unroll
    for (int s = 0; s < L::kSteps; ++s) edges_[s] = load_pack<L::kPair>(edges + s * L::kStep + L::row() * L::kPair);
  }

  // lane_tile: the tile from the lane's first column on.
  __device__ __forceinline__ void add_to(C (&sums)[L::kHeld], const T* lane_tile) const {
#pragma unroll
    for (int s = 0; s < L::kSteps; ++s) {
      for (int i = 0; i < L::kPair; ++i) {
        const Edge<C> edge = edges_[s].v[i];
        const auto values = load_pack<L::kHeld>(row_at(lane_tile, edge.offset));
        for (int c = 0; c < L::kHeld; ++c) sums[c] += edge.weight * widened(values.v[c]);
      }
    }
  }

 private:
  Pack<Edge<C>, L::kPair> edges_[L::kSteps];
};

// sums = the sums of count weighted rows, at the lane's columns; chunk holds the first edges already, and is used up.
// Whole warps only, each team with a count of its own. Two chunks take turns, so that one is on its way while the other
// is summed up.
template <class L, class T>
__device__ __forceinline__ void gather(Chunk<L, T>& chunk, const Edge<Compute<T>>* edges, int count, const T* tile,
                                       Compute<T> (&kept)[L::kKept]) {
  const T* const lane_tile = tile + L::first_column();
  Compute<T> sums[L::kHeld] = {};
  Chunk<L, T> other;
#pragma unroll 1
  while (true) {
    if (count <= L::kChunk) {
      chunk.add_to(sums, lane_tile);
      break;
    }
    other.load(edges += L::kChunk);
    chunk.add_to(sums, lane_tile);
    count -= L::kChunk;
    if (count <= L::kChunk) {
      other.add_to(sums, lane_tile);
      break;
    }
    chunk.load(edges += L::kChunk);
    other.add_to(sums, lane_tile);
    count -= L::kChunk;
  }
  reduce<L::kAcross, L::kTeam>(sums);
#pragma unroll
  for (int c = 0; c < L::kKept; ++c) kept[c] = sums[c];
}

}  // namespace freewire::cuda

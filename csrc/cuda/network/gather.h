// SPDX-License-Identifier: MIT
// The inner loop of the resident kernels: the lanes of a warp sum weighted rows of a tile in shared memory.
//
// The edges are packed (cuda/network/packed.h), the tile's rows have kColumns columns. A team of lanes handles one
// node, so a warp handles several at once and shares between them the cost of a node beyond its edges; a lane reads up
// to 16 bytes of a row, so one load of an edge serves several columns. An edge loads 8 bytes (16 in double) from L2 or
// L1, and its row from shared memory. There is no test per edge: lists are padded to whole chunks.
#pragma once

#include "cuda/network/packed.h"
#include "cuda/network/rows.h"

namespace freewire::cuda {

// How a warp covers nodes, edges and columns. The tile's rows are stored in T; kTeamWanted is the number of lanes per
// node; kEdges is about the usual number of edges per node, at most kListAlignment.
template <class T, int kTile, int kTeamWanted, int kEdges>
struct Lanes {
  using C = Compute<T>;
  static constexpr int kColumns = kTile;
  static_assert(kColumns >= 2 && kColumns <= kWarpSize && (kColumns & (kColumns - 1)) == 0 &&
                    (kTeamWanted & (kTeamWanted - 1)) == 0 && kTeamWanted <= kWarpSize,
                "a warp is a whole number of teams, and a team covers whole rows");
  static constexpr int kHeld =
      kColumns < int(16 / sizeof(T)) ? kColumns : int(16 / sizeof(T));         // columns that a lane reads
  static constexpr int kAcross = kColumns / kHeld;                             // lanes per row
  static constexpr int kTeam = kTeamWanted > kAcross ? kTeamWanted : kAcross;  // lanes per node
  static constexpr int kTeams = kWarpSize / kTeam;                             // nodes per warp
  static constexpr int kRows = kTeam / kAcross;                                // edges per load instruction of a team
  static constexpr int kKept = kColumns > kTeam ? kColumns / kTeam : 1;        // columns per lane after the reduction
  static constexpr int kPair = kRows * 2 <= kEdges ? 16 / int(sizeof(Edge<C>)) : 1;  // edges per load of a lane
  static constexpr int kStep = kRows * kPair;                                        // edges per step of a team
  // At most 8 registers per chunk, since three chunks are held at a time.
  static constexpr int kMostSteps = 32 / (kPair * int(sizeof(Edge<C>)));
  static constexpr int kSteps = kStep >= kEdges ? 1 : kEdges / kStep < kMostSteps ? kEdges / kStep : kMostSteps;
  static constexpr int kChunk = kStep * kSteps;  // edges per chunk, in registers
  static_assert(kListAlignment % kChunk == 0, "lists have room for whole chunks");

  static __device__ __forceinline__ int team() { return lane_in_warp() / kTeam; }
  static __device__ __forceinline__ int row() { return lane_in_warp() % kTeam / kAcross; }
  static __device__ __forceinline__ int first_column() { return lane_in_warp() % kAcross * kHeld; }
  // The first of the columns whose sums the lane holds after the reduction.
  static __device__ __forceinline__ int column() { return first_column() + reduced_column<kAcross, kTeam, kHeld>(); }
  // Whether the lane only holds a copy, in a team of more lanes than columns.
  static __device__ __forceinline__ bool has_copy() { return lane_in_warp() % kTeam >= kColumns; }
};

template <class T>
__device__ __forceinline__ const T* row_at(const T* tile, int32_t offset) {
  return reinterpret_cast<const T*>(reinterpret_cast<const char*>(tile) + offset);
}

// A chunk of edges in registers.
template <class L, class T>
class Chunk {
  using C = Compute<T>;

 public:
  __device__ __forceinline__ void load(const Edge<C>* edges) {
#pragma unroll
    for (int s = 0; s < L::kSteps; ++s) edges_[s] = load_pack<L::kPair>(edges + s * L::kStep + L::row() * L::kPair);
  }

  // lane_tile is the tile from the lane's first column on.
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

// kept = the sums of count weighted rows at the lane's columns. chunk already holds the first edges, and is
// overwritten. Called by whole warps, with a count for each team. Two chunks alternate, so that one is loaded while the
// other is summed.
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

// SPDX-License-Identifier: MIT
// How a warp sums up weighted rows of a tile in shared memory: the inner loop of the resident kernels.
//
// Enters: a node's packed edges (cuda/packed.h) and a tile of kColumns columns a row. Leaves: the sums, one column a
// lane. A lane reads up to 16 bytes of a row, so that kRows rows are read by one instruction and an edge's own load
// serves several columns. An edge moves 8 bytes (16 in double) from L2 or L1 and its row from shared memory, nothing
// is branched on a lane's own edge: lanes past the last one read the row of zeros.
#pragma once

#include "cuda/packed.h"
#include "cuda/rows.h"

namespace freewire::cuda {

template <class T, int kColumns>
struct Lanes {
  static_assert(kColumns >= 2 && kColumns <= kWarpSize && (kColumns & (kColumns - 1)) == 0,
                "a warp covers a whole number of equal rows");
  static constexpr int kHeld = kColumns < int(16 / sizeof(T)) ? kColumns : int(16 / sizeof(T));  // columns a lane reads
  static constexpr int kAcross = kColumns / kHeld;                                               // lanes a row
  static constexpr int kRows = kWarpSize / kAcross;                                              // rows an instruction
  // Edges in one load. On narrow tiles a warp covers a usual node's edges with one each.
  static constexpr int kPair = kColumns >= 8 ? int(kEdgeAlignment<T>) : 1;
  static constexpr int kStep = kRows * kPair;  // edges that the warp's lanes load by one instruction
  static constexpr int kSteps = kStep >= 32 ? 1 : 32 / kStep < 4 ? 32 / kStep : 4;
  static constexpr int kChunk = kStep * kSteps;  // edges in registers at a time

  static __device__ __forceinline__ int row() { return lane_in_warp() / kAcross; }
  static __device__ __forceinline__ int first_column() { return lane_in_warp() % kAcross * kHeld; }
  // The column whose sum the lane ends with; lanes from kColumns on have copies.
  static __device__ __forceinline__ int column() { return first_column() + reduced_column<kAcross, kHeld>(); }
};

// Edges in registers.
template <class T, int kColumns>
class Chunk {
  using L = Lanes<T, kColumns>;

 public:
  // The first kChunk of count edges; count may be 0 or less.
  __device__ __forceinline__ void load(const Edge<T>* edges, int64_t count, int32_t zero_offset) {
#pragma unroll
    for (int s = 0; s < L::kSteps; ++s) {
      const int k = s * L::kStep + L::row() * L::kPair;
      if (k < count) {
        edges_[s] = load_pack<L::kPair>(edges + k);
      } else {
        for (int i = 0; i < L::kPair; ++i) edges_[s].v[i] = {zero_offset, T(0)};
      }
    }
  }

  __device__ __forceinline__ void add_to(T (&sums)[L::kHeld], const T* tile, int64_t count) const {
#pragma unroll
    for (int s = 0; s < L::kSteps; ++s) {
      if (s > 0 && s * L::kStep >= count) break;  // the same for all lanes
      for (int i = 0; i < L::kPair; ++i) {
        const Edge<T> edge = edges_[s].v[i];
        const auto values = load_pack<L::kHeld>(tile + edge.offset + L::first_column());
        for (int c = 0; c < L::kHeld; ++c) sums[c] += edge.weight * values.v[c];
      }
    }
  }

 private:
  Pack<Edge<T>, L::kPair> edges_[L::kSteps];
};

// The sum of count weighted rows at the lane's column(); chunk holds the first edges already. Whole warps only.
template <class T, int kColumns>
__device__ __forceinline__ T gather(Chunk<T, kColumns> chunk, const Edge<T>* edges, int64_t count, const T* tile,
                                    int32_t zero_offset) {
  using L = Lanes<T, kColumns>;
  T sums[L::kHeld] = {};
#pragma unroll 1
  while (count > L::kChunk) {
    edges += L::kChunk;
    Chunk<T, kColumns> ahead;
    ahead.load(edges, count - L::kChunk, zero_offset);
    chunk.add_to(sums, tile, L::kChunk);
    chunk = ahead;
    count -= L::kChunk;
  }
  chunk.add_to(sums, tile, count);
  return reduce<L::kAcross>(sums);
}

}  // namespace freewire::cuda

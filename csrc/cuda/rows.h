// SPDX-License-Identifier: MIT
// Rows of node values, and how a warp shares them out among its lanes.
//
// Enters: a pointer and a stride. Leaves: Rows, one layout for both regimes (in shared memory a row is one tile's
// columns, in global memory the whole padded batch), and Lanes, which lane works at which column.
#pragma once

#include <cstdint>

#include "cuda/device.h"

namespace freewire::cuda {

template <class T>
struct Rows {
  T* data;         // null: not kept
  int64_t stride;  // columns from one row to the next
  __device__ T& at(int64_t row, int64_t column) const { return data[row * stride + column]; }
};

// A warp on rows of kColumns: lane = group * kColumns + column. The groups divide a node's edges among themselves.
template <int kColumns>
struct Lanes {
  static_assert(kColumns >= 1 && kColumns <= kWarpSize && (kColumns & (kColumns - 1)) == 0,
                "a warp covers a whole number of equal groups of columns");
  static constexpr int kGroups = kWarpSize / kColumns;
  static __device__ int column() { return static_cast<int>(threadIdx.x) % kColumns; }
  static __device__ int group() { return static_cast<int>(threadIdx.x) % kWarpSize / kColumns; }

  // Each column's values over the groups, added; whole warps only. Every lane gets the same bits, since x + y is y + x.
  template <class T>
  static __device__ T sum(T value) {
    for (int bit = kColumns; bit < kWarpSize; bit *= 2) value += __shfl_xor_sync(kFullWarp, value, bit);
    return value;
  }
};

inline __device__ int warp_in_block() { return static_cast<int>(threadIdx.x) / kWarpSize; }
inline __device__ int warps_in_block() { return static_cast<int>(blockDim.x) / kWarpSize; }
inline __device__ int lane_in_warp() { return static_cast<int>(threadIdx.x) % kWarpSize; }

}  // namespace freewire::cuda

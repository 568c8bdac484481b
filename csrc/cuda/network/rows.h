// SPDX-License-Identifier: MIT
// Rows of node values, and loads of several numbers at once.
//
// Enters: a pointer and a stride. Leaves: Rows, one layout for both regimes (in shared memory a row is one tile's
// columns, in global memory the whole padded batch); Pack; a warp's place in its block; sums over a warp.
#pragma once

#include <cstdint>

#include "cuda/common/device.h"
#include "number.h"

namespace freewire::cuda {

template <class T>
struct Rows {
  T* data;         // null: not kept
  int64_t stride;  // columns from one row to the next
  __device__ T& at(int64_t row, int64_t column) const { return data[row * stride + column]; }
};

// Neighbours in memory that move together: 16 bytes are one load.
template <class T, int kCount>
struct alignas(sizeof(T) * kCount) Pack {
  T v[kCount];
};
template <int kCount, class T>
__device__ __forceinline__ Pack<T, kCount> load_pack(const T* from) {
  return *reinterpret_cast<const Pack<T, kCount>*>(from);
}
template <int kCount, class T>
__device__ __forceinline__ void store_pack(T* to, const Pack<T, kCount>& values) {
  *reinterpret_cast<Pack<T, kCount>*>(to) = values;
}
// The same to global memory, by one instruction: the compiler makes a number of them of the above.
template <int kCount, class T>
__device__ __forceinline__ void store_global(T* to, const Pack<T, kCount>& values) {
  if constexpr (kCount == 4 && sizeof(T) == 2) {
    __stwb(reinterpret_cast<float2*>(to), same_bits<float2>(values));
  } else if constexpr (kCount == 2 && sizeof(T) == 2) {
    __stwb(reinterpret_cast<float*>(to), same_bits<float>(values));
  } else if constexpr (kCount == 4 && sizeof(T) == 4) {
    __stwb(reinterpret_cast<float4*>(to), make_float4(values.v[0], values.v[1], values.v[2], values.v[3]));
  } else if constexpr (kCount == 2 && sizeof(T) == 4) {
    __stwb(reinterpret_cast<float2*>(to), make_float2(values.v[0], values.v[1]));
  } else if constexpr (kCount == 2) {
    __stwb(reinterpret_cast<double2*>(to), make_double2(values.v[0], values.v[1]));
  } else {
    store_pack(to, values);
  }
}

// From one type to the other, number by number.
template <class To, class From, int kCount>
__device__ __forceinline__ Pack<To, kCount> pack_as(const Pack<From, kCount>& values) {
  Pack<To, kCount> to;
#pragma unroll
  for (int i = 0; i < kCount; ++i) to.v[i] = stored_as<To>(values.v[i]);
  return to;
}

__device__ inline int warp_in_block() { return static_cast<int>(threadIdx.x) / kWarpSize; }
__device__ inline int warps_in_block() { return static_cast<int>(blockDim.x) / kWarpSize; }
__device__ inline int lane_in_warp() { return static_cast<int>(threadIdx.x) % kWarpSize; }

// ---- sums over the lanes of a team; whole warps only ----
//
// Of a team's kTeam lanes, those that are equal modulo kApart hold numbers of the same kCount columns, to be summed.
// While a lane has several columns it keeps one half of them and gives the other to the lane across: kCount - 1
// shuffles, and then one for each halving that is left. One order of summation; lanes that end with the same column
// have the same bits.

// Leaves each lane's columns at the front of sums, from the one that reduced_column() names.
template <int kApart, int kTeam, class T, int kCount>
__device__ __forceinline__ void reduce(T (&sums)[kCount]) {
  int held = kCount;
#pragma unroll
  for (int bit = kApart; bit < kTeam; bit *= 2) {
    if (held == 1) {
      sums[0] += __shfl_xor_sync(kFullWarp, sums[0], bit);
      continue;
    }
    held /= 2;
    const bool upper = lane_in_warp() & bit;
#pragma unroll
    for (int i = 0; i < kCount / 2; ++i) {
      if (i >= held) break;
      const T keep = upper ? sums[i + held] : sums[i], give = upper ? sums[i] : sums[i + held];
      sums[i] = keep + __shfl_xor_sync(kFullWarp, give, bit);
    }
  }
}

// Which of its kCount columns is the first that this lane ends with.
template <int kApart, int kTeam, int kCount>
__device__ __forceinline__ int reduced_column() {
  int column = 0, held = kCount;
#pragma unroll
  for (int bit = kApart; bit < kTeam && held > 1; bit *= 2) {
    held /= 2;
    if (lane_in_warp() & bit) column += held;
  }
  return column;
}

template <class T>
__device__ __forceinline__ T warp_sum(T value) {
  T one[1] = {value};
  reduce<1, kWarpSize>(one);
  return one[0];
}

}  // namespace freewire::cuda

// SPDX-License-Identifier: MIT
// Loads and stores of several numbers at once; the place of a thread in its warp and block; sums over the lanes of a
// warp.
#pragma once

#include <cstdint>

#include "cuda/common/device.h"
#include "number.h"

namespace freewire::cuda {

// Neighbours in memory that are loaded and stored together; 16 bytes take one instruction.
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
// The same to global memory, in one instruction; the compiler splits store_pack() into several.
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

// Converts each number to another type.
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

// ---- sums over the lanes of a team; called by whole warps ----
//
// Of the kTeam lanes of a team, those that are equal modulo kApart hold numbers of the same kCount columns, to be
// summed. While a lane has several columns it keeps one half of them and gives the other half to its partner: kCount -
// 1 shuffles, then one for each halving that remains. Sums have one order; lanes that end with the same column have the
// same bits.

// The sums of the lane's own columns end at the front of sums, the first being that of reduced_column().
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

// The first of the kCount columns whose sum this lane ends with.
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

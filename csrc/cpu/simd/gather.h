// SPDX-License-Identifier: MIT
// Sums over numbers at indices: what an edge is where a row of the tape is one number.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/simd/shuffle.h"
#include "cpu/simd/vec.h"
#include "number.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

// The widest register of C.
template <class C>
using Wide = Vec<C, FREEWIRE_VECTOR_BYTES / static_cast<int>(sizeof(C))>;

// Lanes from[index[0]], from[index[1]], ... Instructions for it pay in AVX-512 only.
template <class C, class T>
FREEWIRE_INLINE Wide<C> gathered(const T* from, const int32_t* index) {
  constexpr int kLanes = Wide<C>::kLanes;
#if defined(__x86_64__) && FREEWIRE_VECTOR_BYTES == 64
  if constexpr (std::is_same_v<T, float>) {
    return same_bits<typename Wide<C>::Native>(
        _mm512_mask_i32gather_ps(_mm512_setzero_ps(), 0xffff, _mm512_loadu_si512(index), from, 4));
  }
  if constexpr (std::is_same_v<T, double>) {
    const __m256i some = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index));
    return same_bits<typename Wide<C>::Native>(_mm512_mask_i32gather_pd(_mm512_setzero_pd(), 0xff, some, from, 8));
  }
#endif
  C lanes[kLanes];
#pragma GCC unroll 16
  for (int k = 0; k < kLanes; ++k) lanes[k] = widened(from[index[k]]);
  return Wide<C>::load(lanes);
}

// Whether the indices are i, i + 1, i + 2, ...
inline bool are_adjacent(const int32_t* index, int64_t count) {
  for (int64_t i = 0; i < count;) {
    bool all = true;  // of some, so that a loop without a branch compares them
    for (const int64_t end = i + 64 < count ? i + 64 : count; i < end; ++i) all &= index[i] == index[0] + i;
    if (!all) return false;
  }
  return true;
}

// The sum of weight[i] * from[index[i]], or with kAdjacent of weight[i] * from[index[0] + i].
template <bool kAdjacent, class C, class T>
FREEWIRE_INLINE C indexed_dot(const int32_t* index, const C* weight, int64_t count, const T* from) {
  using V = Wide<C>;
  constexpr int kLanes = V::kLanes;
  const T* first = kAdjacent && count ? from + index[0] : from;
  const auto term = [&](int64_t i) __attribute__((always_inline)) {
    if constexpr (kAdjacent) {
      return V::load(weight + i) * V::load(first + i);
    } else {
      return V::load(weight + i) * gathered<C>(from, index + i);
    }
  };
  V even(C(0)), odd(C(0));
  int64_t i = 0;
  for (; i + 2 * kLanes <= count; i += 2 * kLanes) {
    even = even + term(i);
    odd = odd + term(i + kLanes);
  }
  if (i + kLanes <= count) {
    even = even + term(i);
    i += kLanes;
  }
  // Four sums side by side, since each would wait for the one before it.
  const auto one = [&](int64_t at) { return weight[at] * widened(kAdjacent ? first[at] : from[index[at]]); };
  C rest[4] = {};
  for (; i + 4 <= count; i += 4) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) rest[k] += one(i + k);
  }
  for (; i < count; ++i) rest[0] += one(i);
  const C some = (rest[0] + rest[1]) + (rest[2] + rest[3]);
  return count < kLanes ? some : horizontal_sum(even + odd) + some;
}

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

// SPDX-License-Identifier: MIT
// Moves lanes between registers: transposition and horizontal sums.
//
// Index patterns are computed at compile time, so that one source serves every register width. Each shuffle is a single
// instruction on AVX2 and AVX-512.
#pragma once

#include "cpu/simd/vec.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

// The lanes Pattern::at(0), Pattern::at(1), ... of a and b, where lane N + i is lane i of b.
template <class Pattern, class T, int N, int... kLane>
FREEWIRE_INLINE Vec<T, N> shuffle(Vec<T, N> a, Vec<T, N> b, std::integer_sequence<int, kLane...>) {
#if defined(__clang__)
  return Vec<T, N>(__builtin_shufflevector(a.v, b.v, Pattern::at(kLane)...));
#else
  using Index = typename NativeOf<T, N>::Bits;
  return Vec<T, N>(__builtin_shuffle(a.v, b.v, Index{Pattern::at(kLane)...}));
#endif
}
template <class Pattern, class T, int N>
FREEWIRE_INLINE Vec<T, N> shuffle(Vec<T, N> a, Vec<T, N> b) {
  return shuffle<Pattern>(a, b, std::make_integer_sequence<int, N>{});
}

// Alternates lanes of a and b, from their lower halves or from their upper halves.
template <int N, bool kUpper>
struct Interleave {
  static constexpr int at(int lane) { return lane / 2 + (kUpper ? N / 2 : 0) + (lane % 2 ? N : 0); }
};

// Within each 16-byte block of kBlock lanes: alternates runs of kRun lanes of a and b, from the block's lower or upper
// half.
template <int N, int kBlock, int kRun, bool kUpper>
struct BlockInterleave {
  static constexpr int at(int lane) {
    const int block = lane / kBlock * kBlock, within = lane % kBlock;
    return block + within / (2 * kRun) * kRun + within % kRun + (kUpper ? kBlock / 2 : 0) + (within / kRun % 2 ? N : 0);
  }
};

template <int N, int kBy>
struct Rotate {
  static constexpr int at(int lane) { return (lane + kBy) % N; }
};

// rows[i][j] becomes rows[j][i]: log2(N) perfect shuffles, each interleaving row i with row i + N / 2.
template <class T, int N>
FREEWIRE_INLINE void transpose(Vec<T, N> (&rows)[N]) {
  if constexpr (N > 1) {
#pragma GCC unroll 4
    for (int width = 1; width < N; width *= 2) {
      Vec<T, N> next[N];
#pragma GCC unroll 16
      for (int i = 0; i < N / 2; ++i) {
        next[2 * i] = shuffle<Interleave<N, false>>(rows[i], rows[i + N / 2]);
        next[2 * i + 1] = shuffle<Interleave<N, true>>(rows[i], rows[i + N / 2]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < N; ++i) rows[i] = next[i];
    }
  }
}

// Number of registers that block_sums() reduces together: the lanes of a 16-byte block.
template <class T>
constexpr int kSumGroup = 16 / sizeof(T);

// The horizontal sums of kSumGroup registers, in the first lanes of the result.
template <class T, int N>
FREEWIRE_INLINE Vec<T, N> block_sums(const Vec<T, N> (&parts)[kSumGroup<T>]) {
  constexpr int kBlock = kSumGroup<T>;
  const auto fold = [](Vec<T, N> a, Vec<T, N> b, auto run) {
    constexpr int kRun = decltype(run)::value;
    return shuffle<BlockInterleave<N, kBlock, kRun, false>>(a, b) +
           shuffle<BlockInterleave<N, kBlock, kRun, true>>(a, b);
  };
  Vec<T, N> sum;  // each block holds one partial sum per register
  if constexpr (kBlock == 2) {
    sum = fold(parts[0], parts[1], std::integral_constant<int, 1>{});
  } else {
    sum = fold(fold(parts[0], parts[1], std::integral_constant<int, 1>{}),
               fold(parts[2], parts[3], std::integral_constant<int, 1>{}), std::integral_constant<int, 2>{});
  }
  if constexpr (N >= 8 * kBlock) static_assert(N < 8 * kBlock, "a register has at most four blocks");
  if constexpr (N >= 4 * kBlock) sum = sum + shuffle<Rotate<N, N / 2>>(sum, sum);
  if constexpr (N >= 2 * kBlock) sum = sum + shuffle<Rotate<N, kBlock>>(sum, sum);
  return sum;
}

// The first kCount lanes.
template <int kCount, class T, int N>
FREEWIRE_INLINE Vec<T, kCount> first_lanes(Vec<T, N> value) {
  if constexpr (kCount == N) {
    return value;
  } else {
    Vec<T, kCount> first;
    std::memcpy(&first.v, &value.v, sizeof first.v);
    return first;
  }
}

template <class T, int N>
FREEWIRE_INLINE T horizontal_sum(Vec<T, N> value) {
  if constexpr (N == 1) {
    return value.v;
  } else {
    const Vec<T, N> zero(T(0));
    Vec<T, N> parts[kSumGroup<T>];
#pragma GCC unroll 4
    for (int i = 0; i < kSumGroup<T>; ++i) parts[i] = i == 0 ? value : zero;
    return block_sums(parts).v[0];
  }
}

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

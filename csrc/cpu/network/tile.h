// SPDX-License-Identifier: MIT
// The geometry of a tile, and its transposition from and to batch-major arrays. Shared by forward and backward.
//
// Rows of the tape are node-major with the batch last; x, y and their gradients are batch-major. The samples past the
// end of the batch repeat its last one, so that nothing is read out of bounds. A tile of a few samples has rows shorter
// than a register, and registers as short.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cpu/simd/shuffle.h"
#include "cpu/simd/vec.h"
#include "number.h"
#include "plan_view.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

// A dense block accumulates kBlockNodes rows at once, of this many registers each: with AVX-512's 32 registers 24 sums,
// four parts of a row and a weight; with 16 registers 12, two and one.
constexpr int kBlockNodes = 6;
template <int kVectorBytes>
constexpr int kBlockRegisters = kVectorBytes == 64 ? 4 : 2;

// T is the type that rows are stored in; kRowBytes is the size of a row in the type that is computed in, and
// kStrideBytes that of the row it is a part of, where a tile is a slice of a wider one.
template <class T, int kVectorBytes, int kRowBytes, int kStrideBytes = kRowBytes>
struct Tile {
  using C = Compute<T>;
  static constexpr int kUsedBytes = kRowBytes < kVectorBytes ? kRowBytes : kVectorBytes;
  static constexpr int kLanes = kUsedBytes / sizeof(C);
  static constexpr int kColumns = kRowBytes / sizeof(C);
  static constexpr int kStride = kStrideBytes / sizeof(C);  // from one row to the next
  static constexpr int kVectors = kRowBytes / kUsedBytes;
  // Registers of a row that one pass accumulates. SSE2 has only 16, so its wide rows take two passes.
  static constexpr int kChunk = kVectors < 8 ? kVectors : 8;
  static_assert(kVectors % kChunk == 0, "a row is a whole number of chunks");
  // The same where a row's sums and its values are both held, in the backward: AVX2 has 16 registers too.
  static constexpr int kDotChunk = kVectorBytes == 32 && kChunk > 4 ? 4 : kChunk;
  // Registers of a row that a dense block accumulates for each of several nodes.
  static constexpr int kBlockVectors =
      kVectors < kBlockRegisters<kVectorBytes> ? kVectors : kBlockRegisters<kVectorBytes>;
  static_assert(kVectors % kBlockVectors == 0, "a row is a whole number of a dense block's strips");
  using V = Vec<C, kLanes>;

  static FREEWIRE_INLINE int64_t clamped(int64_t sample, int64_t batch) { return sample < batch ? sample : batch - 1; }

  // row(i)[c] = from[begin + c][i] for i in [0, width); row(i) points to a row of the tape or of gradients.
  template <class Row>
  static void read(const T* from, int64_t width, int64_t begin, int64_t batch, Row&& row) {
    for (int c = 0; c < kColumns; c += kLanes) {
      const T* sample[kLanes];
      for (int k = 0; k < kLanes; ++k) sample[k] = from + clamped(begin + c + k, batch) * width;
      int64_t i = 0;
      for (; i + kLanes <= width; i += kLanes) {
        V block[kLanes];
#pragma GCC unroll 16
        for (int k = 0; k < kLanes; ++k) block[k] = V::load(sample[k] + i);
        transpose(block);
#pragma GCC unroll 16
        for (int k = 0; k < kLanes; ++k) block[k].store(row(i + k) + c);
      }
      for (; i < width; ++i) {
        for (int k = 0; k < kLanes; ++k)
          row(i)[c + k] = stored_as<std::remove_reference_t<decltype(*row(i))>>(sample[k][i]);
      }
    }
  }

  // to[begin + c][i] = row(i)[c] for i in [0, width) and the tile's samples; row(i) as for read().
  template <class Row>
  static void write(Row&& row, int64_t width, int64_t begin, int64_t batch, T* to) {
    const int64_t columns = batch - begin < kColumns ? batch - begin : kColumns;
    for (int64_t c = 0; c < columns; c += kLanes) {
      const int64_t samples = columns - c < kLanes ? columns - c : kLanes;
      T* target = to + (begin + c) * width;
      int64_t i = 0;
      for (; samples == kLanes && i + kLanes <= width; i += kLanes) {
        V block[kLanes];
#pragma GCC unroll 16
        for (int k = 0; k < kLanes; ++k) block[k] = V::load(row(i + k) + c);
        transpose(block);
#pragma GCC unroll 16
        for (int k = 0; k < kLanes; ++k) block[k].store(target + k * width + i);
      }
      for (; i < width; ++i) {
        for (int64_t k = 0; k < samples; ++k) target[k * width + i] = stored_as<T>(row(i)[c + k]);
      }
    }
  }
};

// Whether no number of a row is infinite or a NaN.
template <class G, class T>
FREEWIRE_INLINE bool row_is_finite(const T* row) {
  using V = typename G::V;
  V sum(typename G::C(0));
  for (int c = 0; c < G::kColumns; c += G::kLanes) sum = sum + V::load(row + c) * V(typename G::C(0));
  return horizontal_sum(sum) == typename G::C(0);
}

// Calls body(std::integral_constant<int, n>{}, first) for runs of n <= kBlockNodes that make up [begin, end).
template <class Body>
FREEWIRE_INLINE void in_block_runs(int64_t begin, int64_t end, Body&& body) {
  int64_t at = begin;
  for (; at + kBlockNodes <= end; at += kBlockNodes) body(std::integral_constant<int, kBlockNodes>{}, at);
  for (; at + 3 <= end; at += 3) body(std::integral_constant<int, 3>{}, at);
  for (; at < end; ++at) body(std::integral_constant<int, 1>{}, at);
}

constexpr int64_t kEdgesAhead = 40;  // between a prefetch and the read of its row

// The first dense block that ends after a position.
inline int64_t block_from(const PlanView& plan, int64_t position) {
  return std::upper_bound(plan.block_end, plan.block_end + plan.num_blocks, position) - plan.block_end;
}

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

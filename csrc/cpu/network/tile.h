// SPDX-License-Identifier: MIT
// The geometry of a tile, and its transposition from and to batch-major arrays. Shared by forward and backward.
//
// Rows of the tape are node-major with the batch last; x, y and their gradients are batch-major. The samples past the
// end of the batch repeat its last one, so that nothing is read out of bounds.
#pragma once

#include <cstdint>

#include "cpu/simd/shuffle.h"
#include "cpu/simd/vec.h"
#include "number.h"

namespace freewire::cpu {

// T is the type that rows are stored in; kRowBytes is the size of a row in the type that is computed in.
template <class T, int kVectorBytes, int kRowBytes>
struct Tile {
  using C = Compute<T>;
  static constexpr int kLanes = kVectorBytes / sizeof(C);
  static constexpr int kColumns = kRowBytes / sizeof(C);
  static constexpr int kVectors = kRowBytes / kVectorBytes;
  // Registers of a row that one pass accumulates. SSE2 has only 16, so its wide rows take two passes.
  static constexpr int kChunk = kVectors < 8 ? kVectors : 8;
  static_assert(kVectors % kChunk == 0, "a row is a whole number of chunks");
  using V = Vec<C, kLanes>;

  static FREEWIRE_INLINE int64_t clamped(int64_t sample, int64_t batch) { return sample < batch ? sample : batch - 1; }

  // rows[i][c] = from[begin + c][i] for i in [0, width).
  static void read(const T* from, int64_t width, int64_t begin, int64_t batch, T* rows) {
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
        for (int k = 0; k < kLanes; ++k) block[k].store(rows + (i + k) * kColumns + c);
      }
      for (; i < width; ++i) {
        for (int k = 0; k < kLanes; ++k) rows[i * kColumns + c + k] = sample[k][i];
      }
    }
  }

  // to[begin + c][i] = row(i)[c] for i in [0, width) and the tile's samples; row(i) points to a row of the tape or of
  // gradients.
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

}  // namespace freewire::cpu

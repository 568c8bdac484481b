// SPDX-License-Identifier: MIT
// Products of matrices in registers, for 1x1 convolutions and their gradients.
//
// A tile of the result, kRows by a few registers, stays in registers while a column of a and a row of b are multiplied
// for each step of the depth: as many loads as the sum of its sides for as many multiplications as their product. The
// tile is the largest that leaves registers for a row of b and one entry of a. Every entry is summed in the order of
// the depth, so where tiles begin changes no bit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "cpu/simd/shuffle.h"
#include "cpu/simd/vec.h"
#include "cpu/stages/stage_kernels.h"

namespace freewire::cpu {

template <class T, int kVectorBytes>
struct MatrixProduct {
  using C = Compute<T>;
  static constexpr int kLanes = kVectorBytes / sizeof(C);
  using V = Vec<C, kLanes>;
#if defined(__aarch64__)
  static constexpr bool kManyRegisters = true;
#else
  static constexpr bool kManyRegisters = kVectorBytes == 64;
#endif
  static constexpr int kWidest = kManyRegisters ? 5 : 3;  // registers of a panel
  static constexpr int rows_of_tile(int width) {
    constexpr int kMany[] = {0, 14, 12, 9, 6, 5}, kFew[] = {0, 8, 6, 4};
    return kManyRegisters ? kMany[width] : kFew[width];
  }

  // Calls body(first channel, std::integral_constant of the number of registers) for every panel. Widths differ by one.
  template <class Body>
  static FREEWIRE_INLINE void each_panel(int64_t padded, const Body& body) {
    const int64_t registers = padded / kLanes, panels = (registers + kWidest - 1) / kWidest;
    for (int64_t panel = 0; panel < panels; ++panel) {
      const int64_t begin = registers * panel / panels, end = registers * (panel + 1) / panels;
      with_width<kWidest>(end - begin, [&](auto width) { body(begin * kLanes, width); });
    }
  }

  static void pack(const T* weight, bool by_depth, const C* scale, int64_t depth, int64_t channels, C* packed) {
    each_panel(padded_channels(channels), [&](int64_t first, auto width) {
      constexpr int64_t kColumns = decltype(width)::value * kLanes;
      C* const panel = packed + first * depth;
      for (int64_t c = 0; c < kColumns; c += kLanes) {
        const int64_t some = std::clamp<int64_t>(channels - first - c, 0, kLanes);
        const V factor = scale && some ? V::load_some(scale + first + c, some) : V(C(1));
        const auto row_of = [&](int64_t k) { return panel + k * kColumns + c; };
        const T* const from = weight + (by_depth ? first + c : (first + c) * depth);
        if (by_depth) {
          for (int64_t k = 0; k < depth; ++k) (factor * V::load_some(from + k * channels, some)).store(row_of(k));
        } else {
          pack_columns(from, depth, some, factor, row_of);
        }
      }
    });
  }

  static void multiply(const C* a, int64_t a_row, const C* packed, const C* bias, int64_t pixels, int64_t depth,
                       int64_t channels, T* y) {
    const int64_t padded = padded_channels(channels);
    each_panel(padded, [&](int64_t first, auto width) {
      constexpr int kWidth = decltype(width)::value, kRows = rows_of_tile(kWidth);
      // Only the last registers have padding, as channels are padded to full blocks.
      constexpr int kFull = std::max<int>(0, kWidth - kChannelBlock / kLanes);
      V kept[kWidth];
      for (int j = kFull; j < kWidth; ++j) kept[j] = kept_lanes(channels - first - j * kLanes);
      const auto rows_at = [&](int64_t i, auto rows) {
        constexpr int kCount = decltype(rows)::value;
        V total[kCount][kWidth];
        for (int j = 0; j < kWidth; ++j) {
          const V start = bias ? V::load(bias + first + j * kLanes) : V(C(0));
#pragma GCC unroll 16
          for (int r = 0; r < kCount; ++r) total[r][j] = start;
        }
        tile(Strided<C>{a + i * a_row, a_row, 1}, packed + first * depth, kWidth * kLanes, depth, total);
#pragma GCC unroll 16
        for (int r = 0; r < kCount; ++r) {
          T* const to = y + (i + r) * padded + first;
          // Not times zero, which an infinity would turn into NaN.
#pragma GCC unroll 8
          for (int j = kFull; j < kWidth; ++j) total[r][j] = select(kept[j] > V(C(0)), total[r][j], V(C(0)));
#pragma GCC unroll 8
          for (int j = 0; j < kWidth; ++j) total[r][j].store(to + j * kLanes);
        }
      };
      each_tile<kRows>(pixels, true, rows_at);
    });
  }

  static void add_product(const Strided<C>& a, const C* b, int64_t rows, int64_t depth, int64_t padded, bool write,
                          C* sums) {
    each_panel(padded, [&](int64_t first, auto width) {
      constexpr int kWidth = decltype(width)::value;
      each_tile<rows_of_tile(kWidth)>(rows, false, [&](int64_t i, auto count) {
        constexpr int kCount = decltype(count)::value;
        C* const to = sums + i * padded + first;
        V total[kCount][kWidth];
#pragma GCC unroll 16
        for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 8
          for (int j = 0; j < kWidth; ++j) total[r][j] = write ? V(C(0)) : V::load(to + r * padded + j * kLanes);
        }
        tile(Strided<C>{a.data + i * a.row, a.row, a.column}, b + first, padded, depth, total);
#pragma GCC unroll 16
        for (int r = 0; r < kCount; ++r) {
#pragma GCC unroll 8
          for (int j = 0; j < kWidth; ++j) total[r][j].store(to + r * padded + j * kLanes);
        }
      });
    });
  }

 private:
  template <int kWidth, class Body>
  static FREEWIRE_INLINE void with_width(int64_t width, const Body& body) {
    if (width == kWidth) return body(std::integral_constant<int, kWidth>{});
    if constexpr (kWidth > 1) with_width<kWidth - 1>(width, body);
  }

  // Calls body(first row, std::integral_constant of their number). The last tile may overlap the one before it, where
  // it may be computed twice.
  template <int kRows, class Body>
  static FREEWIRE_INLINE void each_tile(int64_t rows, bool overlap, const Body& body) {
    int64_t i = 0;
    for (; i + kRows <= rows; i += kRows) body(i, std::integral_constant<int, kRows>{});
    if (i < rows && i && overlap) return body(rows - kRows, std::integral_constant<int, kRows>{});
    for (; i < rows; ++i) body(i, std::integral_constant<int, 1>{});
  }

  template <int kRows, int kWidth>
  static FREEWIRE_INLINE void tile(const Strided<C>& a, const C* b, int64_t b_row, int64_t depth,
                                   V (&total)[kRows][kWidth]) {
    const C* column = a.data;
    for (int64_t k = 0; k < depth; ++k, column += a.column, b += b_row) {
      V row[kWidth];
#pragma GCC unroll 8
      for (int j = 0; j < kWidth; ++j) row[j] = V::load(b + j * kLanes);
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        const V entry(column[r * a.row]);
#pragma GCC unroll 8
        for (int j = 0; j < kWidth; ++j) total[r][j] = total[r][j] + entry * row[j];
      }
    }
  }

  // Ones in the first lanes, zeros in the others.
  static FREEWIRE_INLINE V kept_lanes(int64_t count) {
    C lanes[kLanes];
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] = lane < count;
    return V::load(lanes);
  }

  // Columns k of weight [some, depth], each times the factor, into row_of(k).
  template <class RowOf>
  static FREEWIRE_INLINE void pack_columns(const T* weight, int64_t depth, int64_t some, V factor,
                                           const RowOf& row_of) {
    for (int64_t k = 0; k < depth; k += kLanes) {
      const int64_t count = std::min<int64_t>(depth - k, kLanes);
      V block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        const T* const from = weight + i * depth + k;
        block[i] = i >= some ? V(C(0)) : count == kLanes ? V::load(from) : V::load_some(from, count);
      }
      transpose(block);
      for (int64_t i = 0; i < count; ++i) (factor * block[i]).store(row_of(k + i));
    }
  }
};

}  // namespace freewire::cpu

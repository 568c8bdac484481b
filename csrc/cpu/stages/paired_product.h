// SPDX-License-Identifier: MIT
// Products of matrices of pairs of bfloat16 numbers, by tiles (AMX) or by registers (AVX-512 with BF16).
//
// Sums are floats, start at the bias and are rounded once. Every entry is summed in the order of the depth, and a row's
// entries depend on no other row, so where tiles begin changes no bit; a product by tiles adds in another order within
// a step than one by registers. A step by tiles loads as many tiles as it multiplies, four, from the first-level cache:
// a panel of two blocks of channels stays there while all pixels pass it.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "cpu/simd/vec.h"
#include "cpu/stages/paired_kernels.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

// Rounds registers of sums to numbers of a result. Sums are never subnormal, so the instruction, which flushes
// subnormal numbers, returns the bits that rounding in integers would.
struct PairedResult {
  // The last block of channels has some of them; its others become zeros, whatever the sum is.
  explicit PairedResult(int64_t channels)
      : blocks((channels + kChannelBlock - 1) / kChannelBlock),
        last(static_cast<__mmask16>((1u << (channels - (blocks - 1) * kChannelBlock)) - 1)) {}

  FREEWIRE_INLINE void store(__m512 sum, int64_t block, BFloat16* to) const {
    const __mmask16 kept = block + 1 < blocks ? __mmask16{0xffff} : last;
    const auto words = same_bits<__m256i>(_mm512_maskz_cvtneps_pbh(kept, sum));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), words);
  }

  FREEWIRE_INLINE void store(__m512 sum, __m512 next, int64_t block, BFloat16* to) const {
    const __mmask32 kept = block + 2 < blocks ? ~__mmask32{0} : __mmask32{last} << kChannelBlock | 0xffff;
    _mm512_storeu_si512(to, same_bits<__m512i>(_mm512_maskz_cvtne2ps_pbh(kept, next, sum)));
  }

  int64_t blocks;
  __mmask16 last;
};

// The arguments of a product.
struct PairedCall {
  PairedCall(const BFloat16* a, const BFloat16* packed, const float* bias, int64_t pixels, int64_t depth,
             int64_t channels, BFloat16* y)
      : a(a),
        packed(packed),
        bias(bias),
        depth(padded_depth(depth)),
        pixels(pixels),
        padded(padded_channels(channels)),
        result(channels),
        y(y) {}
  const BFloat16 *a, *packed;
  const float* bias;
  int64_t depth, pixels, padded;
  PairedResult result;
  BFloat16* y;
};

// By tiles: 16 rows of 16 floats, or of 32 numbers, or 16 rows of 16 pairs.
struct TileProduct {
  static constexpr int kSide = 16;
  static_assert(kSide == kPairedPixels && kSide == kChannelBlock, "a tile is a block of pixels and channels");

  // Configures this thread's tiles, all of one shape.
  static void begin() {
    struct alignas(64) Configuration {
      uint8_t palette = 1, start_row = 0, reserved[14] = {};
      uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } const configuration;
    written();
    asm volatile("" ::"r"(&configuration) : "memory");
    _tile_loadconfig(&configuration);
  }
  static void end() { _tile_release(); }

  static void multiply(const BFloat16* a, const BFloat16* packed, const float* bias, int64_t pixels, int64_t depth,
                       int64_t channels, BFloat16* y) {
    const PairedCall call(a, packed, bias, pixels, depth, channels, y);
    for (int64_t block = 0; block < call.result.blocks; block += 2) {
      if (block + 1 < call.result.blocks) {
        call_columns<2>(call, block);
      } else {
        call_columns<1>(call, block);
      }
    }
  }

 private:
  // GCC does not know that tiles are loaded from memory.
  static FREEWIRE_INLINE void written() { asm volatile("" ::: "memory"); }

  template <int kColumns>
  static void call_columns(const PairedCall& call, int64_t block) {
    int64_t i = 0;
    for (; i + kSide < call.pixels; i += 2 * kSide) tiles<2, kColumns>(call, block, i);
    if (i < call.pixels) tiles<1, kColumns>(call, block, i);
  }

  // kRows times kColumns tiles of the result. Tiles 0 to 3 are theirs, 4 and 5 the pixels', 6 and 7 the weights'; their
  // numbers have to be literals.
  template <int kRows, int kColumns>
  static FREEWIRE_INLINE void tiles(const PairedCall& call, int64_t block, int64_t pixel) {
    constexpr int64_t kTile = kSide * kPairDepth;  // numbers of a tile, in memory one after the other
    alignas(64) float sums[kSide][kColumns * kSide];
    const BFloat16 *a = call.a + pixel * kPairDepth, *b = call.packed + block * kSide * call.depth;
    const float* const bias = call.bias + block * kSide;
    const int64_t a_step = paired_rows(call.pixels) * kPairDepth, beside = kSide * call.depth;
    written();
    // Rows that are no bytes apart: each is the bias.
    _tile_loadd(0, bias, 0);
    if constexpr (kColumns > 1) _tile_loadd(1, bias + kSide, 0);
    if constexpr (kRows > 1) _tile_loadd(2, bias, 0);
    if constexpr (kRows > 1 && kColumns > 1) _tile_loadd(3, bias + kSide, 0);
    for (int64_t k = 0; k < call.depth; k += kPairDepth, a += a_step, b += kTile) {
      _tile_loadd(6, b, 64);
      _tile_loadd(4, a, 64);
      _tile_dpbf16ps(0, 4, 6);
      if constexpr (kColumns > 1) {
        _tile_loadd(7, b + beside, 64);
        _tile_dpbf16ps(1, 4, 7);
      }
      if constexpr (kRows > 1) {
        _tile_loadd(5, a + kTile, 64);
        _tile_dpbf16ps(2, 5, 6);
      }
      if constexpr (kRows > 1 && kColumns > 1) _tile_dpbf16ps(3, 5, 7);
    }
    // One row of tiles after the other through half the memory: loads of the next operands wait for stores that they
    // share the last 12 bits of their addresses with.
    constexpr int64_t kSumsRow = sizeof sums[0];
    _tile_stored(0, sums, kSumsRow);
    if constexpr (kColumns > 1) _tile_stored(1, sums[0] + kSide, kSumsRow);
    round<kColumns>(call, block, pixel, sums);
    if constexpr (kRows > 1) {
      _tile_stored(2, sums, kSumsRow);
      if constexpr (kColumns > 1) _tile_stored(3, sums[0] + kSide, kSumsRow);
      round<kColumns>(call, block, pixel + kSide, sums);
    }
  }

  template <int kColumns>
  static FREEWIRE_INLINE void round(const PairedCall& call, int64_t block, int64_t pixel,
                                    const float (&sums)[kSide][kColumns * kSide]) {
    const int64_t rows = std::min<int64_t>(call.pixels - pixel, kSide);
    BFloat16* y = call.y + pixel * call.padded + block * kSide;
    for (int64_t r = 0; r < rows; ++r, y += call.padded) {
      if constexpr (kColumns > 1) {
        call.result.store(_mm512_load_ps(sums[r]), _mm512_load_ps(sums[r] + kSide), block, y);
      } else {
        call.result.store(_mm512_load_ps(sums[r]), block, y);
      }
    }
  }
};

// By registers: eight pixels by up to three registers of channels.
struct RegisterProduct {
  static constexpr int kRows = 8;
  static_assert(kPairedPixels % kRows == 0, "rows beyond the pixels may be read");
  static void begin() {}
  static void end() {}

  static void multiply(const BFloat16* a, const BFloat16* packed, const float* bias, int64_t pixels, int64_t depth,
                       int64_t channels, BFloat16* y) {
    const PairedCall call(a, packed, bias, pixels, depth, channels, y);
    for (int64_t block = 0; block < call.result.blocks; block += 3) {
      const int64_t width = call.result.blocks - block;
      for (int64_t i = 0; i < pixels; i += kRows) {
        if (width > 2) {
          tile<3>(call, block, i);
        } else if (width == 2) {
          tile<2>(call, block, i);
        } else {
          tile<1>(call, block, i);
        }
      }
    }
  }

 private:
  template <int kWidth>
  static FREEWIRE_INLINE void tile(const PairedCall& call, int64_t block, int64_t pixel) {
    __m512 total[kRows][kWidth];
    const BFloat16 *a = call.a + pixel * kPairDepth, *b = call.packed + block * kChannelBlock * call.depth;
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 3
      for (int j = 0; j < kWidth; ++j) total[r][j] = _mm512_loadu_ps(call.bias + (block + j) * kChannelBlock);
    }
    const int64_t a_step = paired_rows(call.pixels) * kPairDepth;
    for (int64_t k = 0; k < call.depth; k += kPairDepth, a += a_step) {
      for (int64_t pair = 0; pair < kPairDepth; pair += 2, b += 2 * kChannelBlock)
        add_pairs<kWidth>(a + pair, b, call.depth, total);
    }
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      if (pixel + r >= call.pixels) return;
      BFloat16* const y = call.y + (pixel + r) * call.padded + block * kChannelBlock;
#pragma GCC unroll 3
      for (int j = 0; j < kWidth; ++j) call.result.store(total[r][j], block + j, y + j * kChannelBlock);
    }
  }

  template <int kWidth>
  static FREEWIRE_INLINE void add_pairs(const BFloat16* a, const BFloat16* b, int64_t depth,
                                        __m512 (&total)[kRows][kWidth]) {
    __m512i column[kWidth];
#pragma GCC unroll 3
    for (int j = 0; j < kWidth; ++j) column[j] = _mm512_loadu_si512(b + j * kChannelBlock * depth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      int32_t pair;
      std::memcpy(&pair, a + r * kPairDepth, sizeof pair);
      const auto pairs = same_bits<__m512bh>(_mm512_set1_epi32(pair));
#pragma GCC unroll 3
      for (int j = 0; j < kWidth; ++j) {
        total[r][j] = _mm512_dpbf16_ps(total[r][j], pairs, same_bits<__m512bh>(column[j]));
      }
    }
  }
};

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

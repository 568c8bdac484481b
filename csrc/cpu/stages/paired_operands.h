// SPDX-License-Identifier: MIT
// What brings the operands of a product of pairs of bfloat16 numbers into place: gated sums and depthwise convolutions
// of a stage, and the packing of weights. For AVX-512 with BF16.
//
// One thread owns what a call writes, so there are no races, and every sum has one order: bitwise deterministic.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "cpu/simd/shuffle.h"
#include "cpu/simd/vec.h"
#include "cpu/stages/paired_kernels.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

struct PairedOperands {
  using V = Vec<float, 16>;
  static constexpr int kLanes = V::kLanes;
  static_assert(kLanes == kChannelBlock, "a register holds a block of channels");

  static void pad(const BFloat16* from, int64_t width, int64_t channels, bool relu, int64_t plane, float* row) {
    const int64_t padded = padded_channels(channels);
    const V lowest(relu ? 0.f : -std::numeric_limits<float>::infinity());
    each_block(width, padded, plane, row, [&](int64_t pixel, int64_t c, V(&total)[2], bool pair) {
      const auto some = static_cast<__mmask32>((uint64_t{1} << std::min(channels - c, kPairDepth)) - 1);
      split(_mm512_maskz_loadu_epi16(some, from + pixel * channels + c), pair, total);
      for (V& each : total) each = at_least(lowest, each);
    });
  }

  static void sum(const GatedSum<BFloat16>& sum, int64_t width, int64_t padded, int64_t plane, float* row) {
    const V lowest(sum.relu ? 0.f : -std::numeric_limits<float>::infinity());
    each_block(width, padded, plane, row, [&](int64_t pixel, int64_t c, V(&total)[2], bool pair) {
      const int64_t at = pixel * padded + c;
      V x[2];
      split(load(sum.xs[0] + at, pair), pair, x);
      const V first(sum.gates[0]);
      for (int i = 0; i < 2; ++i) total[i] = first * x[i];
      for (int64_t j = 1; j < sum.count; ++j) {
        split(load(sum.xs[j] + at, pair), pair, x);
        const V gate(sum.gates[j]);
        for (int i = 0; i < 2; ++i) total[i] = total[i] + gate * x[i];
      }
      for (V& each : total) each = at_least(lowest, each);
    });
  }

  // Channels outermost, so that the rows that several rows of the result read come from the second-level cache once.
  static void convolve(const float* const* window, int64_t plane, const float* kernel, int64_t rows, int64_t width,
                       int64_t stride, int64_t padded, BFloat16* y) {
    const int64_t step = paired_rows(rows * width) * kPairDepth;
    for (int64_t c = 0; c < padded; c += kLanes) {
      V k[9];
#pragma GCC unroll 9
      for (int tap = 0; tap < 9; ++tap) k[tap] = V::load(kernel + tap * padded + c);
      BFloat16* const block = y + c / kPairDepth * step + c % kPairDepth;
      const int64_t at = c / kLanes * plane;
      for (int64_t r = 0; r < rows; ++r) {
        const float* const* const from = window + r * stride;
        const float* const around[] = {from[0] + at, from[1] + at, from[2] + at};
        BFloat16* const to = block + r * width * kPairDepth;
        if (stride == 1) {
          along_row<1, 7>(around, k, width, to);
        } else if (stride == 2) {
          along_row<2, 4>(around, k, width, to);
        } else {
          for (int64_t x = 0; x < width; ++x) pixels<1, 1>(around, k, x * stride * kLanes, to + x * kPairDepth);
        }
      }
    }
    if (padded % kPairDepth == 0) return;
    const __m256i zeros = _mm256_setzero_si256();
    BFloat16* const rest = y + padded / kPairDepth * step + kLanes;
    for (int64_t pixel = 0; pixel < rows * width; ++pixel) store(zeros, rest + pixel * kPairDepth);
  }

  static void pack(const BFloat16* weight, const float* scale, int64_t depth, int64_t channels, BFloat16* packed) {
    for (int64_t n = 0; n < padded_channels(channels); n += kLanes) {
      for (int64_t k = 0; k < padded_depth(depth); k += kPairDepth, packed += kLanes * kPairDepth) {
        const auto some = static_cast<__mmask32>((uint64_t{1} << std::min(depth - k, kPairDepth)) - 1);
        V pairs[kLanes];
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          if (n + i >= channels) {
            pairs[i] = V(0.f);
            continue;
          }
          const __m512i words = _mm512_maskz_loadu_epi16(some, weight + (n + i) * depth + k);
          const bool pair = k + kPairDepth <= padded_channels(depth);
          pairs[i] = V(same_bits<V::Native>(ordered(words, pair, scale ? scale + n + i : nullptr)));
        }
        transpose(pairs);
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          _mm512_store_si512(packed + i * 2 * kLanes, same_bits<__m512i>(pairs[i].v));
        }
      }
    }
  }

 private:
  // Calls body(pixel, first channel, two registers, whether both are used) for every block of channels of a row, and
  // stores the registers in their planes.
  template <class Body>
  static FREEWIRE_INLINE void each_block(int64_t width, int64_t padded, int64_t plane, float* row, const Body& body) {
    for (int64_t pixel = 0; pixel < width; ++pixel) {
      float* to = row + (pixel + 1) * kLanes;
      int64_t c = 0;
      V total[2];
      for (; c + kPairDepth <= padded; c += kPairDepth, to += 2 * plane) {
        body(pixel, c, total, true);
        total[0].store(to);
        total[1].store(to + plane);
      }
      if (c == padded) continue;
      body(pixel, c, total, false);
      total[0].store(to);
    }
  }

  static FREEWIRE_INLINE __m512i load(const BFloat16* from, bool pair) {
    if (pair) return _mm512_loadu_si512(from);
    return _mm512_zextsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
  }

  // Of a pair of blocks the even channels and the odd ones, which takes one instruction each; else the first block's.
  static FREEWIRE_INLINE void split(__m512i words, bool pair, V (&parts)[2]) {
    const auto as_floats = [](__m512i bits) { return V(same_bits<V::Native>(bits)); };
    if (pair) {
      parts[0] = as_floats(_mm512_maskz_slli_epi32(0xffff, words, 16));
      parts[1] = as_floats(_mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
    } else {
      const __m512i wide = _mm512_maskz_cvtepu16_epi32(0xffff, _mm512_castsi512_si256(words));
      parts[0] = as_floats(_mm512_maskz_slli_epi32(0xffff, wide, 16));
      parts[1] = V(0.f);
    }
  }

  // The larger one; a NaN passes, as through torch's relu.
  static FREEWIRE_INLINE V at_least(V lowest, V value) {
    return V(
        same_bits<V::Native>(_mm512_maskz_max_ps(0xffff, same_bits<__m512>(lowest.v), same_bits<__m512>(value.v))));
  }

  // The last pixels may overlap those before them, and are computed twice then.
  template <int kStride, int kPixels>
  static FREEWIRE_INLINE void along_row(const float* const* rows, const V (&k)[9], int64_t width, BFloat16* y) {
    const auto run = [&](int64_t x, auto pixels_at_once) __attribute__((always_inline)) {
      pixels<kStride, decltype(pixels_at_once)::value>(rows, k, x * kStride * kLanes, y + x * kPairDepth);
    };
    int64_t x = 0;
    for (; x + kPixels <= width; x += kPixels) run(x, std::integral_constant<int, kPixels>{});
    if (x < width && x) return run(width - kPixels, std::integral_constant<int, kPixels>{});
    for (; x < width; ++x) run(x, std::integral_constant<int, 1>{});
  }

  template <int kStride, int kPixels>
  static FREEWIRE_INLINE void pixels(const float* const* rows, const V (&k)[9], int64_t at, BFloat16* y) {
    V total[kPixels];
#pragma GCC unroll 3
    for (int t = 0; t < 3; ++t) {
      const float* const from = rows[t] + at;
#pragma GCC unroll 15
      for (int j = 0; j < (kPixels - 1) * kStride + 3; ++j) {
        const V x = V::load(from + j * kLanes);
#pragma GCC unroll 3
        for (int s = 0; s < 3; ++s) {
          if (j < s || (j - s) % kStride) continue;
          const int to = (j - s) / kStride;
          if (to < kPixels) total[to] = t + s ? total[to] + k[3 * t + s] * x : k[0] * x;
        }
      }
    }
    // Rounding two registers takes as long as one.
#pragma GCC unroll 4
    for (int p = 0; p + 1 < kPixels; p += 2) {
      const __m512i words = rounded(total[p], total[p + 1]);
      store(_mm512_castsi512_si256(words), y + p * kPairDepth);
      store(_mm512_maskz_extracti64x4_epi64(0xf, words, 1), y + (p + 1) * kPairDepth);
    }
    if constexpr (kPixels % 2) {
      const auto last = same_bits<__m512>(total[kPixels - 1].v);
      store(same_bits<__m256i>(_mm512_maskz_cvtneps_pbh(0xffff, last)), y + (kPixels - 1) * kPairDepth);
    }
  }

  static FREEWIRE_INLINE void store(__m256i words, BFloat16* to) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), words);
  }

  // Depths of a step in the order of the left operand, each number times the factor, unless it is null, and rounded.
  static FREEWIRE_INLINE __m512i ordered(__m512i words, bool pair, const float* factor) {
    if (factor) {
      const V by(*factor);
      V parts[2];
      split(words, true, parts);
      const V even = by * parts[0], odd = by * parts[1];
      words = rounded(even, odd);
      return pair ? words : _mm512_permutexvar_epi16(places<false>(), words);
    }
    return pair ? _mm512_permutexvar_epi16(places<true>(), words) : words;
  }

  // From two blocks' order to even and odd numbers, or back.
  template <bool kSplit, int... kLane>
  static FREEWIRE_INLINE __m512i places(std::integer_sequence<int, kLane...>) {
    typedef uint16_t Words __attribute__((vector_size(64)));
    return same_bits<__m512i>(Words{(kSplit ? kLane % 16 * 2 + kLane / 16 : kLane / 2 + kLane % 2 * 16)...});
  }
  template <bool kSplit>
  static FREEWIRE_INLINE __m512i places() {
    return places<kSplit>(std::make_integer_sequence<int, 32>{});
  }

  // Rounds to nearest, ties to even; a NaN stays a NaN; subnormal numbers become zeros.
  static FREEWIRE_INLINE __m512i rounded(V low, V high) {
    return same_bits<__m512i>(
        _mm512_maskz_cvtne2ps_pbh(~__mmask32{0}, same_bits<__m512>(high.v), same_bits<__m512>(low.v)));
  }
};

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

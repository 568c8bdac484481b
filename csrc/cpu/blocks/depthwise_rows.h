// SPDX-License-Identifier: MIT
// One row of a depthwise 3x3 convolution: forward, and the gradient of the convolution's kernel.
//
// Channels are innermost, so a register holds neighbouring channels of one pixel, and the nine numbers by which they
// are multiplied stay in registers along the row. One thread owns the row, or the sums, that a call writes, so there
// are no races. The forward loads each number of three rows once per kPixels pixels, from the first-level cache, and
// stores one; every sum has one order: bitwise deterministic.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/blocks/depthwise_kernels.h"
#include "cpu/simd/vec.h"

namespace freewire::cpu {

template <class T, int kVectorBytes>
struct DepthwiseRows {
  using C = Compute<T>;
  static constexpr int kLanes = kVectorBytes / sizeof(C);
  static constexpr int kPixels = 4;  // computed together
  using V = Vec<C, kLanes>;

  static void forward(const T* const* rows, const C* kernel, int64_t width, int64_t channels, T* y) {
    each_register(channels, [&]<bool kSome>(int64_t c, int64_t count, std::bool_constant<kSome>) {
      V k[9];
      for (int tap = 0; tap < 9; ++tap) k[tap] = load<kSome>(kernel + tap * channels + c, count);
      along_row<kSome, 1>(rows, k, width, channels, c, count, y);
    });
  }

  // The same with any stride, for a number of channels that fills registers. Sums are not rounded to T.
  static void forward_strided(const T* const* rows, const C* kernel, int64_t width, int64_t stride, int64_t channels,
                              C* y) {
    each_register(channels, [&]<bool kSome>(int64_t c, int64_t count, std::bool_constant<kSome>) {
      V k[9];
      for (int tap = 0; tap < 9; ++tap) k[tap] = load<kSome>(kernel + tap * channels + c, count);
      if (stride == 1) return along_row<kSome, 1>(rows, k, width, channels, c, count, y);
      if (stride == 2) return along_row<kSome, 2>(rows, k, width, channels, c, count, y);
      for (int64_t x = 0; x < width; ++x) {
        pixels<kSome, 1, 1>(rows, k, x * stride * channels + c, channels, count, y + x * channels + c);
      }
    });
  }

  static void add_kernel_gradient(const T* x, const T* const* grad_rows, int64_t width, int64_t channels, C* sums) {
    if (grad_rows[0] && grad_rows[2]) return add_lines<true>(x, grad_rows, width, channels, sums);
    add_lines<false>(x, grad_rows, width, channels, sums);
  }

  static void relu_gradient(const T* rectified, int64_t length, T* grad) {
    each_register(length, [&]<bool kSome>(int64_t i, int64_t count, std::bool_constant<kSome>) {
      const V value = load<kSome>(rectified + i, count);  // a NaN lets the gradient pass
      store<kSome>(select(value <= V(C(0)), V(C(0)), load<kSome>(grad + i, count)), grad + i, count);
    });
  }

 private:
  // kAll: none of the three rows is null.
  template <bool kAll>
  static void add_lines(const T* x, const T* const* grad_rows, int64_t width, int64_t channels, C* sums) {
    each_register(channels, [&]<bool kSome>(int64_t c, int64_t count, std::bool_constant<kSome>) {
      V total[9];
      for (V& each : total) each = V(C(0));
      for (int64_t at = c; at < width * channels; at += channels) {
        V near[3];
#pragma GCC unroll 3
        for (int s = 0; s < 3; ++s) near[s] = load<kSome>(x + at + s * channels, count);
#pragma GCC unroll 3
        for (int t = 0; t < 3; ++t) {
          if (!kAll && !grad_rows[t]) continue;
          const V grad = load<kSome>(grad_rows[t] + at, count);
#pragma GCC unroll 3
          for (int s = 0; s < 3; ++s) total[3 * t + s] = total[3 * t + s] + grad * near[s];
        }
      }
      for (int tap = 0; tap < 9; ++tap) {
        C lanes[kLanes];
        total[tap].store(lanes);
        const int64_t first = kSome ? 0 : kLanes - count;
        for (int64_t lane = first; lane < first + count; ++lane) sums[tap * channels + c + lane] += lanes[lane];
      }
    });
  }

  // Calls body(first channel, number of new channels, whether the register is not full). If the last register would not
  // be full it overlaps the one before it; if there is none before it, it is padded with zeros.
  template <class Body>
  static FREEWIRE_INLINE void each_register(int64_t channels, const Body& body) {
    if (channels < kLanes) return body(0, channels, std::true_type{});
    int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) body(c, kLanes, std::false_type{});
    if (c < channels) body(channels - kLanes, channels - c, std::false_type{});
  }

  template <bool kSome, class From>
  static FREEWIRE_INLINE V load(const From* from, int64_t count) {
    if constexpr (kSome) return V::load_some(from, count);
    return V::load(from);
  }

  template <bool kSome, class To>
  static FREEWIRE_INLINE void store(V value, To* to, int64_t count) {
    if constexpr (kSome) return value.store_some(to, count);
    value.store(to);
  }

  template <bool kSome, int kStride, class To>
  static FREEWIRE_INLINE void along_row(const T* const* rows, const V (&k)[9], int64_t width, int64_t channels,
                                        int64_t c, int64_t count, To* y) {
    const auto run = [&](int64_t x, auto pixels_at_once) {
      pixels<kSome, decltype(pixels_at_once)::value, kStride>(rows, k, x * kStride * channels + c, channels, count,
                                                              y + x * channels + c);
    };
    int64_t x = 0;
    for (; x + kPixels <= width; x += kPixels) run(x, std::integral_constant<int, kPixels>{});
    for (; x < width; ++x) run(x, std::integral_constant<int, 1>{});
  }

  // kCount pixels, whose upper left entries are kStride apart, from the one at rows[0] + at on.
  template <bool kSome, int kCount, int kStride, class To>
  static FREEWIRE_INLINE void pixels(const T* const* rows, const V (&k)[9], int64_t at, int64_t channels, int64_t count,
                                     To* y) {
    V total[kCount];
#pragma GCC unroll 3
    for (int t = 0; t < 3; ++t) {
      const T* from = rows[t] + at;
#pragma GCC unroll 12
      for (int j = 0; j < (kCount - 1) * kStride + 3; ++j) {
        const V x = load<kSome>(from + j * channels, count);
#pragma GCC unroll 3
        for (int s = 0; s < 3; ++s) {
          if (j < s || (j - s) % kStride) continue;
          const int to = (j - s) / kStride;
          if (to < kCount) total[to] = t + s ? total[to] + k[3 * t + s] * x : k[0] * x;
        }
      }
    }
#pragma GCC unroll 4
    for (int p = 0; p < kCount; ++p) store<kSome>(total[p], y + p * channels, count);
  }
};

}  // namespace freewire::cpu

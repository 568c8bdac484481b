// SPDX-License-Identifier: MIT
// Batch norms of a stage in training, as passes over rows of pixels: statistics, the sums that apply a norm where its
// result is read, and their gradients.
//
// Pixels lie one after the other with padded channels, so a register holds neighbouring channels of one pixel. A call
// adds to sums that one thread owns, pixel by pixel: bitwise deterministic.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/simd/shuffle.h"
#include "cpu/simd/vec.h"
#include "cpu/stages/norm_kernels.h"

namespace freewire::cpu {

template <class T, int kVectorBytes>
struct NormRows {
  using C = Compute<T>;
  static constexpr int kLanes = kVectorBytes / sizeof(C);
  static constexpr int kPixels = 4;       // that share what is loaded per channel
  static constexpr int64_t kReaders = 8;  // whose gradients are gathered together
  using V = Vec<C, kLanes>;

  static void affine_sum(const T* const* xs, int64_t count, const C* scales, const C* shift, bool relu, int64_t pixels,
                         int64_t padded, C* y) {
    each_pixels(pixels, [&](int64_t pixel, auto some) {
      constexpr int kSome = decltype(some)::value;
      for (int64_t c = 0; c < padded; c += kLanes) {
        const int64_t at = pixel * padded + c;
        V total[kSome];
        const V start = V::load(shift + c);
#pragma GCC unroll 4
        for (int p = 0; p < kSome; ++p) total[p] = start;
        for (int64_t i = 0; i < count; ++i) {
          const V scale = V::load(scales + i * padded + c);
#pragma GCC unroll 4
          for (int p = 0; p < kSome; ++p) total[p] = total[p] + scale * V::load(xs[i] + at + p * padded);
        }
#pragma GCC unroll 4
        for (int p = 0; p < kSome; ++p) {
          const V value = relu ? select(total[p] <= V(C(0)), V(C(0)), total[p]) : total[p];
          value.store(y + at + p * padded);
        }
      }
    });
  }

  static void add_statistics(const T* x, int64_t pixels, int64_t padded, int64_t before, C* mean, C* squares) {
    const V count(static_cast<C>(pixels)), all(static_cast<C>(before + pixels)), earlier(static_cast<C>(before));
    for (int64_t c = 0; c < padded; c += kLanes) {
      V sum(C(0)), square(C(0));
      for (int64_t p = 0; p < pixels; ++p) sum = sum + V::load(x + p * padded + c);
      const V own = sum / count;
      for (int64_t p = 0; p < pixels; ++p) {
        const V difference = V::load(x + p * padded + c) - own;
        square = square + difference * difference;
      }
      const V apart = own - V::load(mean + c);
      (V::load(mean + c) + apart * (count / all)).store(mean + c);
      (V::load(squares + c) + square + apart * apart * (earlier * (count / all))).store(squares + c);
    }
  }

  static void gather(const ReaderGradients<T>& readers, const T* x, const Norm<C>& norm, int64_t pixels, int64_t padded,
                     C* grad, C* sums, C* dots) {
    for (int64_t first = 0; first < readers.count; first += kReaders) {
      gather_some(readers, first, x, norm, pixels, padded, grad, sums, dots);
    }
  }

  static void combine(const C* grad, const T* x, const C* factors, int64_t pixels, int64_t padded, C* y) {
    each_pixels(pixels, [&](int64_t pixel, auto some) {
      for (int64_t c = 0; c < padded; c += kLanes) {
        const V of_grad = V::load(factors + c), of_x = V::load(factors + padded + c);
        const V start = V::load(factors + 2 * padded + c);
#pragma GCC unroll 4
        for (int p = 0; p < decltype(some)::value; ++p) {
          const int64_t at = (pixel + p) * padded + c;
          const V others = x ? start + of_x * V::load(x + at) : start;
          (others + of_grad * V::load(grad + at)).store(y + at);
        }
      }
    });
  }

  static void scatter(const C* grad, const C* const* rows, const C* kernel, int64_t width, int64_t stride,
                      int64_t padded, C* const* grad_rows, C* sums) {
    for (int64_t c = 0; c < padded; c += kLanes) {
      V taps[9], total[9];
#pragma GCC unroll 9
      for (int tap = 0; tap < 9; ++tap) {
        taps[tap] = V::load(kernel + tap * padded + c);
        total[tap] = V(C(0));
      }
      for (int64_t pixel = 0; pixel < width; ++pixel) {
        const V g = V::load(grad + pixel * padded + c);
        const int64_t at = pixel * stride * padded + c;
#pragma GCC unroll 3
        for (int t = 0; t < 3; ++t) {
#pragma GCC unroll 3
          for (int s = 0; s < 3; ++s) {
            C* const to = grad_rows[t] + at + s * padded;
            (V::load(to) + taps[3 * t + s] * g).store(to);
            total[3 * t + s] = total[3 * t + s] + g * V::load(rows[t] + at + s * padded);
          }
        }
      }
#pragma GCC unroll 9
      for (int tap = 0; sums && tap < 9; ++tap) {
        C* const to = sums + tap * padded + c;
        (V::load(to) + total[tap]).store(to);
      }
    }
  }

  static void store(const C* from, int64_t length, T* to) {
    for (int64_t i = 0; i < length; i += kLanes) V::load(from + i).store(to + i);
  }

 private:
  // Calls body(first pixel, std::integral_constant of their number).
  template <class Body>
  static FREEWIRE_INLINE void each_pixels(int64_t pixels, const Body& body) {
    int64_t pixel = 0;
    for (; pixel + kPixels <= pixels; pixel += kPixels) body(pixel, std::integral_constant<int, kPixels>{});
    for (; pixel < pixels; ++pixel) body(pixel, std::integral_constant<int, 1>{});
  }

  // Adds to grad the gradients of kReaders readers, from one on, or of those that are left.
  static FREEWIRE_INLINE void gather_some(const ReaderGradients<T>& readers, int64_t first, const T* x,
                                          const Norm<C>& norm, int64_t pixels, int64_t padded, C* grad, C* sums,
                                          C* dots) {
    const int64_t count = std::min(readers.count - first, kReaders);
    const bool last = first + count == readers.count;
    V dot[kReaders];
    for (V& each : dot) each = V(C(0));
    each_pixels(pixels, [&](int64_t pixel, auto some) {
      constexpr int kSome = decltype(some)::value;
      for (int64_t c = 0; c < padded; c += kLanes) {
        const int64_t at = pixel * padded + c;
        const V scale = V::load(norm.scale + c), shift = V::load(norm.shift + c);
        V total[kSome], result[kSome];
#pragma GCC unroll 4
        for (int p = 0; p < kSome; ++p) {
          result[p] = shift + scale * V::load(x + at + p * padded);
          total[p] = first ? V::load(grad + at + p * padded) : V(C(0));
        }
        for (int64_t i = 0; i < count; ++i) {
          const V gate(readers.gates[first + i]);
          V product = dot[i];
#pragma GCC unroll 4
          for (int p = 0; p < kSome; ++p) {
            const V g = V::load(readers.grads[first + i] + at + p * padded);
            total[p] = total[p] + gate * g;
            product = product + g * result[p];
          }
          dot[i] = product;
        }
        V sum = V(C(0)), product = V(C(0));
        const V mean = V::load(norm.mean + c), inverse = V::load(norm.inverse + c);
#pragma GCC unroll 4
        for (int p = 0; p < kSome; ++p) {
          total[p].store(grad + at + p * padded);
          sum = sum + total[p];
          product = product + total[p] * ((V::load(x + at + p * padded) - mean) * inverse);
        }
        if (!last) continue;
        (V::load(sums + c) + sum).store(sums + c);
        (V::load(sums + padded + c) + product).store(sums + padded + c);
      }
    });
    for (int64_t i = 0; i < count; ++i) dots[first + i] += horizontal_sum(dot[i]);
  }
};

}  // namespace freewire::cpu

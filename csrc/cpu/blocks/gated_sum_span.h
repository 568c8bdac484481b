// SPDX-License-Identifier: MIT
// One span of a gated sum, forward and backward.
//
// One thread owns the span and is the only one to write it, so there are no races. An element of the forward loads
// `count` numbers and stores one: the sum and the relu stay in registers. An element of the backward loads `count`
// numbers and grad_y and stores `count` gradients; it recomputes the sum to see where the relu was open. Every sum has
// one order: bitwise deterministic.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/blocks/gated_sum_kernels.h"
#include "cpu/simd/vec.h"

namespace freewire::cpu {

template <class T, int kVectorBytes>
struct GatedSumSpan {
  using C = Compute<T>;
  static constexpr int kLanes = kVectorBytes / sizeof(C);
  static constexpr int kAtOnce = 4;       // registers of one array that are loaded together
  static constexpr int64_t kBlock = 512;  // elements whose gradient stays in the first-level cache for all arrays
  static_assert(kBlock % (kLanes * kAtOnce) == 0, "a block is a whole number of steps");
  using V = Vec<C, kLanes>;

  // The sum at [i, i + kVectors registers).
  template <int kVectors>
  static FREEWIRE_INLINE void add(const GatedSum<T>& sum, int64_t i, V (&total)[kVectors]) {
    const V first(sum.gates[0]);
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) total[k] = first * V::load(sum.xs[0] + i + k * kLanes);
    for (int64_t j = 1; j < sum.count; ++j) {
      const V gate(sum.gates[j]);
      const T* x = sum.xs[j] + i;
#pragma GCC unroll 4
      for (int k = 0; k < kVectors; ++k) total[k] = total[k] + gate * V::load(x + k * kLanes);
    }
  }

  static FREEWIRE_INLINE V add_some(const GatedSum<T>& sum, int64_t i, int64_t count) {
    V total = V(sum.gates[0]) * V::load_some(sum.xs[0] + i, count);
    for (int64_t j = 1; j < sum.count; ++j) total = total + V(sum.gates[j]) * V::load_some(sum.xs[j] + i, count);
    return total;
  }

  // A NaN passes, as through torch's relu.
  static FREEWIRE_INLINE V through(bool relu, V total, V value) {
    return relu ? select(total <= V(C(0)), V(C(0)), value) : value;
  }

  static void forward(const GatedSum<T>& sum, int64_t begin, int64_t end, T* y) {
    int64_t i = begin;
    for (; i + kAtOnce * kLanes <= end; i += kAtOnce * kLanes) {
      V total[kAtOnce];
      add(sum, i, total);
#pragma GCC unroll 4
      for (int k = 0; k < kAtOnce; ++k) through(sum.relu, total[k], total[k]).store(y + i + k * kLanes);
    }
    for (; i < end; i += kLanes) {
      const int64_t count = std::min<int64_t>(end - i, kLanes);
      const V total = add_some(sum, i, count);
      through(sum.relu, total, total).store_some(y + i, count);
    }
  }

  static void backward(const GatedSum<T>& sum, const T* grad_y, int64_t begin, int64_t end, T* const* grad_xs,
                       C* dots) {
    if (dots) std::fill_n(dots, sum.count, C(0));
    alignas(kVectorBytes) C grad[kBlock];
    for (int64_t block = begin; block < end; block += kBlock) {
      const int64_t length = std::min(kBlock, end - block);
      grad_of_block(sum, grad_y, block, length, grad);
      for (int64_t j = 0; j < sum.count; ++j) {
        const C dot = grad_of_input(sum.xs[j] + block, sum.gates[j], grad, length, grad_xs[j] + block);
        if (dots) dots[j] += dot;
      }
    }
  }

 private:
  // grad[0, length) = the gradient of the sum, 0 where the relu was closed.
  static FREEWIRE_INLINE void grad_of_block(const GatedSum<T>& sum, const T* grad_y, int64_t begin, int64_t length,
                                            C* grad) {
    int64_t i = 0;
    for (; sum.relu && i + kAtOnce * kLanes <= length; i += kAtOnce * kLanes) {
      V total[kAtOnce];
      add(sum, begin + i, total);
#pragma GCC unroll 4
      for (int k = 0; k < kAtOnce; ++k)
        through(true, total[k], V::load(grad_y + begin + i + k * kLanes)).store(grad + i + k * kLanes);
    }
    for (; i < length; i += kLanes) {
      const int64_t count = std::min<int64_t>(length - i, kLanes);
      const V value = V::load_some(grad_y + begin + i, count);
      (sum.relu ? through(true, add_some(sum, begin + i, count), value) : value).store(grad + i);
    }
  }

  // grad_x = gate * grad; returns grad . x.
  static FREEWIRE_INLINE C grad_of_input(const T* x, C gate, const C* grad, int64_t length, T* grad_x) {
    V dot[kAtOnce];
#pragma GCC unroll 4
    for (int k = 0; k < kAtOnce; ++k) dot[k] = V(C(0));
    const V scale(gate);
    int64_t i = 0;
    for (; i + kAtOnce * kLanes <= length; i += kAtOnce * kLanes) {
#pragma GCC unroll 4
      for (int k = 0; k < kAtOnce; ++k) {
        const V g = V::load(grad + i + k * kLanes);
        dot[k] = dot[k] + g * V::load(x + i + k * kLanes);
        (scale * g).store(grad_x + i + k * kLanes);
      }
    }
    for (; i < length; i += kLanes) {
      const int64_t count = std::min<int64_t>(length - i, kLanes);
      const V g = V::load(grad + i);
      dot[0] = dot[0] + g * V::load_some(x + i, count);
      (scale * g).store_some(grad_x + i, count);
    }
    C lanes[kLanes], total = 0;
    ((dot[0] + dot[1]) + (dot[2] + dot[3])).store(lanes);
    for (int k = 0; k < kLanes; ++k) total += lanes[k];
    return total;
  }
};

}  // namespace freewire::cpu

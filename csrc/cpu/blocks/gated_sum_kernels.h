// SPDX-License-Identifier: MIT
// The raw CPU kernels of a gated sum, y = sum of gate_i x_i, perhaps through a relu: what they take.
//
// Arrays are flat: what a tensor's axes mean plays no part. A kernel takes one span of them; spans are independent, so
// callers spread them over threads as they like.
#pragma once

#include <cstdint>

#include "number.h"

namespace freewire::cpu {

template <class T>
struct GatedSum {
  const T* const* xs;       // [count] arrays of one length
  const Compute<T>* gates;  // [count]
  int64_t count;            // at least 1
  bool relu;
};

template <class T>
struct GatedSumKernels {
  // y[begin, end).
  using Forward = void (*)(const GatedSum<T>& sum, int64_t begin, int64_t end, T* y);
  // Of [begin, end): grad_xs[i] = gate_i times the sum's gradient, and dots[i], where dots is not null, its product
  // with x_i, summed over the span.
  using Backward = void (*)(const GatedSum<T>& sum, const T* grad_y, int64_t begin, int64_t end, T* const* grad_xs,
                            Compute<T>* dots);
  Forward forward;
  Backward backward;
};

// Elements of a span: a fixed number, so that the number of threads changes no bit. Enough to be worth a task, and few
// enough that a feature map has several.
constexpr int64_t kSpan = 16384;
inline int64_t num_spans(int64_t length) { return (length + kSpan - 1) / kSpan; }

}  // namespace freewire::cpu

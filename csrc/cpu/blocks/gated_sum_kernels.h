// SPDX-License-Identifier: MIT
// The arguments of the raw CPU kernels of a gated sum, y = sum of gate_i x_i, optionally through a relu.
//
// Arrays are flat: the meaning of a tensor's axes does not matter. A kernel handles one span of them; spans are
// independent, so callers may distribute them over threads in any way.
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
  // Computes y[begin, end).
  using Forward = void (*)(const GatedSum<T>& sum, int64_t begin, int64_t end, T* y);
  // For [begin, end): grad_xs[i] = gate_i times the gradient of the sum; and, unless dots is null, dots[i] = the dot
  // product of x_i with the gradient of the sum over the span.
  using Backward = void (*)(const GatedSum<T>& sum, const T* grad_y, int64_t begin, int64_t end, T* const* grad_xs,
                            Compute<T>* dots);
  Forward forward;
  Backward backward;
};

// Elements of a span: a fixed number, so that the number of threads changes no bit; enough to be worth a task, and few
// enough that a feature map has several spans.
constexpr int64_t kSpan = 16384;
inline int64_t num_spans(int64_t length) { return (length + kSpan - 1) / kSpan; }

}  // namespace freewire::cpu

// SPDX-License-Identifier: MIT
// The arguments of the raw CPU kernels of a stage's training: batch norms between convolutions, without a tensor for
// their results.
//
// The result of a node's convolutions is stored as it is; who reads it applies the batch norm after it, a scale and a
// shift per channel. Arrays of pixels are [pixels, padded], those of channels [padded]; in padding all are zero.
#pragma once

#include <cstdint>

#include "number.h"

namespace freewire::cpu {

// Gradients of a node's result, from all its readers: the sum of gates[i] * grads[i].
template <class T>
struct ReaderGradients {
  const T* const* grads;    // [count]
  const Compute<T>* gates;  // [count]
  int64_t count;
};

// A batch norm's statistics and what it multiplies by.
template <class C>
struct Norm {
  const C *mean, *inverse;  // inverse: 1 / sqrt(variance + epsilon)
  const C *scale, *shift;   // y = scale * x + shift
};

template <class T>
struct NormKernels {
  using C = Compute<T>;
  // y = sum of scales[i * padded + channel] * xs[i] + shift, through a relu if wanted.
  using AffineSum = void (*)(const T* const* xs, int64_t count, const C* scales, const C* shift, bool relu,
                             int64_t pixels, int64_t padded, C* y);
  // Adds pixels to the mean and to the sum of squared differences from it, of those that came before.
  using AddStatistics = void (*)(const T* x, int64_t pixels, int64_t padded, int64_t before, C* mean, C* squares);
  // grad = the sum over the readers. Adds to sums [2, padded]: of grad, and of grad times the normalised x; and to dots
  // [count]: each reader's gradient times the norm's result.
  using Gather = void (*)(const ReaderGradients<T>& readers, const T* x, const Norm<C>& norm, int64_t pixels,
                          int64_t padded, C* grad, C* sums, C* dots);
  // y = factors[0] * grad + factors[1] * x + factors[2], with factors [3, padded]; without x if it is null.
  using Combine = void (*)(const C* grad, const T* x, const C* factors, int64_t pixels, int64_t padded, C* y);
  // The gradients of a depthwise convolution of any stride, for one row of its result. rows: the three rows that it
  // reads, with borders. Adds to grad_rows, which are like them, and to sums [9, padded], unless it is null.
  using Scatter = void (*)(const C* grad, const C* const* rows, const C* kernel, int64_t width, int64_t stride,
                           int64_t padded, C* const* grad_rows, C* sums);
  // The same as StageKernels's, to and from the type that is computed in.
  using Widen = void (*)(const T* from, int64_t pixels, int64_t channels, bool relu, C* to);
  using Narrow = void (*)(const C* from, int64_t pixels, int64_t channels, T* to);
  // to = from, rounded.
  using Store = void (*)(const C* from, int64_t length, T* to);
  AffineSum affine_sum;
  AddStatistics add_statistics;
  Gather gather;
  Combine combine;
  Scatter scatter;
  Widen widen;
  Narrow narrow;
  Store store;
};

}  // namespace freewire::cpu

// SPDX-License-Identifier: MIT
// The raw CPU kernels of a 3x3 convolution of every channel by itself, behind a relu: what they take.
//
// Rows of feature maps lie channels innermost, [width, channels]; a bordered row has a column of zeros at either end,
// [width + 2, channels]. A kernel is [9, channels], tap by tap: from the row above left to the row below right.
#pragma once

#include <cstdint>

#include "number.h"

namespace freewire::cpu {

template <class T>
struct DepthwiseKernels {
  // y [width, channels] of the bordered rows above, at and below it.
  using Forward = void (*)(const T* const* rows, const Compute<T>* kernel, int64_t width, int64_t channels, T* y);
  // sums [9, channels] += what a bordered row of x gives to the kernel's gradient, by the rows of y's gradient, without
  // borders, that read it with the kernel's first, second and third line: those below, at and above it. Null where
  // the image ends: zeros would make a NaN of an infinity of x, as they do of one of the gradient's at either side.
  using KernelGradient = void (*)(const T* x, const T* const* grad_rows, int64_t width, int64_t channels,
                                  Compute<T>* sums);
  // grad [length] = 0 where what was heard through a relu is.
  using ReluGradient = void (*)(const T* heard, int64_t length, T* grad);
  Forward forward;
  KernelGradient add_kernel_gradient;
  ReluGradient relu_gradient;
};

}  // namespace freewire::cpu

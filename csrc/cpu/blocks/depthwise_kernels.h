// SPDX-License-Identifier: MIT
// The arguments of the raw CPU kernels of a depthwise 3x3 convolution that follows a relu.
//
// Rows of feature maps have the channels innermost, [width, channels]; a bordered row has a column of zeros at each
// end, [width + 2, channels]. A convolution's kernel is [9, channels], one row per tap, from the upper left to the
// lower right.
#pragma once

#include <cstdint>

#include "number.h"

namespace freewire::cpu {

template <class T>
struct DepthwiseKernels {
  // y [width, channels] from the bordered rows above, at and below it.
  using Forward = void (*)(const T* const* rows, const Compute<T>* kernel, int64_t width, int64_t channels, T* y);
  // sums [9, channels] += the contribution of a bordered row of x to the kernel's gradient. grad_rows are the rows of
  // grad_y, without borders, that read it with the kernel's first, second and third line: those below, at and above it.
  // They are null outside the image: zeros times an infinity of x would give NaN.
  using KernelGradient = void (*)(const T* x, const T* const* grad_rows, int64_t width, int64_t channels,
                                  Compute<T>* sums);
  // grad [length] = 0 wherever rectified, the result of the relu, is 0.
  using ReluGradient = void (*)(const T* rectified, int64_t length, T* grad);
  Forward forward;
  KernelGradient add_kernel_gradient;
  ReluGradient relu_gradient;
};

}  // namespace freewire::cpu

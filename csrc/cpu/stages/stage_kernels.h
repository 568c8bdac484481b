// SPDX-License-Identifier: MIT
// The arguments of the raw CPU kernels of a stage of separable convolutions.
//
// Inside a stage, feature maps have their channels innermost and padded with zeros to a multiple of kChannelBlock, so
// that every register is full. "padded" is that number, "channels" the number without padding. A 1x1 convolution is a
// product of matrices, a row per pixel; its weights are packed into panels, [depth, width of the panel], of as many
// channels as are computed together.
#pragma once

#include <cstdint>

#include "number.h"

namespace freewire::cpu {

constexpr int64_t kChannelBlock = 16;
constexpr int64_t padded_channels(int64_t channels) {
  return (channels + kChannelBlock - 1) / kChannelBlock * kChannelBlock;
}

// A matrix whose entry (i, k) is data[i * row + k * column].
template <class C>
struct Strided {
  const C* data;
  int64_t row, column;
};

template <class T>
struct StageKernels {
  using C = Compute<T>;
  // to [pixels, padded] = from [pixels, channels], through a relu if wanted.
  using Pad = void (*)(const T* from, int64_t pixels, int64_t channels, bool relu, T* to);
  // The reverse, without a relu.
  using Unpad = void (*)(const T* from, int64_t pixels, int64_t channels, T* to);
  // y [width, padded] from three rows that have a column of zeros at each end: a depthwise 3x3 convolution, as in
  // depthwise_kernels.h, of any stride.
  using Convolve = void (*)(const T* const* rows, const C* kernel, int64_t width, int64_t stride, int64_t padded, C* y);
  // The weights of a product, [depth, padded] in panels, from weight [channels, depth], or [depth, channels] if
  // by_depth is set; column c times scale[c], unless scale is null.
  using Pack = void (*)(const T* weight, bool by_depth, const C* scale, int64_t depth, int64_t channels, C* packed);
  // y [pixels, padded] = a [pixels, depth] times packed weights, plus bias [padded], unless it is null.
  using Multiply = void (*)(const C* a, int64_t a_row, const C* packed, const C* bias, int64_t pixels, int64_t depth,
                            int64_t channels, T* y);
  // sums [rows, padded] += a [rows, depth] times b [depth, padded], or = with `write`.
  using AddProduct = void (*)(const Strided<C>& a, const C* b, int64_t rows, int64_t depth, int64_t padded, bool write,
                              C* sums);
  Pad pad;
  Unpad unpad;
  Convolve convolve;
  Pack pack;
  Multiply multiply;
  AddProduct add_product;
};

}  // namespace freewire::cpu

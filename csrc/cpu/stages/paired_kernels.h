// SPDX-License-Identifier: MIT
// The arguments of the raw CPU kernels of a stage's inference in bfloat16, where the processor multiplies pairs of
// bfloat16 numbers and adds both products to a float.
//
// A node's inputs are summed in float, into a window of floats, in planes of kChannelBlock channels: [padded / 16,
// rows, width + 2, 16], a row with a pixel of zeros at each end. The depthwise convolution rounds its results, which
// are the product's left operand: [depth / 32, pixels, 32], the depth padded with zeros and the pixels with anything.
// The right operand is packed into panels of kChannelBlock channels: [padded / 16, depth / 2, 16, 2]. In windows and
// operands channels are in the order of paired_place(). Such products take subnormal operands for zeros and give no
// subnormal results, whatever the processor's mode is, so the kernels round operands by an instruction that does the
// same.
#pragma once

#include <cstdint>

#include "cpu/blocks/gated_sum_kernels.h"
#include "cpu/stages/stage_kernels.h"
#include "number.h"

namespace freewire::cpu {

constexpr int64_t kPairDepth = 32;     // of one step of a product
constexpr int64_t kPairedPixels = 16;  // that are computed together
constexpr int64_t padded_depth(int64_t depth) { return (depth + kPairDepth - 1) / kPairDepth * kPairDepth; }
// Pixels of an operand: those beyond the given ones are read, and their results are not stored.
constexpr int64_t paired_rows(int64_t pixels) { return (pixels + kPairedPixels - 1) / kPairedPixels * kPairedPixels; }

// Where a window and an operand have a channel: of two blocks first the even and then the odd ones, since registers of
// 16-bit numbers split into these by one instruction each.
constexpr int64_t paired_place(int64_t channel, int64_t padded) {
  const int64_t within = channel % kPairDepth, first = channel - within;
  return first + kPairDepth <= padded ? first + within / 2 + within % 2 * kChannelBlock : channel;
}

struct PairedKernels {
  // A window's row is given by where it begins in the first plane; planes are `plane` numbers apart.
  //
  // The inside of a window's row from pixels [width, channels], through a relu if wanted.
  using Pad = void (*)(const BFloat16* from, int64_t width, int64_t channels, bool relu, int64_t plane, float* row);
  // The same from the sum of arrays [width, padded]; not rounded.
  using Sum = void (*)(const GatedSum<BFloat16>& sum, int64_t width, int64_t padded, int64_t plane, float* row);
  // y, the left operand of a product, of rows * width pixels, from (rows - 1) * stride + 3 rows of a window. kernel
  // [9, padded].
  using Convolve = void (*)(const float* const* window, int64_t plane, const float* kernel, int64_t rows, int64_t width,
                            int64_t stride, int64_t padded, BFloat16* y);
  // packed from weight [channels, depth]; row c times scale[c], unless scale is null.
  using Pack = void (*)(const BFloat16* weight, const float* scale, int64_t depth, int64_t channels, BFloat16* packed);
  // y [pixels, padded] = a times packed weights, plus bias [padded]. a and packed are aligned to 64 bytes.
  using Multiply = void (*)(const BFloat16* a, const BFloat16* packed, const float* bias, int64_t pixels, int64_t depth,
                            int64_t channels, BFloat16* y);
  // Before a thread's first product, and after its last one: between the two no other code may use the matrix unit.
  using Turn = void (*)();
  Pad pad;
  Sum sum;
  Convolve convolve;
  Pack pack;
  Multiply multiply;
  Turn begin, end;
};

}  // namespace freewire::cpu

// SPDX-License-Identifier: MIT
// How a stage's inference computes the products of matrices that are its 1x1 convolutions, and what leads to them: in
// the type that T is computed in, or for bfloat16 in pairs where the processor has a unit for them.
//
// A product is a policy: the types of a window's numbers and of operands, the size of operands, and the kernels.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/blocks/window.h"
#include "cpu/isa/matrix_unit.h"
#include "cpu/network/kernels.h"
#include "cpu/stages/rows.h"

namespace freewire::cpu {

template <class T>
struct WideProduct {
  using C = Compute<T>;
  using Rows = Window<T>;
  using Operand = C;
  struct Turn {};  // what a thread holds while it multiplies

  // Where windows and operands have a channel.
  static int64_t place(int64_t channel, int64_t) { return channel; }
  static int64_t block_length(int64_t pixels, int64_t channels) { return pixels * channels; }
  static int64_t packed_length(int64_t depth, int64_t channels) { return depth * padded_channels(channels); }

  static void pack(const T* weight, const C* scale, int64_t depth, int64_t channels, C* packed) {
    kernels<T>().stage.pack(weight, false, scale, depth, channels, packed);
  }
  // Rows of a window from pixels, and from sums.
  static void pad(const T* from, const Maps& in, bool relu, Rows& window, int64_t row) {
    kernels<T>().stage.pad(from, in.width, in.channels, relu, window.inside(row));
  }
  static void sum(const GatedSum<T>& sum, const Maps& padded, Rows& window, int64_t row) {
    kernels<T>().gated_sum.forward(sum, 0, padded.row(), window.inside(row));
  }
  static void convolve(Rows& window, const C* taps, int64_t row, int64_t rows, int64_t stride, int64_t width,
                       int64_t channels, C* block) {
    convolve_rows(window, taps, row, rows, stride, width, channels, block);
  }
  static void multiply(const C* block, const C* packed, const C* bias, int64_t pixels, int64_t depth, int64_t channels,
                       T* y) {
    kernels<T>().stage.multiply(block, padded_channels(depth), packed, bias, pixels, depth, channels, y);
  }
};

// Neighbouring rows of floats, as Window, in the layout of paired_kernels.h; only the pixels at their ends are zeros
// from the start. Planes are an odd number of cache lines apart, so that those of one pixel do not compete for the same
// places in the first-level cache.
class PairedWindow {
 public:
  PairedWindow(const Maps& maps, int64_t rows)
      : rows_(rows),
        row_((maps.width + 2) * kChannelBlock),
        planes_(maps.channels / kChannelBlock),
        numbers_(planes_ * plane()) {
    for (int64_t i = 0; i < planes_; ++i) {
      for (int64_t row = 0; row < rows; ++row) {
        float* const begin = bordered(row) + i * plane();
        std::fill_n(begin, kChannelBlock, 0.f);
        std::fill_n(begin + row_ - kChannelBlock, kChannelBlock, 0.f);
      }
    }
  }
  float* bordered(int64_t row) { return numbers_.data() + (row + rows_) % rows_ * row_; }
  void clear(int64_t row) {
    for (int64_t i = 0; i < planes_; ++i) std::fill_n(bordered(row) + i * plane(), row_, 0.f);
  }
  int64_t plane() const { return (rows_ * row_ / kChannelBlock | 1) * kChannelBlock; }

 private:
  int64_t rows_, row_, planes_;
  Buffer<float> numbers_;
};

struct PairedProduct {
  using Rows = PairedWindow;
  using Operand = BFloat16;
  struct Turn {
    Turn() { paired_kernels()->begin(); }
    ~Turn() { paired_kernels()->end(); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
  };

  static int64_t place(int64_t channel, int64_t padded) { return paired_place(channel, padded); }
  static int64_t block_length(int64_t pixels, int64_t channels) { return paired_rows(pixels) * padded_depth(channels); }
  static int64_t packed_length(int64_t depth, int64_t channels) {
    return padded_depth(depth) * padded_channels(channels);
  }

  static void pack(const BFloat16* weight, const float* scale, int64_t depth, int64_t channels, BFloat16* packed) {
    paired_kernels()->pack(weight, scale, depth, channels, packed);
  }
  static void pad(const BFloat16* from, const Maps& in, bool relu, Rows& window, int64_t row) {
    paired_kernels()->pad(from, in.width, in.channels, relu, window.plane(), window.bordered(row));
  }
  static void sum(const GatedSum<BFloat16>& sum, const Maps& padded, Rows& window, int64_t row) {
    paired_kernels()->sum(sum, padded.width, padded.channels, window.plane(), window.bordered(row));
  }
  static void convolve(Rows& window, const float* taps, int64_t row, int64_t rows, int64_t stride, int64_t width,
                       int64_t channels, BFloat16* block) {
    std::vector<const float*> read((rows - 1) * stride + 3);
    for (size_t i = 0; i < read.size(); ++i) read[i] = window.bordered(row * stride - 1 + static_cast<int64_t>(i));
    paired_kernels()->convolve(read.data(), window.plane(), taps, rows, width, stride, channels, block);
  }
  static void multiply(const BFloat16* block, const BFloat16* packed, const float* bias, int64_t pixels, int64_t depth,
                       int64_t channels, BFloat16* y) {
    paired_kernels()->multiply(block, packed, bias, pixels, depth, channels, y);
  }
};

}  // namespace freewire::cpu

// SPDX-License-Identifier: MIT
// Copies pixels between tensors, whose channels are as many as they are, and the inside of a stage, where they are
// padded to full registers.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/simd/vec.h"
#include "cpu/stages/stage_kernels.h"

namespace freewire::cpu {

template <class T, int kVectorBytes>
struct PaddedPixels {
  using C = Compute<T>;
  static constexpr int kLanes = kVectorBytes / sizeof(C);
  using V = Vec<C, kLanes>;

  template <class To>
  static void pad(const T* from, int64_t pixels, int64_t channels, bool relu, To* to) {
    const int64_t padded = padded_channels(channels);
    const V zero(C(0));
    const auto through = [&](V value) { return relu ? select(value <= zero, zero, value) : value; };
    for (int64_t pixel = 0; pixel < pixels; ++pixel, from += channels, to += padded) {
      int64_t c = 0;
      for (; c + kLanes <= channels; c += kLanes) through(V::load(from + c)).store(to + c);
      if (c < channels) through(V::load_some(from + c, channels - c)).store(to + c);
      for (c = (channels + kLanes - 1) / kLanes * kLanes; c < padded; c += kLanes) zero.store(to + c);
    }
  }

  template <class From>
  static void unpad(const From* from, int64_t pixels, int64_t channels, T* to) {
    const int64_t padded = padded_channels(channels);
    for (int64_t pixel = 0; pixel < pixels; ++pixel, from += padded, to += channels) {
      int64_t c = 0;
      for (; c + kLanes <= channels; c += kLanes) V::load(from + c).store(to + c);
      if (c < channels) V::load(from + c).store_some(to + c, channels - c);
    }
  }
};

}  // namespace freewire::cpu

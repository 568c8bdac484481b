// SPDX-License-Identifier: MIT
// Blocks of rows of a depthwise convolution, from a window of the rows that it reads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/blocks/window.h"
#include "cpu/network/kernels.h"

namespace freewire::cpu {

// For each block of at most `rows` of the rows [begin, end) of a convolution's result: brings what it reads into the
// window, by fill(row) inside the maps, and calls use(first row, number of rows).
template <class Rows, class Fill, class Use>
void each_block(int64_t begin, int64_t end, int64_t rows, int64_t stride, Rows& window, int64_t height,
                const Fill& fill, const Use& use) {
  int64_t next = begin * stride - 1;  // the first row that is not in the window
  for (int64_t row = begin; row < end; row += rows) {
    const int64_t count = std::min(rows, end - row);
    for (next = std::max(next, row * stride - 1); next <= (row + count - 1) * stride + 1; ++next) {
      if (next < 0 || next >= height) {
        window.clear(next);
      } else {
        fill(next);
      }
    }
    use(row, count);
  }
}

// The rows that row r of the result reads.
template <class C>
struct Around {
  Around(Window<C>& window, int64_t row, int64_t stride)
      : rows{window.bordered(row * stride - 1), window.bordered(row * stride), window.bordered(row * stride + 1)} {}
  C* rows[3];
};

// Rows [row, row + rows) of a convolution's result, one after the other in block.
template <class T>
void convolve_rows(Window<T>& window, const Compute<T>* taps, int64_t row, int64_t rows, int64_t stride, int64_t width,
                   int64_t channels, Compute<T>* block) {
  for (int64_t r = 0; r < rows; ++r) {
    const Around<T> around(window, row + r, stride);
    kernels<T>().stage.convolve(around.rows, taps, width, stride, channels, block + r * width * channels);
  }
}

}  // namespace freewire::cpu

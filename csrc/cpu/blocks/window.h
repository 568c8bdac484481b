// SPDX-License-Identifier: MIT
// The shape of feature maps, [batch, height, width, channels], and a window of their rows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/buffer.h"
#include "number.h"

namespace freewire::cpu {

// The shape of each feature map.
struct Maps {
  int64_t batch, height, width, channels;
  int64_t row() const { return width * channels; }
  int64_t numel() const { return batch * height * row(); }
  int64_t at(int64_t image, int64_t row_number) const { return (image * height + row_number) * row(); }
};

// Neighbouring rows, three unless more are asked for, each with a column of zeros at each end; rows outside the image
// are zeros.
template <class T>
class Window {
 public:
  explicit Window(const Maps& maps, int64_t rows = 3)
      : maps_(maps), rows_(rows), length_(maps.row() + 2 * maps.channels), numbers_(rows * length_) {
    std::fill_n(numbers_.data(), rows * length_, narrowed<T>(0));
  }
  T* bordered(int64_t row) { return numbers_.data() + (row + rows_) % rows_ * length_; }
  T* inside(int64_t row) { return bordered(row) + maps_.channels; }
  void clear(int64_t row) { std::fill_n(inside(row), maps_.row(), narrowed<T>(0)); }

 private:
  Maps maps_;
  int64_t rows_, length_;
  Buffer<T> numbers_;
};

}  // namespace freewire::cpu

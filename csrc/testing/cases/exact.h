// SPDX-License-Identifier: MIT
// Memory in which an access out of bounds is detected.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>

#include "cpu/buffer.h"

namespace freewire::testing {

// An array that fills its heap allocation to the last element, so that AddressSanitizer detects an overrun by one.
// Every byte starts as 0xff, a NaN in float and double, so that elements that are never written show. Empty arrays are
// null, as torch's are.
template <class T>
class Exact {
 public:
  Exact() = default;
  explicit Exact(int64_t size) : size_(size) {
    if (size == 0) return;
    buffer_ = std::make_unique<cpu::Buffer<T>>(size);
    std::memset(static_cast<void*>(data()), 0xff, bytes());
  }
  // A copy of the first elements of another array.
  Exact(const T* from, int64_t size) : Exact(size) {
    if (size) std::memcpy(static_cast<void*>(data()), from, bytes());
  }

  T* data() const { return buffer_ ? buffer_->data() : nullptr; }
  int64_t size() const { return size_; }
  size_t bytes() const { return static_cast<size_t>(size_) * sizeof(T); }
  T& operator[](int64_t i) const { return data()[i]; }

 private:
  int64_t size_ = 0;
  std::unique_ptr<cpu::Buffer<T>> buffer_;
};

}  // namespace freewire::testing

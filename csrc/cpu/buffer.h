// SPDX-License-Identifier: MIT
// Scratch memory of one thread during a kernel call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>

#include "cpu/huge_pages.h"

namespace freewire::cpu {

// An uninitialised array aligned to a cache line, so that a tape row never straddles one; null if it has no elements,
// as several of a small network's have.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count)
      : data_(count ? static_cast<T*>(::operator new(static_cast<size_t>(count) * sizeof(T), kAlignment)) : nullptr) {
    advise_huge_pages(data_, count * static_cast<int64_t>(sizeof(T)));
  }
  ~Buffer() { ::operator delete(data_, kAlignment); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() { return data_; }
  const T* data() const { return data_; }

 private:
  static constexpr std::align_val_t kAlignment{64};
  T* data_;
};

}  // namespace freewire::cpu

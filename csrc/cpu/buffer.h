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

// A Buffer that has room for a few elements in itself, where a small network's values fit: allocating takes longer than
// computing some dozen of them. Not in test programs, since sanitizers watch the heap.
template <class T>
class SmallBuffer {
 public:
  explicit SmallBuffer(int64_t count) : heap_(count <= kFew ? 0 : count), few_(count <= kFew) {}
  SmallBuffer(const SmallBuffer&) = delete;
  SmallBuffer& operator=(const SmallBuffer&) = delete;
  T* data() { return few_ ? reinterpret_cast<T*>(bytes_) : heap_.data(); }

 private:
#if defined(FREEWIRE_TINY_NETWORKS)
  static constexpr int64_t kFew = 0;
#else
  static constexpr int64_t kFew = 2048 / sizeof(T);
#endif
  alignas(64) unsigned char bytes_[kFew ? kFew * sizeof(T) : 64];
  Buffer<T> heap_;
  bool few_;
};

}  // namespace freewire::cpu

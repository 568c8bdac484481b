// SPDX-License-Identifier: MIT
// Arrays of more elements than the machine has memory for.
#pragma once

#include <sys/mman.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>

namespace freewire::testing {

// An array of zeros of which only the touched pages take memory.
template <class T>
class Sparse {
 public:
  explicit Sparse(int64_t size) : bytes_(static_cast<size_t>(size) * sizeof(T) + 1) {
    void* found = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) throw std::runtime_error("mmap: expected an address range, got none.");
    data_ = static_cast<T*>(found);
  }
  // A copy of another array's elements, from an index on.
  Sparse(int64_t size, int64_t at, const T* from, int64_t count) : Sparse(size) {
    if (count) std::memcpy(static_cast<void*>(data_ + at), from, static_cast<size_t>(count) * sizeof(T));
  }
  ~Sparse() { munmap(data_, bytes_); }
  Sparse(const Sparse&) = delete;
  Sparse& operator=(const Sparse&) = delete;
  T* data() const { return data_; }

 private:
  size_t bytes_;
  T* data_;
};

}  // namespace freewire::testing

// SPDX-License-Identifier: MIT
// The resident regime: a block a tile of the batch, its rows in shared memory.
#pragma once

#include <type_traits>

#include "cuda/kernels.h"

namespace freewire::cuda {

template <class T>
void resident_forward(const PlanView& plan, const ForwardArrays<T>& arrays, int columns, Stream stream);
template <class T>
void resident_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, Stream stream);

// Of a block. Doubles take twice the registers.
template <class T>
constexpr int kResidentThreads = sizeof(T) == 8 ? 256 : 512;

// Shared memory of a block: a row a slot, and one of zeros.
inline int64_t resident_bytes(const PlanView& plan, int64_t columns, int64_t itemsize) {
  return (plan.num_slots + 1) * columns * itemsize;
}

// Calls body(std::integral_constant<int, columns>{}).
template <class Body>
void with_columns(int columns, Body&& body) {
  switch (columns) {
    case 2:
      return body(std::integral_constant<int, 2>{});
    case 4:
      return body(std::integral_constant<int, 4>{});
    case 8:
      return body(std::integral_constant<int, 8>{});
    case 16:
      return body(std::integral_constant<int, 16>{});
    default:
      return body(std::integral_constant<int, 32>{});
  }
}

}  // namespace freewire::cuda

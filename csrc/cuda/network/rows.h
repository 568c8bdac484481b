// SPDX-License-Identifier: MIT
// Rows of node values: one layout for both regimes. In shared memory a row is the columns of one tile, in global memory
// the whole padded batch.
#pragma once

#include <cstdint>

#include "cuda/common/warp.h"

namespace freewire::cuda {

template <class T>
struct Rows {
  T* data;         // null if the rows are not kept
  int64_t stride;  // columns from one row to the next
  __device__ T& at(int64_t row, int64_t column) const { return data[row * stride + column]; }
};

}  // namespace freewire::cuda

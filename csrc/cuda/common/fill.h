// SPDX-License-Identifier: MIT
// The launcher of fill.cu.
#pragma once

#include "cuda/network/kernels.h"

namespace freewire::cuda {

// to[0, count) = 0.
template <class T>
void fill_zero(T* to, int64_t count, Stream stream);

}  // namespace freewire::cuda

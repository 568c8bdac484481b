// SPDX-License-Identifier: MIT
// Clears memory on a GPU, on a stream.
#pragma once

#include <cstdint>

#include "cuda/common/host.h"

namespace freewire::cuda {

// to[0, count) = 0, for the number types and int32_t.
template <class V>
void fill_zero(V* to, int64_t count, Stream stream);

}  // namespace freewire::cuda

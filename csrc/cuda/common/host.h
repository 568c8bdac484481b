// SPDX-License-Identifier: MIT
// CUDA for host code without CUDA's headers: the torch binding is compiled by the host's compiler alone.
#pragma once

#include <cstdint>

struct CUstream_st;

namespace freewire::cuda {

using Stream = CUstream_st*;  // cudaStream_t

// Blocks for that many elements.
constexpr int64_t blocks_of(int64_t count, int64_t per_block) { return (count + per_block - 1) / per_block; }

// The properties of the current device that launches and error messages need.
struct Device {
  int multiprocessors;
  int shared_bytes;  // most shared memory of a block, dynamic and static
  int capability;    // 90 for sm_90
  int driver;        // newest CUDA version that the driver supports, 13010 for 13.1; 0 if there is no driver
  int runtime;       // the CUDA version these kernels were built with
};

// Properties that cannot be read are 0.
Device current_device();

// The message of the last error since the previous call, such as a refused launch, or null. It does not wait, so an
// error inside a kernel is reported later.
const char* last_error();

}  // namespace freewire::cuda

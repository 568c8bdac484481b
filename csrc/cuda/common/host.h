// SPDX-License-Identifier: MIT
// What host code knows of CUDA without CUDA's headers: the torch binding is compiled by the host's compiler alone.
#pragma once

struct CUstream_st;

namespace freewire::cuda {

using Stream = CUstream_st*;  // cudaStream_t

// The current device, as far as launches and error messages ask.
struct Device {
  int multiprocessors;
  int shared_bytes;  // that a block can have, dynamic and static
  int capability;    // 90 for sm_90
  int driver;        // newest CUDA version that the driver knows, 13010 for 13.1; 0: no driver
  int runtime;       // the CUDA version these kernels were built with
};

// What is not known stays 0.
Device current_device();

// What went wrong since it was last asked, in words, or null: a launch that was refused, for one. Does not wait, so
// what goes wrong inside a kernel shows later.
const char* last_error();

}  // namespace freewire::cuda

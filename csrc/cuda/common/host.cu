// SPDX-License-Identifier: MIT
// The functions of host.h, which need CUDA's headers.
#include "cuda/common/device.h"
#include "cuda/common/host.h"

namespace freewire::cuda {

Device current_device() { return describe_device(); }

const char* last_error() { return take_error(); }

}  // namespace freewire::cuda

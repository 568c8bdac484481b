// SPDX-License-Identifier: MIT
// host.h: the functions that the host's compiler cannot compile, having no CUDA.
#include "cuda/common/device.h"
#include "cuda/common/host.h"

namespace freewire::cuda {

Device current_device() { return describe_device(); }

const char* last_error() { return take_error(); }

}  // namespace freewire::cuda

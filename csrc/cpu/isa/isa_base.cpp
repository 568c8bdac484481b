// SPDX-License-Identifier: MIT
// The kernels in 16-byte registers: SSE2 on x86-64, NEON on arm64, whatever the compiler makes of them
// elsewhere.
#include "cpu/isa/kernel_table.h"

namespace freewire::cpu {

template const Kernels<float>& kernel_table<float, 16>();
template const Kernels<double>& kernel_table<double, 16>();
template const Kernels<BFloat16>& kernel_table<BFloat16, 16>();
template const Kernels<Half>& kernel_table<Half, 16>();

}  // namespace freewire::cpu

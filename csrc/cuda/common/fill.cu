// SPDX-License-Identifier: MIT
// Memory that starts as zero. A kernel and not a memset, so that the CPU shim runs it like the others.
#include "cuda/common/device.h"
#include "cuda/common/fill.h"

namespace freewire::cuda {
namespace {

constexpr int kThreads = 256;

template <class T>
__global__ void __launch_bounds__(kThreads) zero_kernel(T* __restrict__ to, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) to[i] = 0;
}

}  // namespace

template <class T>
void fill_zero(T* to, int64_t count, Stream stream) {
  launch<zero_kernel<T>>(blocks_of(count, kThreads), kThreads, 0, stream, to, count);
}

template void fill_zero<float>(float*, int64_t, Stream);
template void fill_zero<double>(double*, int64_t, Stream);

}  // namespace freewire::cuda

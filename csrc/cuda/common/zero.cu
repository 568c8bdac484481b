// SPDX-License-Identifier: MIT
// One thread per element. A kernel and not a memset, so that the CPU shim runs it like the others.
#include "cuda/common/device.h"
#include "cuda/common/zero.h"
#include "number.h"

namespace freewire::cuda {
namespace {

constexpr int kThreads = 256;

template <class V>
__global__ void __launch_bounds__(kThreads) zero_kernel(V* __restrict__ to, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) to[i] = V{};
}

}  // namespace

template <class V>
void fill_zero(V* to, int64_t count, Stream stream) {
  launch<zero_kernel<V>>(blocks_of(count, kThreads), kThreads, 0, stream, to, count);
}

#define FREEWIRE_INSTANTIATE(T, tag, name) template void fill_zero<T>(T*, int64_t, Stream);
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE
template void fill_zero<int32_t>(int32_t*, int64_t, Stream);

}  // namespace freewire::cuda

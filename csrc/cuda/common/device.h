// SPDX-License-Identifier: MIT
// The differences between nvcc and a CPU compiler: CUDA sources include this header and none of CUDA's own.
//
// Any C++20 compiler can compile them: testing/simt/simt.h then runs the same source on the CPU, one fiber per CUDA
// thread, so that machines without a GPU check indexing, bounds, barriers and races. Sources use CUDA's own names for
// everything that such a compiler can parse (threadIdx, __syncthreads, __shfl_*_sync, __ldg, float4, ...), and the
// names below for the rest. No torch here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "cuda/common/host.h"

#if defined(__CUDACC__)
#include <cooperative_groups.h>
#include <cuda_runtime.h>
#else
#include "testing/simt/simt.h"
#endif

// A static array in shared memory, uninitialised: FREEWIRE_SHARED(weights, float[32][33]); declares weights. A macro,
// because __shared__ is a storage class.
#if defined(__CUDACC__)
#define FREEWIRE_SHARED(name, ...) __shared__ std::type_identity_t<__VA_ARGS__> name
#else
#define FREEWIRE_SHARED(name, ...) std::type_identity_t<__VA_ARGS__>& name = simt::shared<__VA_ARGS__>([] {})
#endif

namespace freewire::cuda {

constexpr int kWarpSize = 32;
constexpr unsigned kFullWarp = 0xffffffffu;  // the mask of all lanes

// ---- device code ----

// The block's dynamic shared memory, the launch's shared_bytes in all, aligned to 16 bytes.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  static_assert(alignof(T) <= 16, "dynamic shared memory is aligned to 16 bytes only");
#if defined(__CUDACC__)
  extern __shared__ __align__(16) unsigned char freewire_dynamic_shared[];
  return reinterpret_cast<T*>(freewire_dynamic_shared);
#else
  return static_cast<T*>(simt::dynamic_shared());
#endif
}

// Waits for every thread of every block; only in kernels started by launch_cooperative.
#if defined(__CUDACC__)
__device__ __forceinline__ void grid_sync() { cooperative_groups::this_grid().sync(); }
#else
inline void grid_sync(simt::Site site = simt::Site::here()) { simt::sync_grid(site); }
#endif

// ---- host code ----

// Blocks of a grid, or threads of a block. 64 bits, so that a size too large is refused instead of truncated.
struct Extent {
  constexpr Extent(int64_t x, int64_t y = 1, int64_t z = 1) : x(x), y(y), z(z) {}
  constexpr bool empty() const { return x == 0 || y == 0 || z == 0; }
  // A size that does not fit becomes the largest unsigned number, which the launch then refuses.
  dim3 to_dim3() const {
    const auto fit = [](int64_t n) {
      constexpr unsigned kTooMany = std::numeric_limits<unsigned>::max();
      return n < 0 || n > kTooMany ? kTooMany : static_cast<unsigned>(n);
    };
    return dim3(fit(x), fit(y), fit(z));
  }
  int64_t x, y, z;
};

#if defined(__CUDACC__)
// A kernel must ask for shared memory beyond 48 KiB. The limit belongs to the kernel on this device, not to the launch,
// so every caller asks for the maximum: less would refuse a larger launch of another thread. It costs a fraction of a
// microsecond, is no operation on a stream (so a capture allows it), and its failure is kept for take_error(). Not for
// kernels with static arrays, which would have to be subtracted.
template <auto Kernel>
void allow_shared(size_t bytes) {
  if (bytes <= 48 * 1024) return;
  int device = 0, most = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  cudaFuncSetAttribute(Kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
}

// cudaLaunchKernelEx converts the arguments, as <<<>>> does.
template <class... Parameters, class... Arguments>
void start_cooperative(void (*kernel)(Parameters...), const cudaLaunchConfig_t& config, Arguments... arguments) {
  cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}
#endif

// Starts Kernel on the current device: launch<fill_kernel<float>>(blocks, threads, shared_bytes, stream, to, n).
// grid and block are an Extent or a number or {x, y, z}; a grid without blocks starts nothing. The arguments are
// converted to the kernel's parameter types. Call take_error() afterwards.
template <auto Kernel, bool kCooperative = false, class... Arguments>
void launch(Extent grid, Extent block, size_t shared_bytes, Stream stream, Arguments... arguments) {
  if (grid.empty()) return;
#if defined(__CUDACC__)
  allow_shared<Kernel>(shared_bytes);
  if constexpr (kCooperative) {
    cudaLaunchAttribute attribute{};
    attribute.id = cudaLaunchAttributeCooperative;
    attribute.val.cooperative = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = grid.to_dim3();
    config.blockDim = block.to_dim3();
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = &attribute;
    config.numAttrs = 1;
    start_cooperative(Kernel, config, arguments...);
  } else {
    Kernel<<<grid.to_dim3(), block.to_dim3(), shared_bytes, stream>>>(arguments...);
  }
#else
  static_cast<void>(stream);
  simt::launch<Kernel>(kCooperative, grid.to_dim3(), block.to_dim3(), shared_bytes, arguments...);
#endif
}

// The same with all blocks running at once, so that the kernel may call grid_sync(); the grid must fit the device. No
// kernel uses it yet; the injected bugs of testing/simt/simt_injected.cu keep it working.
template <auto Kernel, class... Arguments>
void launch_cooperative(Extent grid, Extent block, size_t shared_bytes, Stream stream, Arguments... arguments) {
  launch<Kernel, true>(grid, block, shared_bytes, stream, arguments...);
}

// The implementations of last_error() and current_device(), documented in cuda/common/host.h.
#if defined(__CUDACC__)
inline const char* take_error() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

inline Device describe_device() {
  Device found{};
  cudaDriverGetVersion(&found.driver);
  cudaRuntimeGetVersion(&found.runtime);
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess) return found;
  const auto get = [&](cudaDeviceAttr attribute) {
    int value = 0;
    cudaDeviceGetAttribute(&value, attribute, device);
    return value;
  };
  found.multiprocessors = get(cudaDevAttrMultiProcessorCount);
  found.shared_bytes = get(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  found.capability = 10 * get(cudaDevAttrComputeCapabilityMajor) + get(cudaDevAttrComputeCapabilityMinor);
  return found;
}
#else
inline const char* take_error() { return simt::last_error(); }

inline Device describe_device() {
  const simt::Options& device = simt::options();
  return {device.multiprocessors, static_cast<int>(device.shared_bytes), device.capability, device.driver,
          simt::kRuntimeVersion};
}
#endif

}  // namespace freewire::cuda

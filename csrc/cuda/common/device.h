// SPDX-License-Identifier: MIT
// All that differs between nvcc and the CPU: CUDA sources include this header and no other of CUDA's.
//
// Enters: nvcc, or any C++20 compiler (then testing/simt.h runs the same source on the CPU, a fiber a thread, so
// that machines without a GPU check indexing, bounds, barriers and races). Leaves: CUDA's own names as both
// know them (threadIdx, __syncthreads, __syncwarp, __shfl_*_sync, __ballot_sync, __ldg, float4, ...), and the
// few below for what CUDA writes in ways that no C++ compiler reads. No torch here.
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

// A static array in shared memory, uninitialised: FREEWIRE_SHARED(weights, float[32][33]); declares weights. The
// one macro, because __shared__ is a storage class.
#if defined(__CUDACC__)
#define FREEWIRE_SHARED(name, ...) __shared__ std::type_identity_t<__VA_ARGS__> name
#else
#define FREEWIRE_SHARED(name, ...) std::type_identity_t<__VA_ARGS__>& name = simt::shared<__VA_ARGS__>([] {})
#endif

namespace freewire::cuda {

constexpr int kWarpSize = 32;
constexpr unsigned kFullWarp = 0xffffffffu;  // the mask of all lanes

// ---- device code ----

// The block's dynamic shared memory, aligned to 16 bytes: shared_bytes of the launch, whatever T is.
template <class T>
__device__ __forceinline__ T* dynamic_shared() {
  static_assert(alignof(T) <= 16, "dynamic shared memory is aligned to 16 bytes, no more");
#if defined(__CUDACC__)
  extern __shared__ __align__(16) unsigned char freewire_dynamic_shared[];
  return reinterpret_cast<T*>(freewire_dynamic_shared);
#else
  return static_cast<T*>(simt::dynamic_shared());
#endif
}

// Waits for every thread of every block; in kernels started by launch_cooperative only.
#if defined(__CUDACC__)
__device__ __forceinline__ void grid_sync() { cooperative_groups::this_grid().sync(); }
#else
inline void grid_sync(simt::Site site = simt::Site::here()) { simt::sync_grid(site); }
#endif

// ---- host code ----

// Blocks of a grid, or threads of a block. 64 bits, so that a size too large is refused and not cut off.
struct Extent {
  constexpr Extent(int64_t x, int64_t y = 1, int64_t z = 1) : x(x), y(y), z(z) {}
  constexpr bool empty() const { return x == 0 || y == 0 || z == 0; }
  // What does not fit becomes the largest number there is, which the launch then refuses.
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
// Shared memory beyond 48 KiB must be asked for, by every kernel. The limit is the kernel's on this device, not the
// launch's, so every caller asks for the same, all there is: less would refuse a larger launch of another thread. Costs
// a fraction of a microsecond, is no operation on a stream (so a capture allows it), and its failure stays for
// take_error(). For kernels without static arrays, which would have to be subtracted.
template <auto Kernel>
void allow_shared(size_t bytes) {
  if (bytes <= 48 * 1024) return;
  int device = 0, most = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  cudaFuncSetAttribute(Kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most);
}
#endif

// Starts Kernel on the current device: launch<fill_kernel<float>>(blocks, threads, shared_bytes, stream, to, n).
// grid and block are an Extent or a number or {x, y, z}; without blocks nothing is started. The arguments
// become the kernel's parameter types. Ask take_error() afterwards.
template <auto Kernel, class... Arguments>
void launch(Extent grid, Extent block, size_t shared_bytes, Stream stream, Arguments... arguments) {
  if (grid.empty()) return;
#if defined(__CUDACC__)
  allow_shared<Kernel>(shared_bytes);
  Kernel<<<grid.to_dim3(), block.to_dim3(), shared_bytes, stream>>>(arguments...);
#else
  static_cast<void>(stream);
  simt::launch<Kernel>(false, grid.to_dim3(), block.to_dim3(), shared_bytes, arguments...);
#endif
}

#if defined(__CUDACC__)
// cudaLaunchKernelEx converts the arguments, as <<<>>> does.
template <class... Parameters, class... Arguments>
void start_cooperative(void (*kernel)(Parameters...), const cudaLaunchConfig_t& config, Arguments... arguments) {
  cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}
#endif

// The same with all blocks running at once, so that the kernel may call grid_sync(); the grid must fit the device. No
// kernel does yet: the injected bugs of testing/simt/simt_injected.cu keep it working.
template <auto Kernel, class... Arguments>
void launch_cooperative(Extent grid, Extent block, size_t shared_bytes, Stream stream, Arguments... arguments) {
  if (grid.empty()) return;
#if defined(__CUDACC__)
  allow_shared<Kernel>(shared_bytes);
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
#else
  static_cast<void>(stream);
  simt::launch<Kernel>(true, grid.to_dim3(), block.to_dim3(), shared_bytes, arguments...);
#endif
}

// last_error() and current_device() of cuda/host.h, which says what they mean.
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
  const simt::Options& played = simt::options();
  return {played.multiprocessors, static_cast<int>(played.shared_bytes), played.capability, played.driver,
          simt::kRuntimeVersion};
}
#endif

}  // namespace freewire::cuda

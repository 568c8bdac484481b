// SPDX-License-Identifier: MIT
// Kernels with a bug that can be switched on, to show that a run on the shim without a report would have found it.
//
// Without arguments every kernel runs without its bug; "--inject NAME" runs one with it. Prints the name of each kernel
// and how often it was started. The exit status is 1, with a sentence on stderr, if a result is wrong. A bug ends the
// program before that, by the shim's message or a sanitizer's report; tests/support/simt.py lists which. Compiled by
// nvcc it runs on a GPU, where the kernels without their bugs check cuda/common/device.h.
#include <cmath>
#include <cstdio>
#include <cstring>

#include "cuda/common/device.h"

namespace freewire::cuda {
namespace {

constexpr int kThreads = 64, kBlocks = 3;
constexpr int kCount = kThreads * kBlocks;  // entries of x and of y

// In each kernel thread t of block b owns entry i = b * kThreads + t of y. Without its bug no two threads write the
// same entry, and every sum has one order: race-free and bitwise deterministic. An entry moves about 8 bytes.
__device__ __forceinline__ int own_entry() { return blockIdx.x * kThreads + threadIdx.x; }

// ---- out of bounds ----

__global__ void global_read_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  y[own_entry()] = 2 * x[own_entry() + injected];  // the last thread reads past the end
}

__global__ void global_write_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  y[own_entry() + injected] = 2 * x[own_entry()];
}

__global__ void dynamic_shared_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  float* tile = dynamic_shared<float>();
  tile[threadIdx.x + injected] = x[own_entry()];
  __syncthreads();
  y[own_entry()] = tile[kThreads - 1 - threadIdx.x];
}

__global__ void static_shared_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  FREEWIRE_SHARED(tile, float[kThreads]);
  tile[threadIdx.x] = x[own_entry()];
  __syncthreads();
  const float* last = &tile[kThreads - 1];
  y[own_entry()] = *(last - threadIdx.x + injected);
}

__global__ void misaligned_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  const int i = own_entry();
  if (i % 4) return;
  const int from = injected && i + 4 < kCount ? i + 1 : i;
  *reinterpret_cast<float4*>(y + i) = __ldg(reinterpret_cast<const float4*>(x + from));
}

__global__ void unwritten_shared_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  float* tile = dynamic_shared<float>();
  if (!injected || threadIdx.x > 0) tile[threadIdx.x] = x[own_entry()];
  __syncthreads();
  y[own_entry()] = tile[kThreads - 1 - threadIdx.x];
}

// ---- races ----

__global__ void missing_barrier_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  float* tile = dynamic_shared<float>();
  tile[threadIdx.x] = x[own_entry()];
  if (!injected) __syncthreads();
  y[own_entry()] = tile[kThreads - 1 - threadIdx.x];
}

// Like the levels of a network: entries that all threads read may be overwritten only after a second barrier.
__global__ void early_overwrite_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  float* tile = dynamic_shared<float>();
  float v = x[own_entry()];
  for (int level = 0; level < 2; ++level) {
    tile[threadIdx.x] = v;
    __syncthreads();
    v += tile[(threadIdx.x + 1) % kThreads];
    if (!injected) __syncthreads();
  }
  y[own_entry()] = v;
}

__global__ void missing_warp_barrier_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  float* tile = dynamic_shared<float>();
  tile[threadIdx.x] = x[own_entry()];
  if (!injected) __syncwarp();
  y[own_entry()] = tile[threadIdx.x ^ (kWarpSize - 1)];
}

__global__ void block_race_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  float* tile = dynamic_shared<float>();
  tile[threadIdx.x] = x[own_entry()];
  __syncthreads();  // orders the threads of each block, but not the blocks
  y[injected ? threadIdx.x : own_entry()] = tile[kThreads - 1 - threadIdx.x];
  __syncthreads();
}

// Blocks that depend on each other's results: one launch per block, or with the bug one launch of all.
__global__ void block_chain_kernel(const float* __restrict__ x, float* y, int first_block) {
  const int i = first_block * kThreads + own_entry();
  y[i] = i < kThreads ? x[i] : x[i] + y[i - kThreads];
}

__global__ void missing_grid_barrier_kernel(const float* __restrict__ x, float* y, bool injected) {
  y[own_entry()] = x[own_entry()];
  if (!injected) grid_sync();
  const float v = y[kCount - 1 - own_entry()];
  grid_sync();
  y[own_entry()] = v;
}

// ---- threads that do not meet ----

__global__ void divergent_barrier_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  float* tile = dynamic_shared<float>();
  tile[threadIdx.x] = x[own_entry()];
  if (injected && threadIdx.x < kWarpSize) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  y[own_entry()] = tile[kThreads - 1 - threadIdx.x];
}

__global__ void early_return_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  float* tile = dynamic_shared<float>();
  tile[threadIdx.x] = x[own_entry()];
  if (injected && threadIdx.x == kThreads - 1) return;
  __syncthreads();
  y[own_entry()] = tile[kThreads - 1 - threadIdx.x];
}

// A deadlock: warps wait for the block while one of their lanes waits for them.
__global__ void crossed_barriers_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  float v = x[own_entry()];
  if (!injected || threadIdx.x > 0) __syncthreads();
  v += __shfl_xor_sync(kFullWarp, v, 1);
  if (injected && threadIdx.x == 0) __syncthreads();
  y[own_entry()] = v;
}

__global__ void missing_lane_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  float sum = x[own_entry()];
  if (!injected || threadIdx.x % kWarpSize != 7) {
    for (int bit = 1; bit < kWarpSize; bit *= 2) sum += __shfl_xor_sync(kFullWarp, sum, bit);
  }
  y[own_entry()] = sum;
}

__global__ void outside_mask_kernel(const float* __restrict__ x, float* __restrict__ y, bool injected) {
  float v = x[own_entry()];
  if (threadIdx.x % kWarpSize < 16) v = __shfl_sync(0xffffu, v, injected ? 20 : 3);
  y[own_entry()] = v;
}

// ---- launchers ----

using BuggyKernel = void (*)(const float*, float*, bool);

template <BuggyKernel kKernel>
void start(const float* x, float* y, bool injected) {
  launch<kKernel>(kBlocks, kThreads, kThreads * sizeof(float), nullptr, x, y, injected);
}
// The bug is an ordinary launch where a cooperative one is needed.
void start_alone(const float* x, float* y, bool injected) {
  if (injected) return start<missing_grid_barrier_kernel>(x, y, false);
  launch_cooperative<missing_grid_barrier_kernel>(kBlocks, kThreads, 0, nullptr, x, y, false);
}
void start_grid(const float* x, float* y, bool injected) {
  launch_cooperative<missing_grid_barrier_kernel>(kBlocks, kThreads, 0, nullptr, x, y, injected);
}
void start_chain(const float* x, float* y, bool injected) {
  const int launches = injected ? 1 : kBlocks;
  for (int i = 0; i < launches; ++i) {
    launch<block_chain_kernel>(kBlocks / launches, kThreads, 0, nullptr, x, y, i);
  }
}

// The expected entry i of y, without the bug.
float same(const float* x, int i) { return x[i]; }
float doubled(const float* x, int i) { return 2 * x[i]; }
float reversed(const float* x, int i) { return x[i / kThreads * kThreads + kThreads - 1 - i % kThreads]; }
float reversed_in_all(const float* x, int i) { return x[kCount - 1 - i]; }
float reversed_in_warp(const float* x, int i) { return x[i ^ (kWarpSize - 1)]; }
float next_added_twice(const float* x, int i) {
  const auto next = [&](int by) { return x[i / kThreads * kThreads + (i + by) % kThreads]; };
  return next(0) + 2 * next(1) + next(2);
}
float earlier_added(const float* x, int i) { return i < kThreads ? x[i] : x[i] + earlier_added(x, i - kThreads); }
float pair_sum(const float* x, int i) { return x[i] + x[i ^ 1]; }
float warp_sum(const float* x, int i) {
  float sum = 0;
  for (int lane = 0; lane < kWarpSize; ++lane) sum += x[i / kWarpSize * kWarpSize + lane];
  return sum;
}
float third_lane(const float* x, int i) { return i % kWarpSize < 16 ? x[i / kWarpSize * kWarpSize + 3] : x[i]; }

struct Bug {
  const char* name;
  void (*start)(const float* x, float* y, bool injected);
  float (*expected)(const float* x, int i);
};

const Bug kBugs[] = {
    {"global_read", start<global_read_kernel>, doubled},
    {"global_write", start<global_write_kernel>, doubled},
    {"dynamic_shared", start<dynamic_shared_kernel>, reversed},
    {"static_shared", start<static_shared_kernel>, reversed},
    {"misaligned", start<misaligned_kernel>, same},
    {"unwritten_shared", start<unwritten_shared_kernel>, reversed},
    {"missing_barrier", start<missing_barrier_kernel>, reversed},
    {"early_overwrite", start<early_overwrite_kernel>, next_added_twice},
    {"missing_warp_barrier", start<missing_warp_barrier_kernel>, reversed_in_warp},
    {"block_race", start<block_race_kernel>, reversed},
    {"block_chain", start_chain, earlier_added},
    {"missing_grid_barrier", start_grid, reversed_in_all},
    {"lone_grid_barrier", start_alone, reversed_in_all},
    {"divergent_barrier", start<divergent_barrier_kernel>, reversed},
    {"early_return", start<early_return_kernel>, reversed},
    {"crossed_barriers", start<crossed_barriers_kernel>, pair_sum},
    {"missing_lane", start<missing_lane_kernel>, warp_sum},
    {"outside_mask", start<outside_mask_kernel>, third_lane},
};

// kCount floats that host and device read, in an allocation of that size.
#if defined(__CUDACC__)
float* allocate() {
  float* array = nullptr;
  cudaMallocManaged(&array, kCount * sizeof(float));
  return array;
}
void release(float* array) { cudaFree(array); }
void wait() { cudaDeviceSynchronize(); }
#else
float* allocate() { return new float[kCount]; }
void release(float* array) { delete[] array; }
void wait() {}
#endif

bool run(const Bug& bug, bool injected) {
  float *x = allocate(), *y = allocate();
  for (int i = 0; i < kCount; ++i) {
    x[i] = static_cast<float>(i * i % 251);  // small whole numbers: sums are exact
    y[i] = NAN;
  }
  bug.start(x, y, injected);
  wait();
  const char* error = take_error();
  if (error) std::fprintf(stderr, "%s: %s\n", bug.name, error);
  bool good = !error;
  for (int i = 0; good && i < kCount; ++i) {
    good = y[i] == bug.expected(x, i);
    if (!good) {
      std::fprintf(stderr, "%s: expected y[%d] = %g, got %g.\n", bug.name, i, bug.expected(x, i), y[i]);
    }
  }
  release(x);
  release(y);
  return good;
}

}  // namespace
}  // namespace freewire::cuda

int main(int count, char** arguments) {
  using namespace freewire::cuda;
  const bool injected = count == 3 && std::strcmp(arguments[1], "--inject") == 0;
  bool good = true, found = false;
  for (const Bug& bug : kBugs) {
    if (injected && std::strcmp(bug.name, arguments[2]) != 0) continue;
    found = true;
    good = run(bug, injected) && good;
  }
  if (!found || (count != 1 && !injected)) {
    std::fprintf(stderr, "simt_injected: expected no argument or --inject and a bug's name.\n");
    return 2;
  }
#if !defined(__CUDACC__)
  for (const auto& [kernel, launches] : simt::launches()) {
    std::printf("%s %lld\n", kernel.c_str(), static_cast<long long>(launches));
  }
#endif
  return good ? 0 : 1;
}

// SPDX-License-Identifier: MIT
// The part of CUDA that this project's kernels use, on the CPU: cuda/common/device.h includes it if nvcc is not
// compiling.
//
// Unedited .cu files are compiled as C++20 (-x c++). Kernels run with one fiber per CUDA thread, started by device.h's
// launch() as on a GPU; it returns when all blocks have run. The runtime is testing/simt/simt_runtime.cpp, whose head
// says which errors are found and what is not modelled.
//
// Names of CUDA mean what CUDA's manual says. Deliberately missing, so that no kernel uses them: atomics, __shared__
// (use FREEWIRE_SHARED), min and max of floating-point numbers (fminf and std::min treat NaN differently), and every
// device function that <cmath> does not have.
#pragma once

#include <atomic>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__

// ---- types ----

namespace simt {
template <class T>
struct alignas(2 * sizeof(T)) Vector2 {
  T x, y;
};
template <class T>
struct Vector3 {
  T x, y, z;
};
template <class T>
struct alignas(16) Vector4 {
  T x, y, z, w;
};
}  // namespace simt

using float2 = simt::Vector2<float>;
using float4 = simt::Vector4<float>;
using double2 = simt::Vector2<double>;
using int2 = simt::Vector2<int>;
using int4 = simt::Vector4<int>;
using uint2 = simt::Vector2<unsigned>;
using uint3 = simt::Vector3<unsigned>;
using uint4 = simt::Vector4<unsigned>;
using longlong2 = simt::Vector2<long long>;

inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline int2 make_int2(int x, int y) { return {x, y}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline longlong2 make_longlong2(long long x, long long y) { return {x, y}; }

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Those of the running fiber; a fiber stays on one CPU thread while its kernel runs.
inline constinit thread_local uint3 threadIdx{}, blockIdx{};
inline constinit thread_local dim3 blockDim{}, gridDim{};
constexpr int warpSize = 32;

// ---- the runtime ----

namespace simt {

struct Options {
  uint64_t seed;        // for the order of blocks, and of the threads of a block; $FREEWIRE_SIMT_SEED, by default 1
  int cpu_threads;      // run the blocks of a launch; $FREEWIRE_SIMT_THREADS, by default 1
  int multiprocessors;  // of the emulated device, which limit a cooperative grid; by default 132
  size_t shared_bytes;  // per block; by default 227 KiB
  int capability;       // by default 90
  int driver;           // the CUDA version that the driver supports; by default kRuntimeVersion
  int refuse;           // nonzero: every launch is refused; by default 0
};
constexpr int kRuntimeVersion = 13000;
Options& options();

// How often each kernel was started, by name, such as "freewire::cuda::fill_kernel<float>"; kernels never started are
// missing.
std::map<std::string, int64_t> launches();

// The message of the last launch that was refused on this thread since the previous call, or null.
const char* last_error();

// The place of a barrier or shuffle in the source. Not std::source_location, which clang lacked until version 16.
struct Site {
  const char* file;
  int line;
  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

struct Kernel {
  std::string name;
  std::atomic<int64_t> launches;
};
// The record of a kernel, given its pretty_name().
Kernel& kernel_named(const char* pretty_name);
template <auto Kernel>
const char* pretty_name() {
  return __PRETTY_FUNCTION__;
}

struct Launch {
  Kernel& kernel;
  bool cooperative;
  dim3 grid, block;
  size_t shared_bytes;
  void (*call)(const void* arguments);  // runs one thread
  const void* arguments;
};
void run(const Launch& launch);

template <class... Parameters>
std::tuple<Parameters...> parameters(void (*)(Parameters...));

template <auto Kernel, class... Arguments>
void launch(bool cooperative, dim3 grid, dim3 block, size_t shared_bytes, Arguments... arguments) {
  using Parameters = decltype(parameters(Kernel));
  const Parameters given(arguments...);
  static simt::Kernel& kernel = kernel_named(pretty_name<Kernel>());
  const auto call = [](const void* all) {  // not std::apply, which adds five lines to every report
    [&]<size_t... kIndex>(std::index_sequence<kIndex...>) {
      Kernel(std::get<kIndex>(*static_cast<const Parameters*>(all))...);
    }(std::make_index_sequence<std::tuple_size_v<Parameters>>{});
  };
  run({kernel, cooperative, grid, block, shared_bytes, call, &given});
}

void* dynamic_shared();

// The block's array with this key.
void* static_shared(const void* key, size_t bytes, size_t alignment);

// The running block's T. Each lambda expression has a type, and hence a key, of its own, also in each instance of a
// template.
template <class T, class Lambda>
T& shared(Lambda) {
  static const char key = 0;
  return *static_cast<T*>(static_shared(&key, sizeof(T), alignof(T) < 16 ? 16 : alignof(T)));
}

void sync_threads(Site site);
void sync_grid(Site site);

// Operations of the lanes of a warp together.
enum class Collective : uint8_t { kSync, kShuffle, kBallot };
// Returns the bits of lane `source` (shuffle), or a mask of the lanes whose bits are not 0 (ballot).
uint64_t exchange(Collective what, unsigned mask, uint64_t bits, int source, Site site);
int lane();
// Checks width, and returns the first lane of the running lane's segment.
int segment(int width, Site site);

template <class T>
T shuffle(unsigned mask, T value, int source, Site site) {
  static_assert(std::is_arithmetic_v<T>, "a shuffle moves one number");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = exchange(Collective::kShuffle, mask, bits, source, site);
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}

}  // namespace simt

// ---- barriers, and exchange between the lanes of a warp ----

inline void __syncthreads(simt::Site site = simt::Site::here()) { simt::sync_threads(site); }

inline void __syncwarp(unsigned mask = ~0u, simt::Site site = simt::Site::here()) {
  simt::exchange(simt::Collective::kSync, mask, 0, 0, site);
}

template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = warpSize, simt::Site site = simt::Site::here()) {
  return simt::shuffle(mask, value, simt::segment(width, site) + (source & (width - 1)), site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize, simt::Site site = simt::Site::here()) {
  const int lane = simt::lane(), source = lane - static_cast<int>(delta);
  return simt::shuffle(mask, value, source < simt::segment(width, site) ? lane : source, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize, simt::Site site = simt::Site::here()) {
  const int lane = simt::lane(), source = lane + static_cast<int>(delta);
  return simt::shuffle(mask, value, source >= simt::segment(width, site) + width ? lane : source, site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, int width = warpSize, simt::Site site = simt::Site::here()) {
  const int lane = simt::lane(), source = lane ^ bits;
  return simt::shuffle(mask, value, source >= simt::segment(width, site) + width ? lane : source, site);
}

inline unsigned __ballot_sync(unsigned mask, int predicate, simt::Site site = simt::Site::here()) {
  return static_cast<unsigned>(simt::exchange(simt::Collective::kBallot, mask, predicate != 0, 0, site));
}
inline int __any_sync(unsigned mask, int predicate, simt::Site site = simt::Site::here()) {
  return __ballot_sync(mask, predicate, site) != 0;
}
inline int __all_sync(unsigned mask, int predicate, simt::Site site = simt::Site::here()) {
  return __ballot_sync(mask, !predicate, site) == 0;
}

// ---- loads and integers ----

template <class T>
T __ldg(const T* from) {
  const T& there = *from;  // a reference first, so that both GCC and Clang check the alignment
  return there;
}

template <class T>
void __stwb(T* to, T value) {
  T& there = *to;
  there = value;
}

template <std::integral T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <std::integral T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline int __clz(int bits) { return std::countl_zero(static_cast<unsigned>(bits)); }
inline int __ffs(int bits) { return bits ? std::countr_zero(static_cast<unsigned>(bits)) + 1 : 0; }

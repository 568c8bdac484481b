// SPDX-License-Identifier: MIT
// A gated sum and its gradients, which are bound by memory traffic.
//
// A thread of the forward owns 16 bytes of y: the sum and the relu stay in registers, so each element loads `count`
// numbers and stores one. A thread of the backward owns 32 bytes of each array: it recomputes the sum to see where the
// relu was open, then reads the arrays a second time, from a cache, for their gradients and its part of each gate's.
// Each element loads one number and stores one per array, and loads one of grad_y. A block writes one partial sum per
// array, and a last kernel, one block per gate, adds them in order. Every element has a single writer, so there are no
// races and no atomics, and every sum has one order: bitwise deterministic.
//
// A launch handles at most kLaunchInputs arrays, since their list is passed as a kernel argument. More arrays take
// several launches, and their sum is passed from one to the next through memory.
#include <algorithm>

#include "cuda/blocks/gated_sum_kernels.h"
#include "cuda/common/warp.h"

namespace freewire::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarpSize;
constexpr int kPacks = 2;  // per thread of the backward

// The arrays of one launch.
template <class T>
struct Inputs {
  const T* x[kLaunchInputs];
  T* grad[kLaunchInputs];    // backward only
  const Compute<T>* weight;  // weights of these arrays, or null: then every gate is `mean`
  Compute<T> mean;
  int count;
};

// Memory of y's length that passes the sum from one launch to the next; null if there is only one launch.
template <class C>
struct Carried {
  const C* from;  // the sum of the previous launches, or null in the first
  C* to;          // receives the sum for the next launch, or null in the last
};

// Writes the launch's gates to shared memory; called by all threads of the block.
template <class T>
__device__ void load_gates(const Inputs<T>& inputs, Compute<T>* gates) {
  using C = Compute<T>;
  for (int i = static_cast<int>(threadIdx.x); i < inputs.count; i += kThreads) {
    gates[i] = inputs.weight ? C(1) / (C(1) + exp(-inputs.weight[i])) : inputs.mean;
  }
  __syncthreads();
}

// Numbers [begin, begin + kHeld) of an array, 0 past its end.
template <int kHeld, class T>
__device__ __forceinline__ Pack<T, kHeld> load_up_to(const T* from, int64_t begin, int64_t length) {
  if (begin + kHeld <= length) return load_pack<kHeld>(from + begin);
  Pack<T, kHeld> values{};
#pragma unroll
  for (int k = 0; k < kHeld; ++k) {
    if (begin + k < length) values.v[k] = from[begin + k];
  }
  return values;
}
template <int kHeld, class T>
__device__ __forceinline__ void store_up_to(T* to, int64_t begin, int64_t length, const Pack<T, kHeld>& values) {
  if (begin + kHeld <= length) return store_pack(to + begin, values);
#pragma unroll
  for (int k = 0; k < kHeld; ++k) {
    if (begin + k < length) to[begin + k] = values.v[k];
  }
}

template <int kHeld, class T>
__device__ __forceinline__ Pack<Compute<T>, kHeld> summed(const Inputs<T>& inputs, const Compute<T>* gates,
                                                          const Compute<T>* before, int64_t begin, int64_t length) {
  Pack<Compute<T>, kHeld> total{};
  if (before) total = load_up_to<kHeld>(before, begin, length);
  for (int i = 0; i < inputs.count; ++i) {
    const Pack<T, kHeld> x = load_up_to<kHeld>(inputs.x[i], begin, length);
#pragma unroll
    for (int k = 0; k < kHeld; ++k) total.v[k] += gates[i] * widened(x.v[k]);
  }
  return total;
}

// Whether a relu is open for this sum. A NaN passes, as in torch.
template <class C>
__device__ __forceinline__ bool passes(C sum) {
  return !(sum <= C(0));
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    gated_sum_kernel(const __grid_constant__ Inputs<T> inputs, Carried<Compute<T>> carried, T* y, int64_t length,
                     bool relu) {
  using C = Compute<T>;
  constexpr int kHeld = 16 / sizeof(T);
  FREEWIRE_SHARED(gates, C[kLaunchInputs]);
  load_gates(inputs, &gates[0]);
  const int64_t begin = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kHeld;
  if (begin >= length) return;
  const Pack<C, kHeld> total = summed<kHeld>(inputs, &gates[0], carried.from, begin, length);
  if (carried.to) return store_up_to(carried.to, begin, length, total);
  Pack<T, kHeld> out;
#pragma unroll
  for (int k = 0; k < kHeld; ++k) out.v[k] = narrowed<T>(relu && !passes(total.v[k]) ? C(0) : total.v[k]);
  store_up_to(y, begin, length, out);
}

// sums: the sums of all arrays if they take several launches, else null. partial: [blocks, stride] from the column of
// this launch's first array on, where stride is the number of all arrays; or null.
template <class T>
__global__ void __launch_bounds__(kThreads)
    gated_sum_backward_kernel(const __grid_constant__ Inputs<T> inputs, const T* grad_y, const Compute<T>* sums,
                              Compute<T>* partial, int64_t stride, int64_t length, bool relu) {
  using C = Compute<T>;
  constexpr int kHeld = 16 / sizeof(T);
  static_assert(kGradientElements<T> == kThreads * kPacks * kHeld, "the launcher counts with the same number");
  FREEWIRE_SHARED(gates, C[kLaunchInputs]);
  FREEWIRE_SHARED(dots, C[kLaunchInputs][kWarps]);
  load_gates(inputs, &gates[0]);
  Pack<C, kHeld> grad[kPacks];
  int64_t begin[kPacks];
#pragma unroll
  for (int p = 0; p < kPacks; ++p) {
    begin[p] = ((int64_t{blockIdx.x} * kPacks + p) * kThreads + threadIdx.x) * kHeld;
    const Pack<T, kHeld> grad_out = load_up_to<kHeld>(grad_y, begin[p], length);
    Pack<C, kHeld> total{};
    if (relu) {
      total = sums ? load_up_to<kHeld>(sums, begin[p], length)
                   : summed<kHeld>(inputs, &gates[0], static_cast<const C*>(nullptr), begin[p], length);
    }
#pragma unroll
    for (int k = 0; k < kHeld; ++k) grad[p].v[k] = relu && !passes(total.v[k]) ? C(0) : widened(grad_out.v[k]);
  }
  for (int i = 0; i < inputs.count; ++i) {
    C dot = 0;
#pragma unroll
    for (int p = 0; p < kPacks; ++p) {
      const Pack<T, kHeld> x = load_up_to<kHeld>(inputs.x[i], begin[p], length);
      Pack<T, kHeld> out;
#pragma unroll
      for (int k = 0; k < kHeld; ++k) {
        dot += grad[p].v[k] * widened(x.v[k]);
        out.v[k] = narrowed<T>(gates[i] * grad[p].v[k]);
      }
      store_up_to(inputs.grad[i], begin[p], length, out);
    }
    if (!partial) continue;
    dot = warp_sum(dot);
    if (lane_in_warp() == 0) dots[i][warp_in_block()] = dot;
  }
  if (!partial) return;
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < inputs.count; i += kThreads) {
    C dot = 0;
    for (int warp = 0; warp < kWarps; ++warp) dot += dots[i][warp];
    partial[int64_t{blockIdx.x} * stride + i] = dot;
  }
}

// Block i computes grad_weight[i]: gate (1 - gate) times the sum of partial [blocks, count] over blocks.
template <class C>
__global__ void __launch_bounds__(kThreads)
    gate_gradient_kernel(const C* weight, const C* partial, int64_t blocks, int64_t count, C* grad_weight) {
  FREEWIRE_SHARED(sums, C[kWarps]);
  const int64_t i = blockIdx.x;
  C sum = 0;
  for (int64_t block = threadIdx.x; block < blocks; block += kThreads) sum += partial[block * count + i];
  sum = warp_sum(sum);
  if (lane_in_warp() == 0) sums[warp_in_block()] = sum;
  __syncthreads();
  if (threadIdx.x != 0) return;
  C total = 0;
  for (int warp = 0; warp < kWarps; ++warp) total += sums[warp];
  const C gate = C(1) / (C(1) + exp(-weight[i]));
  grad_weight[i] = total * gate * (C(1) - gate);
}

template <class T>
Inputs<T> inputs_of(const GatedSumCall<T>& call, const GatedSumGradients<T>* gradients, int64_t first) {
  const auto all = static_cast<int64_t>(call.xs.size());
  Inputs<T> inputs{};
  inputs.weight = call.weight ? call.weight + first : nullptr;
  inputs.mean = Compute<T>(1) / Compute<T>(all);
  inputs.count = static_cast<int>(std::min(kLaunchInputs, all - first));
  for (int i = 0; i < inputs.count; ++i) {
    inputs.x[i] = call.xs[first + i];
    if (gradients) inputs.grad[i] = gradients->xs[first + i];
  }
  return inputs;
}

// Writes the sum of all arrays to y, or to `carried` if y is null.
template <class T>
void add_all(const GatedSumCall<T>& call, T* y, Compute<T>* carried, Stream stream) {
  constexpr int64_t kBlockElements = kThreads * (16 / int64_t{sizeof(T)});
  const auto all = static_cast<int64_t>(call.xs.size());
  for (int64_t first = 0; first < all; first += kLaunchInputs) {
    const bool goes_on = first + kLaunchInputs < all || !y;
    const Carried<Compute<T>> sums{first ? carried : nullptr, goes_on ? carried : nullptr};
    launch<gated_sum_kernel<T>>(blocks_of(call.length, kBlockElements), kThreads, 0, stream,
                                inputs_of<T>(call, nullptr, first), sums, y, call.length, call.relu);
  }
}

}  // namespace

template <class T>
void run_gated_sum(const GatedSumCall<T>& call, T* y, Compute<T>* carried, Stream stream) {
  add_all(call, y, carried, stream);
}

template <class T>
void run_gated_sum_backward(const GatedSumCall<T>& call, const T* grad_y, const GatedSumGradients<T>& gradients,
                            Compute<T>* carried, Stream stream) {
  const auto all = static_cast<int64_t>(call.xs.size());
  const int64_t blocks = blocks_of(call.length, kGradientElements<T>);
  const bool carries = carried_sums(call) > 0 && call.relu;
  if (carries) add_all<T>(call, nullptr, carried, stream);
  for (int64_t first = 0; first < all; first += kLaunchInputs) {
    launch<gated_sum_backward_kernel<T>>(
        blocks, kThreads, 0, stream, inputs_of(call, &gradients, first), grad_y, carries ? carried : nullptr,
        gradients.weight ? gradients.partial + first : nullptr, all, call.length, call.relu);
  }
  if (gradients.weight) {
    launch<gate_gradient_kernel<Compute<T>>>(all, kThreads, 0, stream, call.weight, gradients.partial, blocks, all,
                                             gradients.weight);
  }
}

#define FREEWIRE_INSTANTIATE(T, tag, name)                                                                            \
  template void run_gated_sum<T>(const GatedSumCall<T>&, T*, Compute<T>*, Stream);                                    \
  template void run_gated_sum_backward<T>(const GatedSumCall<T>&, const T*, const GatedSumGradients<T>&, Compute<T>*, \
                                          Stream);
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cuda

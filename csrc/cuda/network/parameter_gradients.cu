// SPDX-License-Identifier: MIT
// Gradients of weights and biases. The gradient of edge (u, v) is the sum over the batch of the value of u times the
// gradient of the edge's term: a sampled dense-dense matrix product (SDDMM; Gale et al. 2020, Sparse GPU Kernels for
// Deep Learning). The gradient of a bias is the sum of its node's delta.
//
// A warp owns up to 32 in-edges of one node (a group of the plan) and one slice of the batch; a block is kWarps such
// warps. A lane holds 16 bytes of the node's delta and one sum per edge, and the warp reduces the 32 sums together at
// the end, in 31 shuffles instead of 5 per edge. An edge loads one row of the tape from L2, a group its node's row of
// delta. Each slice writes partial sums of its own, which are added in order afterwards: every element has a single
// writer, so there are no races and no atomics, and every sum has one order: bitwise deterministic.
//
// Over a sequence each step adds to the partial sums of the steps before it. The last entry of its bias may serve many
// nodes, so the sums of biases are kept by node until the end, when one block adds up those of that entry.
#include "cuda/common/zero.h"
#include "cuda/network/backward_node.h"
#include "cuda/network/parameter_gradients.h"
#include "cuda/network/sequence_workspace.h"

namespace freewire::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpSize;
constexpr int kBlocks = 4;  // per multiprocessor, at least: without a bound the compiler spills to make room for more
static_assert(kGroupEdges == kWarpSize, "each lane ends with the gradient of one edge");

// The sum over a slice of one edge's row times the node's delta, and 1 / fan-in of a mean; reduced_column() says which
// edge a lane ends with.
template <class T>
__device__ Compute<T> linear_gradients(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t pitch,
                                       int64_t node, int64_t edge, int count, int64_t first, int64_t last) {
  using C = Compute<T>;
  const bool mean = static_cast<Aggregation>(plan.aggregation[node]) == Aggregation::kMean;
  const C scale = mean ? C(1) / C(plan.in_end[node] - plan.in_begin[node]) : C(1);
  constexpr int kHeld = 16 / sizeof(C);    // columns per lane
  constexpr int kAtOnce = 32 / sizeof(C);  // rows loaded together
  const int64_t source = plan.in_src[edge + (lane_in_warp() < count ? lane_in_warp() : 0)];
  const C* delta = arrays.delta + node * pitch;
  C sums[kGroupEdges] = {};
  for (int64_t column = first + lane_in_warp() * kHeld; column - lane_in_warp() * kHeld < last;
       column += kWarpSize * kHeld) {
    const bool live = column < last;
    Pack<C, kHeld> grads{};
    Pack<T, kHeld> values[kAtOnce];
    if (live) grads = load_pack<kHeld>(delta + column);
    for (int c = 0; c < kHeld; ++c) grads.v[c] *= scale;  // before the products and sums, which might overflow
#pragma unroll
    for (int k = 0; k < kGroupEdges; k += kAtOnce) {
      if (k >= count) break;
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int64_t row = __shfl_sync(kFullWarp, source, k + i);
        values[i] = {};
        if (live) values[i] = load_pack<kHeld>(arrays.tape + row * pitch + column);
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        for (int c = 0; c < kHeld; ++c) sums[k + i] += widened(values[i].v[c]) * grads.v[c];
      }
    }
  }
  reduce<1, kWarpSize>(sums);
  return sums[0];
}

// The same if each edge has a gradient of its own; lane k ends with the sum of edge k.
template <class T>
__device__ Compute<T> shared_gradients(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t pitch,
                                       int64_t node, int64_t edge, int count, int64_t first, int64_t last) {
  using C = Compute<T>;
  C mine = 0;
#pragma unroll 1
  for (int k = 0; k < count; ++k) {
    const T* values = arrays.tape + plan.in_src[edge + k] * pitch;
    const C* shares = arrays.shares + share_row(plan, node, edge + k) * pitch;
    C sum = 0;
    for (int64_t column = first + lane_in_warp(); column < last; column += kWarpSize) {
      sum += widened(values[column]) * shares[column];
    }
    sum = warp_sum(sum);
    if (lane_in_warp() == k) mine = sum;
  }
  return mine;
}

// bias_sums has an entry per node if by_node, else per entry of the bias. With add the sums are added to what is there.
template <class T>
__global__ void __launch_bounds__(kThreads, kBlocks)
    edge_gradient_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ BackwardArrays<T> arrays,
                         int64_t pitch, Compute<T>* weight_sums, Compute<T>* bias_sums, bool by_node, bool add) {
  using C = Compute<T>;
  // Groups and slices share one dimension of the grid, since the others are too small.
  const unsigned blocks = static_cast<unsigned>(blocks_of(plan.num_groups, kWarps));
  const int64_t group = int64_t{blockIdx.x % blocks} * kWarps + warp_in_block(), slice = blockIdx.x / blocks;
  if (group >= plan.num_groups) return;
  const int64_t node = plan.group_node[group], edge = plan.group_edge[group], left = plan.in_end[node] - edge;
  const int count = static_cast<int>(left < kGroupEdges ? left : kGroupEdges);
  const int64_t first = slice * kSliceColumns, end = first + kSliceColumns;
  const int64_t last = end < pitch ? end : pitch;  // past the batch's end the tape is 0, and so is delta
  if (weight_sums && count > 0) {
    const bool linear = is_linear(static_cast<Aggregation>(plan.aggregation[node]));
    C sum = linear ? linear_gradients(plan, arrays, pitch, node, edge, count, first, last)
                   : shared_gradients(plan, arrays, pitch, node, edge, count, first, last);
    const int k = linear ? reduced_column<1, kWarpSize, kGroupEdges>() : lane_in_warp();
    C* const to = weight_sums + slice * plan.num_edges + edge + k;
    if (k < count) *to = add ? *to + sum : sum;
  }
  if (bias_sums && edge == plan.in_begin[node]) {
    C sum = 0;
    for (int64_t column = first + lane_in_warp(); column < last; column += kWarpSize) {
      sum += arrays.delta[node * pitch + column];
    }
    sum = warp_sum(sum);
    C* const to =
        bias_sums + (by_node ? slice * plan.num_computed() + node : slice * plan.num_biases + plan.bias_index[node]);
    if (lane_in_warp() == 0) *to = add ? *to + sum : sum;
  }
}

// to[i] = the sum over slices of sums [slices, count], in order; one thread per element. Edges and nodes that reach no
// output were never written, and are 0.
template <class T>
__global__ void __launch_bounds__(kThreads)
    add_slices_kernel(const Compute<T>* __restrict__ sums, int64_t slices, int64_t count, T* to) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  Compute<T> total = 0;
  for (int64_t s = 0; s < slices; ++s) total += sums[s * count + i];
  to[i] = narrowed<T>(total);
}

// The sum over slices of one node's sums [slices, C], in order.
template <class C>
__device__ C node_sum(const PlanView& plan, const C* sums, int64_t slices, int64_t node) {
  C total = 0;
  for (int64_t s = 0; s < slices; ++s) total += sums[s * plan.num_computed() + node];
  return total;
}

// The gradients of the bias from sums by node. A thread writes the entry of one node, and the last block the last
// entry, the sum over all nodes that it serves; entries of no node stay as they are.
template <class T>
__global__ void __launch_bounds__(kThreads)
    bias_gradient_kernel(const __grid_constant__ PlanView plan, const Compute<T>* __restrict__ sums, int64_t slices,
                         T* __restrict__ to) {
  const int32_t shared = static_cast<int32_t>(plan.num_biases) - 1;
  if (blockIdx.x + 1 < gridDim.x) {
    const int64_t node = int64_t{blockIdx.x} * kThreads + threadIdx.x;
    if (node >= plan.num_computed() || plan.bias_index[node] == shared) return;
    to[plan.bias_index[node]] = narrowed<T>(node_sum(plan, sums, slices, node));
    return;
  }
  FREEWIRE_SHARED(of_warp, Compute<T>[kWarps]);
  Compute<T> total = 0;
  for (int64_t node = threadIdx.x; node < plan.num_computed(); node += kThreads) {
    if (plan.bias_index[node] == shared) total += node_sum(plan, sums, slices, node);
  }
  total = warp_sum(total);
  if (lane_in_warp() == 0) of_warp[warp_in_block()] = total;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < kWarps; ++warp) total += of_warp[warp];
  to[shared] = narrowed<T>(total);
}

// Starts the kernel of one call or step.
template <class T>
void add_edges(const PlanView& plan, const BackwardArrays<T>& arrays, Compute<T>* weight_sums, Compute<T>* bias_sums,
               bool by_node, bool add, Stream stream) {
  launch<edge_gradient_kernel<T>>(blocks_of(plan.num_groups, kWarps) * slices_of(arrays.batch), kThreads, 0, stream,
                                  plan, arrays, pitch_of(arrays.batch), weight_sums, bias_sums, by_node, add);
}

}  // namespace

template <class T>
void parameter_gradients(const PlanView& plan, const BackwardArrays<T>& arrays, Stream stream) {
  if (!arrays.grad_weight && !arrays.grad_bias) return;
  const int64_t slices = slices_of(arrays.batch);
  const bool adds = adds_slices<T>(arrays.batch);
  const int64_t rows = slices > 1 ? slices : 1;  // an empty batch has no slices, and its gradients are 0
  Compute<T>* weight_sums = arrays.grad_weight ? arrays.partial : nullptr;
  Compute<T>* bias_sums = arrays.grad_bias ? arrays.partial + rows * plan.num_edges : nullptr;
  if constexpr (!kNarrow<T>) {
    if (!adds) weight_sums = arrays.grad_weight, bias_sums = arrays.grad_bias;
  }
  const bool all_written =
      slices > 0 && plan.num_live_edges == plan.num_edges && plan.num_computed() == plan.num_biases;
  if (!all_written && weight_sums) {
    fill_zero(weight_sums, rows * plan.num_edges, stream);
  }
  if (!all_written && bias_sums) {
    fill_zero(bias_sums, rows * plan.num_biases, stream);
  }
  add_edges(plan, arrays, weight_sums, bias_sums, false, false, stream);
  if (!adds) return;
  if (weight_sums) {
    launch<add_slices_kernel<T>>(blocks_of(plan.num_edges, kThreads), kThreads, 0, stream, weight_sums, rows,
                                 plan.num_edges, arrays.grad_weight);
  }
  if (bias_sums) {
    launch<add_slices_kernel<T>>(blocks_of(plan.num_biases, kThreads), kThreads, 0, stream, bias_sums, rows,
                                 plan.num_biases, arrays.grad_bias);
  }
}

namespace {

// The sums of a sequence; null where they are not wanted.
template <class T>
struct StepSums {
  StepSums(const PlanView& plan, const BackwardArrays<T>& arrays)
      : weight(arrays.grad_weight ? arrays.partial : nullptr),
        bias(arrays.grad_bias ? arrays.partial + step_weight_sums<T>(plan, arrays.batch) : nullptr) {
    if constexpr (!kNarrow<T>) {
      if (!adds_slices<T>(arrays.batch)) weight = arrays.grad_weight;
    }
  }
  Compute<T>*weight, *bias;
};

}  // namespace

template <class T>
void add_step_gradients(const PlanView& plan, const BackwardArrays<T>& arrays, bool first, Stream stream) {
  if (!arrays.grad_weight && !arrays.grad_bias) return;
  const StepSums<T> sums(plan, arrays);
  if (first && sums.weight && plan.num_live_edges < plan.num_edges) {
    fill_zero(sums.weight, slices_of(arrays.batch) * plan.num_edges, stream);
  }
  add_edges(plan, arrays, sums.weight, sums.bias, true, !first, stream);
}

template <class T>
void finish_step_gradients(const PlanView& plan, const BackwardArrays<T>& arrays, bool any, Stream stream) {
  const int64_t slices = slices_of(arrays.batch);
  const StepSums<T> sums(plan, arrays);
  if (arrays.grad_weight && !any) {
    fill_zero(arrays.grad_weight, plan.num_edges, stream);
  } else if (arrays.grad_weight && adds_slices<T>(arrays.batch)) {
    launch<add_slices_kernel<T>>(blocks_of(plan.num_edges, kThreads), kThreads, 0, stream, sums.weight, slices,
                                 plan.num_edges, arrays.grad_weight);
  }
  if (!arrays.grad_bias || plan.num_biases == 0) return;
  fill_zero(arrays.grad_bias, plan.num_biases, stream);
  if (!any) return;
  launch<bias_gradient_kernel<T>>(blocks_of(plan.num_computed(), kThreads) + 1, kThreads, 0, stream, plan, sums.bias,
                                  slices, arrays.grad_bias);
}

#define FREEWIRE_INSTANTIATE(T, tag, name)                                                      \
  template void parameter_gradients<T>(const PlanView&, const BackwardArrays<T>&, Stream);      \
  template void add_step_gradients<T>(const PlanView&, const BackwardArrays<T>&, bool, Stream); \
  template void finish_step_gradients<T>(const PlanView&, const BackwardArrays<T>&, bool, Stream);
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cuda

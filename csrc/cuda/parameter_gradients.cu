// SPDX-License-Identifier: MIT
// Gradients of weights and biases: for edge (u, v) the sum over the batch of u's value times the gradient of the edge's
// term, a sampled dense-dense product; for a bias the sum of its node's delta.
//
// One block: one node and one slice of the batch; a warp takes one in-edge at a time, a lane every 32nd sample, then a
// butterfly over the warp. An edge moves two rows in (the reader's from L1 after the first). Slices write partial sums
// of their own, added in order afterwards: one writer an element, no atomics, bitwise repeatable.
#include "cuda/backward_node.h"
#include "cuda/device.h"
#include "cuda/fill.h"
#include "cuda/parameter_gradients.h"

namespace freewire::cuda {
namespace {

constexpr int kThreads = 128;

template <class T>
__global__ void __launch_bounds__(kThreads)
    edge_gradient_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ BackwardArrays<T> arrays,
                         int64_t pitch, T* weight_sums, T* bias_sums) {
  const int64_t node = blockIdx.x, begin = plan.in_begin[node], end = plan.in_end[node];
  const int64_t first = int64_t{blockIdx.y} * kSliceColumns;
  const int64_t last = first + kSliceColumns < arrays.batch ? first + kSliceColumns : arrays.batch;
  const Rows<T> tape{const_cast<T*>(arrays.tape), pitch}, delta{arrays.delta, pitch}, shares{arrays.shares, pitch};
  const auto aggregation = static_cast<Aggregation>(plan.aggregation[node]);
  const T scale = aggregation == Aggregation::kMean && end > begin ? T(1) / T(end - begin) : T(1);
  for (int64_t e = begin + warp_in_block(); weight_sums && e < end; e += warps_in_block()) {
    const bool linear = is_linear(aggregation);
    const T* values = &tape.at(plan.in_src[e], 0);
    const T* grads = linear ? &delta.at(node, 0) : &shares.at(share_row(plan, node, e), 0);
    T total = 0;
    for (int64_t b = first + lane_in_warp(); b < last; b += kWarpSize) total += values[b] * grads[b];
    total = Lanes<1>::sum(total);
    if (lane_in_warp() == 0) weight_sums[blockIdx.y * plan.num_edges + e] = linear ? total * scale : total;
  }
  if (bias_sums && warp_in_block() == 0) {
    T total = 0;
    for (int64_t b = first + lane_in_warp(); b < last; b += kWarpSize) total += delta.at(node, b);
    total = Lanes<1>::sum(total);
    if (lane_in_warp() == 0) bias_sums[blockIdx.y * plan.num_biases + plan.bias_index[node]] = total;
  }
}

// to[i] = the slices' sums [slices, count] added in order; 0 for what reaches no output, which no slice has written.
template <class T>
__global__ void __launch_bounds__(kThreads)
    add_slices_kernel(const T* __restrict__ sums, int64_t slices, int64_t count, T* to) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  T total = 0;
  for (int64_t s = 0; s < slices; ++s) total += sums[s * count + i];
  to[i] = total;
}

}  // namespace

template <class T>
void parameter_gradients(const PlanView& plan, const BackwardArrays<T>& arrays, Stream stream) {
  if (!arrays.grad_weight && !arrays.grad_bias) return;
  const int64_t slices = slices_of(arrays.batch);
  T* weight_sums = arrays.grad_weight;
  T* bias_sums = arrays.grad_bias;
  if (slices > 1) {
    if (weight_sums) weight_sums = arrays.partial;
    if (bias_sums) bias_sums = arrays.partial + slices * plan.num_edges;
  }
  const int64_t rows = slices > 1 ? slices : 1;  // an empty batch has no slices, and gradients of 0
  const bool all_written =
      slices > 0 && plan.num_live_edges == plan.num_edges && plan.num_computed() == plan.num_biases;
  if (!all_written && weight_sums) {
    fill_zero(weight_sums, rows * plan.num_edges, stream);
  }
  if (!all_written && bias_sums) {
    fill_zero(bias_sums, rows * plan.num_biases, stream);
  }
  launch<edge_gradient_kernel<T>>({plan.num_computed(), slices}, kThreads, 0, stream, plan, arrays,
                                  pitch_of(arrays.batch), weight_sums, bias_sums);
  if (slices <= 1) return;
  if (weight_sums) {
    launch<add_slices_kernel<T>>(blocks_of(plan.num_edges, kThreads), kThreads, 0, stream, weight_sums, slices,
                                 plan.num_edges, arrays.grad_weight);
  }
  if (bias_sums) {
    launch<add_slices_kernel<T>>(blocks_of(plan.num_biases, kThreads), kThreads, 0, stream, bias_sums, slices,
                                 plan.num_biases, arrays.grad_bias);
  }
}

template void parameter_gradients<float>(const PlanView&, const BackwardArrays<float>&, Stream);
template void parameter_gradients<double>(const PlanView&, const BackwardArrays<double>&, Stream);

}  // namespace freewire::cuda

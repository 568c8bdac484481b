// SPDX-License-Identifier: MIT
// Packs a plan and weights for the resident kernels, once a call.
//
// A warp packs one node (forward) or one slot (backward), a lane every 32nd edge. An edge moves 8 bytes in (16 in the
// backward, whose weights stand in another order) and 8 out, 16 in double: little beside the blocks' reading it. Every
// element has one writer.
#include "cuda/device.h"
#include "cuda/pack.h"
#include "cuda/rows.h"
#include "node_math.h"

namespace freewire::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;

// edges[begin + k] = edge(k) for k < count, and idle edges to the end of the last chunk; all lanes of a warp.
template <class T, class Read>
__device__ void pack_edges(Edge<T>* edges, int64_t begin, int64_t count, int chunk, Edge<T> idle, Read&& edge) {
  const int64_t end = count > 0 ? (count + chunk - 1) / chunk * chunk : chunk;
  for (int64_t k = lane_in_warp(); k < end; k += kWarpSize) edges[begin + k] = k < count ? edge(k) : idle;
}

// The edge to a slot's row in tiles of so many columns; the row of zeros comes after the last slot's.
template <class T>
__device__ Edge<T> edge_to(int64_t slot, int columns, T weight) {
  return {static_cast<int32_t>(slot * columns * static_cast<int64_t>(sizeof(T))), weight};
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    pack_forward_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ ForwardArrays<T> arrays,
                        int columns, int chunk) {
  const int64_t node = int64_t{blockIdx.x} * kWarps + warp_in_block();
  if (node >= plan.num_computed()) return;
  const int64_t first = plan.in_begin[node], count = plan.in_end[node] - first;
  const int64_t begin = packed_begin(first, node);
  pack_edges(arrays.edges, begin, count, chunk, edge_to(plan.num_slots, columns, T(0)),
             [&](int64_t k) { return edge_to(plan.in_src[first + k], columns, arrays.weight[first + k]); });
  if (lane_in_warp() != 0) return;
  arrays.begins[node] = static_cast<int32_t>(begin);
  arrays.nodes[node] = {static_cast<int32_t>(count), kind_of(plan.activation[node], plan.aggregation[node]),
                        arrays.bias ? arrays.bias[plan.bias_index[node]] : T(0)};
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    pack_backward_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ BackwardArrays<T> arrays,
                         int columns, int chunk) {
  const int64_t slot = int64_t{blockIdx.x} * kWarps + warp_in_block();
  if (slot >= plan.num_slots || (slot < plan.num_inputs && !arrays.grad_x)) return;
  const int64_t first = plan.out_ptr[slot], split = plan.out_split[slot], begin = packed_begin(first, slot);
  pack_edges(arrays.edges, begin, split - first, chunk, edge_to(plan.num_slots, columns, T(0)), [&](int64_t k) {
    return edge_to(plan.out_dst[first + k], columns, arrays.weight[plan.out_edge[first + k]]);
  });
  if (lane_in_warp() != 0) return;
  const bool shares = split < plan.out_ptr[slot + 1];
  BackwardSlot<T> packed{static_cast<int32_t>(split - first), kind_of(0, 0, shares), -1, plan.output_of_slot[slot],
                         T(1)};
  const int64_t node = slot - plan.num_inputs;
  if (node >= 0) {
    const int64_t fan_in = plan.in_end[node] - plan.in_begin[node];
    packed.kind = kind_of(plan.activation[node], plan.aggregation[node], shares);
    packed.told_row = plan.kept_row[node] >= 0 ? plan.kept_row[node] : static_cast<int32_t>(slot);
    if (static_cast<Aggregation>(plan.aggregation[node]) == Aggregation::kMean && fan_in > 0) {
      packed.scale = T(1) / T(fan_in);
    }
  }
  arrays.begins[slot] = static_cast<int32_t>(begin);
  arrays.slots[slot] = packed;
}

}  // namespace

template <class T>
void pack_forward(const PlanView& plan, const ForwardArrays<T>& arrays, int columns, int chunk, Stream stream) {
  launch<pack_forward_kernel<T>>(blocks_of(plan.num_computed(), kWarps), kThreads, 0, stream, plan, arrays, columns,
                                 chunk);
}

template <class T>
void pack_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, int chunk, Stream stream) {
  launch<pack_backward_kernel<T>>(blocks_of(plan.num_slots, kWarps), kThreads, 0, stream, plan, arrays, columns, chunk);
}

template void pack_forward<float>(const PlanView&, const ForwardArrays<float>&, int, int, Stream);
template void pack_forward<double>(const PlanView&, const ForwardArrays<double>&, int, int, Stream);
template void pack_backward<float>(const PlanView&, const BackwardArrays<float>&, int, int, Stream);
template void pack_backward<double>(const PlanView&, const BackwardArrays<double>&, int, int, Stream);

}  // namespace freewire::cuda

// SPDX-License-Identifier: MIT
// Packs a plan and its weights for the resident kernels, once per call.
//
// A warp packs one node (forward) or one slot (backward), and a lane every 32nd edge of it. An edge loads 8 bytes (16
// in the backward, which reads the weights in another order) and stores 8 (16 in double): little compared with the
// resident blocks, each of which reads it again. Every element has a single writer and no sum is formed: race-free and
// bitwise deterministic.
#include "cuda/common/device.h"
#include "cuda/network/pack.h"
#include "cuda/network/rows.h"
#include "node_math.h"

namespace freewire::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpSize;

// edges[begin + k] = edge(k) for k < count, then idle edges to the end of the last chunk; called by all lanes of a
// warp.
template <class C, class Read>
__device__ void pack_edges(Edge<C>* edges, int64_t begin, int64_t count, int chunk, Edge<C> idle, Read&& edge) {
  const int64_t end = count > 0 ? (count + chunk - 1) / chunk * chunk : chunk;
  for (int64_t k = lane_in_warp(); k < end; k += kWarpSize) edges[begin + k] = k < count ? edge(k) : idle;
}

// The edge that reads a row of a tile with rows of that many bytes; the row of zeros comes after the others.
template <class C>
__device__ Edge<C> edge_to(int64_t row, int64_t row_bytes, C weight) {
  return {static_cast<int32_t>(row * row_bytes), weight};
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    pack_forward_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ ForwardArrays<T> arrays,
                        int columns, int chunk) {
  const int64_t node = int64_t{blockIdx.x} * kWarps + warp_in_block();
  if (node >= plan.num_computed()) return;
  const int64_t first = plan.in_begin[node], count = plan.in_end[node] - first;
  const int64_t begin = packed_begin(first, node), row_bytes = columns * static_cast<int64_t>(sizeof(T));
  const bool moved = arrays.moves(plan);
  const int32_t* src = moved ? plan.row_src : plan.in_src;
  const int64_t slot = plan.num_inputs + node;
  pack_edges(arrays.edges, begin, count, chunk,
             edge_to(moved ? plan.scratch_rows : plan.num_slots, row_bytes, Compute<T>(0)),
             [&](int64_t k) { return edge_to(src[first + k], row_bytes, widened(arrays.weight[first + k])); });
  if (lane_in_warp() != 0) return;
  arrays.begins[node] = static_cast<int32_t>(begin);
  arrays.nodes[node] = {static_cast<int32_t>(count), kind_of(plan.activation[node], plan.aggregation[node]),
                        moved ? plan.inference_row[slot] : static_cast<int32_t>(slot),
                        arrays.bias ? widened(arrays.bias[plan.bias_index[node]]) : Compute<T>(0)};
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    pack_backward_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ BackwardArrays<T> arrays,
                         int columns, int chunk) {
  using C = Compute<T>;
  const int64_t slot = int64_t{blockIdx.x} * kWarps + warp_in_block();
  if (slot >= plan.num_slots || (slot < plan.num_inputs && !arrays.wants_x())) return;
  const int64_t first = plan.out_ptr[slot], split = plan.out_split[slot], begin = packed_begin(first, slot);
  const int64_t row_bytes = columns * static_cast<int64_t>(sizeof(C));
  pack_edges(arrays.edges, begin, split - first, chunk, edge_to(plan.num_slots, row_bytes, C(0)), [&](int64_t k) {
    return edge_to(plan.out_dst[first + k], row_bytes, widened(arrays.weight[plan.out_edge[first + k]]));
  });
  if (lane_in_warp() != 0) return;
  const bool shares = split < plan.out_ptr[slot + 1];
  BackwardSlot<C> packed{static_cast<int32_t>(split - first), kind_of(0, 0, shares), -1, plan.output_of_slot[slot],
                         C(1)};
  const int64_t node = slot - plan.num_inputs;
  if (node >= 0) {
    const int64_t fan_in = plan.in_end[node] - plan.in_begin[node];
    packed.kind = kind_of(plan.activation[node], plan.aggregation[node], shares);
    packed.derivative_row = plan.kept_row[node] >= 0 ? plan.kept_row[node] : static_cast<int32_t>(slot);
    if (static_cast<Aggregation>(plan.aggregation[node]) == Aggregation::kMean && fan_in > 0) {
      packed.scale = C(1) / C(fan_in);
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

#define FREEWIRE_INSTANTIATE(T, tag, name)                                                   \
  template void pack_forward<T>(const PlanView&, const ForwardArrays<T>&, int, int, Stream); \
  template void pack_backward<T>(const PlanView&, const BackwardArrays<T>&, int, int, Stream);
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cuda

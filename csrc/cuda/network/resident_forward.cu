// SPDX-License-Identifier: MIT
// The resident forward: one block runs one tile of the batch through the whole network.
//
// Shared memory holds [rows + 1, kColumns] values, the last row zero, then a Path; there is one row per slot, or fewer
// if no tape is kept. A team of lanes handles one node at a time (cuda/network/gather.h). There is one barrier of the
// block per level, and none between blocks. Race-free: within a level nodes write rows of their own, which no node of
// that level reads. Global traffic per tile: x once; 8 bytes per edge and 20 per node (16 and 28 in double), from L2;
// the tape once, if it is kept. Every sum has one order: bitwise deterministic.
#include "cuda/network/forward_node.h"
#include "cuda/network/pack.h"
#include "cuda/network/resident.h"
#include "cuda/network/walk.h"

namespace freewire::cuda {
namespace {

template <class L, class T>
__global__ void __launch_bounds__(kResidentThreads<T>, 1)
    resident_forward_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ ForwardArrays<T> arrays,
                            int64_t pitch) {
  using C = Compute<T>;
  constexpr int kColumns = L::kColumns;
  T* const tile = dynamic_shared<T>();
  const Rows<T> tape{arrays.tape, pitch};
  const bool moved = arrays.moves(plan);
  const int num_inputs = static_cast<int>(plan.num_inputs);
  const int num_rows = static_cast<int>(moved ? plan.scratch_rows : plan.num_slots);
  const int64_t first = int64_t{blockIdx.x} * kColumns;
  each_of_tile<kColumns>(num_inputs, [&](int i, int c) {
    const int64_t sample = first + c;
    const T value = sample < arrays.batch ? arrays.x[sample * num_inputs + i] : T{};
    tile[i * kColumns + c] = value;
    if (tape.data) tape.at(i, sample) = value;
  });
  const int zero_offset = num_rows * kColumns;
  if (static_cast<int>(threadIdx.x) < kColumns) tile[zero_offset + threadIdx.x] = T{};
  const Path path = Path::load(plan, arrays.begins, num_inputs, tile + zero_offset + kColumns);
  __syncthreads();

  const int column = L::column();
  const int64_t sample = first + column;
  walk<true, L>(
      path, arrays.edges, tile, [&](int slot) { return arrays.nodes[slot - num_inputs]; },
      [&](int slot, const ForwardNode<C>&) { return tape.data ? plan.kept_row[slot - num_inputs] : -1; },
      [&](int slot, const ForwardNode<C>& node, int kept_row, C(&sums)[L::kKept]) {
        const auto aggregation = static_cast<Aggregation>(aggregation_of(node.kind));
        if (L::has_copy()) return;
        Pack<C, L::kKept> value;
        const C scale = aggregation == Aggregation::kMean && node.count > 0 ? C(1) / C(node.count) : C(1);
#pragma unroll
        for (int c = 0; c < L::kKept; ++c) {
          if (!is_linear(aggregation)) {
            sums[c] = aggregate<C>(aggregation, node.count, [&](int64_t k) {
              const Edge<C> edge = arrays.edges[path.begin(slot) + k];
              return edge.weight * widened(row_at(tile, edge.offset)[column + c]);
            });
          }
          value.v[c] = sample + c < arrays.batch ? sums[c] * scale + node.bias : C(0);
        }
        if (kept_row >= 0) store_global(&tape.at(kept_row, sample), pack_as<T>(value));
        activate_all(static_cast<Activation>(activation_of(node.kind)), value.v, arrays.batch - sample);
        const Pack<T, L::kKept> stored = pack_as<T>(value);
        store_pack(tile + node.row * kColumns + column, stored);
        if (tape.data) store_global(&tape.at(slot, sample), stored);
      });

  const int num_outputs = static_cast<int>(plan.num_outputs);
  each_of_tile<kColumns>(num_outputs, [&](int o, int c) {
    const int32_t slot = plan.output_slot[o], row = moved ? plan.inference_row[slot] : slot;
    if (first + c < arrays.batch) arrays.y[(first + c) * num_outputs + o] = tile[row * kColumns + c];
  });
}

}  // namespace

template <class T>
void resident_forward(const PlanView& plan, const ForwardArrays<T>& arrays, int columns, bool packed, Stream stream) {
  const int64_t pitch = pitch_of(arrays.batch), rows = arrays.moves(plan) ? plan.scratch_rows : plan.num_slots;
  // A kept tape is written to its last column, so that none of it is uninitialised.
  const int64_t tiles = blocks_of(arrays.tape ? pitch : arrays.batch, columns);
  with_lanes<T>(plan, columns, [&](auto lanes) {
    using L = decltype(lanes);
    if (!packed) pack_forward(plan, arrays, columns, L::kChunk, stream);
    launch<resident_forward_kernel<L, T>>(tiles, kResidentThreads<T>, resident_bytes(plan, rows, columns, sizeof(T)),
                                          stream, plan, arrays, pitch);
  });
}

#define FREEWIRE_INSTANTIATE(T, tag, name) \
  template void resident_forward<T>(const PlanView&, const ForwardArrays<T>&, int, bool, Stream);
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cuda

// SPDX-License-Identifier: MIT
// The resident backward: one block takes one tile of the batch back through the whole network.
//
// Shared memory: [num_slots + 1, kColumns] gradients, of terms for computed nodes and of x for inputs, the last row
// zero. As in the forward a warp does one slot at a time, gathering from its readers, with a barrier a level.
// Race-free: within a level slots write their own rows and read those of later levels. Global traffic a tile: 8 bytes
// an edge and 48 a slot (16 and 64 in double), from L2; a tape row and a delta row a node; grad_y and grad_x once.
// Bitwise repeatable.
#include "cuda/backward_node.h"
#include "cuda/pack.h"
#include "cuda/resident.h"
#include "cuda/walk.h"

namespace freewire::cuda {
namespace {

template <int kColumns, class T>
__global__ void __launch_bounds__(kResidentThreads<T>, 1)
    resident_backward_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ BackwardArrays<T> arrays,
                             int64_t pitch) {
  using L = Lanes<T, kColumns>;
  T* const tile = dynamic_shared<T>();
  const int num_inputs = static_cast<int>(plan.num_inputs), num_slots = static_cast<int>(plan.num_slots);
  const int64_t first = int64_t{blockIdx.x} * kColumns;
  const int zero_offset = num_slots * kColumns;
  if (static_cast<int>(threadIdx.x) < kColumns) tile[zero_offset + threadIdx.x] = 0;
  __syncthreads();

  const int column = L::column();
  const int64_t sample = first + column;
  struct Asked {
    T told_by, grad_y;
  };
  walk<false, T, kColumns>(
      plan, arrays.edges, tile, zero_offset, [&](int slot) { return arrays.slots[slot]; },
      [&](int, const BackwardSlot<T>& packed) -> Asked {
        return {packed.told_row >= 0 ? arrays.tape[packed.told_row * pitch + sample] : T(0),
                packed.output >= 0 && sample < arrays.batch ? arrays.grad_y[sample * plan.num_outputs + packed.output]
                                                            : T(0)};
      },
      [&](int slot, const BackwardSlot<T>& packed, const Asked& asked, T grad) {
        grad += asked.grad_y;
        if (packed.shares) grad += gather_shares(plan, arrays, pitch, slot, sample);
        if (lane_in_warp() >= kColumns) return;
        if (packed.told_row >= 0) {
          const int64_t node = slot - num_inputs;
          const T told_by[1] = {asked.told_by};
          T own[1] = {grad};
          through_activation(static_cast<Activation>(packed.activation), told_by, own, arrays.batch - sample);
          arrays.delta[node * pitch + sample] = own[0];
          grad = own[0] * packed.scale;
          if (!is_linear(static_cast<Aggregation>(packed.aggregation))) {
            share_out(plan, arrays, pitch, node, grad, sample);
          }
        }
        tile[slot * kColumns + column] = grad;
      });

  for (int c = warp_in_block(); arrays.grad_x && c < kColumns && first + c < arrays.batch; c += warps_in_block()) {
    for (int i = lane_in_warp(); i < num_inputs; i += kWarpSize) {
      arrays.grad_x[(first + c) * num_inputs + i] = tile[i * kColumns + c];
    }
  }
}

}  // namespace

template <class T>
void resident_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, Stream stream) {
  pack_backward(plan, arrays, columns, stream);
  // To the last column of a row: delta is summed up in loads of several samples.
  const int64_t pitch = pitch_of(arrays.batch), tiles = pitch / columns;
  with_columns(columns, [&](auto width) {
    launch<resident_backward_kernel<decltype(width)::value, T>>(
        tiles, kResidentThreads<T>, resident_bytes(plan, columns, sizeof(T)), stream, plan, arrays, pitch);
  });
}

template void resident_backward<float>(const PlanView&, const BackwardArrays<float>&, int, Stream);
template void resident_backward<double>(const PlanView&, const BackwardArrays<double>&, int, Stream);

}  // namespace freewire::cuda

// SPDX-License-Identifier: MIT
// The resident backward: one block runs one tile of the batch back through the whole network.
//
// Shared memory holds [num_slots + 1, kColumns] gradients, of terms for computed nodes and of x for inputs, the last
// row zero; then a Path. As in the forward, a team of lanes handles one slot at a time, gathering from its readers,
// with one barrier per level. Race-free: within a level slots write their own rows and read those of later levels.
// Global traffic per tile: 8 bytes per edge and 24 per slot (16 and 28 in double), from L2; one tape row and one delta
// row per node; grad_y and grad_x once. Every sum has one order: bitwise deterministic.
#include "cuda/network/backward_node.h"
#include "cuda/network/pack.h"
#include "cuda/network/resident.h"
#include "cuda/network/walk.h"

namespace freewire::cuda {
namespace {

template <class L, class T>
__global__ void __launch_bounds__(kResidentThreads<T>, 1)
    resident_backward_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ BackwardArrays<T> arrays,
                             int64_t pitch) {
  using C = Compute<T>;
  constexpr int kColumns = L::kColumns;
  C* const tile = dynamic_shared<C>();
  const int num_inputs = static_cast<int>(plan.num_inputs), num_slots = static_cast<int>(plan.num_slots);
  const int64_t first = int64_t{blockIdx.x} * kColumns;
  const int zero_offset = num_slots * kColumns;
  if (static_cast<int>(threadIdx.x) < kColumns) tile[zero_offset + threadIdx.x] = 0;
  // Without grad_x the gradients of the inputs are not needed, and their edges can be half of all.
  const int first_slot = arrays.wants_x() ? 0 : num_inputs;
  const Path path = Path::load(plan, arrays.begins + first_slot, first_slot, tile + zero_offset + kColumns);
  __syncthreads();

  const int column = L::column();
  const int64_t sample = first + column;
  walk<false, L>(
      path, arrays.edges, tile, [&](int slot) { return arrays.slots[slot]; },
      [&](int, const BackwardSlot<C>& packed) {
        Pack<T, L::kKept> value{};
        if (packed.derivative_row >= 0)
          value = load_pack<L::kKept>(arrays.tape + packed.derivative_row * pitch + sample);
        return value;
      },
      [&](int slot, const BackwardSlot<C>& packed, const Pack<T, L::kKept>& value, C(&sums)[L::kKept]) {
        if (L::has_copy()) return;
        Pack<C, L::kKept> grad;
#pragma unroll
        for (int c = 0; c < L::kKept; ++c) {
          grad.v[c] = sums[c];
          if (packed.output >= 0 && sample + c < arrays.batch) {
            grad.v[c] += arrays.grad_y_at((sample + c) * plan.num_outputs + packed.output);
          }
          if (has_shares(packed.kind)) grad.v[c] += gather_shares(plan, arrays, pitch, slot, sample + c);
        }
        if (packed.derivative_row >= 0) {
          const int64_t node = slot - num_inputs;
          through_activation(static_cast<Activation>(activation_of(packed.kind)), pack_as<C>(value).v, grad.v,
                             arrays.batch - sample);
          store_global(arrays.delta + node * pitch + sample, grad);
#pragma unroll
          for (int c = 0; c < L::kKept; ++c) {
            grad.v[c] *= packed.scale;
            if (!is_linear(static_cast<Aggregation>(aggregation_of(packed.kind)))) {
              share_out(plan, arrays, pitch, node, grad.v[c], sample + c);
            }
          }
        }
        store_pack(tile + slot * kColumns + column, grad);
      });

  if (!arrays.wants_x()) return;
  each_of_tile<kColumns>(num_inputs, [&](int i, int c) {
    if (first + c >= arrays.batch) return;
    const C grad = tile[i * kColumns + c];
    const int64_t to = (first + c) * num_inputs + i;
    if constexpr (kNarrow<T>) {
      if (arrays.wide_grad_x) {
        arrays.wide_grad_x[to] = grad;
        return;
      }
    }
    arrays.grad_x[to] = narrowed<T>(grad);
  });
}

}  // namespace

template <class T>
void resident_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, bool packed, Stream stream) {
  // Tiles cover a row to its last column, since delta is summed in loads of several samples.
  const int64_t pitch = pitch_of(arrays.batch), tiles = pitch / columns;
  with_lanes<Compute<T>>(plan, columns, [&](auto lanes) {
    using L = decltype(lanes);
    if (!packed) pack_backward(plan, arrays, columns, L::kChunk, stream);
    launch<resident_backward_kernel<L, T>>(tiles, kResidentThreads<T>,
                                           resident_bytes(plan, plan.num_slots, columns, sizeof(Compute<T>)), stream,
                                           plan, arrays, pitch);
  });
}

#define FREEWIRE_INSTANTIATE(T, tag, name) \
  template void resident_backward<T>(const PlanView&, const BackwardArrays<T>&, int, bool, Stream);
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cuda

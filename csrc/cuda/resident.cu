// SPDX-License-Identifier: MIT
// The resident regime: one block takes one tile of the batch through the whole network, forward or backward.
//
// Shared memory: [num_slots, kColumns] values (forward) or gradients (backward). A warp does one node at a time, the
// block meets at a barrier after each level; blocks never meet. Race-free: within a level nodes write their own rows
// and read those of other levels. Global traffic a tile: x once, each edge's slot and weight once (from L2), the tape
// once.
#include "cuda/backward_node.h"
#include "cuda/device.h"
#include "cuda/forward_node.h"
#include "cuda/resident.h"

namespace freewire::cuda {
namespace {

// Doubles take twice the registers: at 512 threads sin and cos would spill.
template <class T>
constexpr int kThreads = sizeof(T) == 8 ? 256 : 512;

template <int kColumns, class T>
__global__ void __launch_bounds__(kThreads<T>)
    resident_forward_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ ForwardArrays<T> arrays,
                            int64_t pitch) {
  const Rows<T> values{dynamic_shared<T>(), kColumns}, tape{arrays.tape, pitch};
  const int64_t first = int64_t{blockIdx.x} * kColumns;
  for (int c = warp_in_block(); c < kColumns;
       c += warps_in_block()) {  // a warp reads neighbouring features of a sample
    const int64_t sample = first + c;
    for (int64_t i = lane_in_warp(); i < plan.num_inputs; i += kWarpSize) {
      const T value = sample < arrays.batch ? arrays.x[sample * plan.num_inputs + i] : T(0);
      values.at(i, c) = value;
      if (tape.data) tape.at(i, sample) = value;
    }
  }
  __syncthreads();
  const int column = Lanes<kColumns>::column();
  for (int64_t level = 0; level < plan.num_levels; ++level) {
    const int64_t begin = level == 0 ? plan.num_inputs : plan.level_ptr[level];
    for (int64_t slot = begin + warp_in_block(); slot < plan.level_ptr[level + 1]; slot += warps_in_block()) {
      forward_node<kColumns>(plan, arrays, slot, values, tape, column, first + column);
    }
    __syncthreads();
  }
  for (int c = warp_in_block(); c < kColumns && first + c < arrays.batch; c += warps_in_block()) {
    for (int64_t o = lane_in_warp(); o < plan.num_outputs; o += kWarpSize) {
      arrays.y[(first + c) * plan.num_outputs + o] = values.at(plan.output_slot[o], c);
    }
  }
}

template <int kColumns, class T>
__global__ void __launch_bounds__(kThreads<T>)
    resident_backward_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ BackwardArrays<T> arrays,
                             int64_t pitch) {
  const Rows<T> grad{dynamic_shared<T>(), kColumns};
  const int64_t first = int64_t{blockIdx.x} * kColumns;
  for (int64_t i = threadIdx.x; i < plan.num_slots * kColumns; i += blockDim.x) grad.data[i] = 0;
  __syncthreads();
  for (int c = warp_in_block(); c < kColumns && first + c < arrays.batch; c += warps_in_block()) {
    for (int64_t o = lane_in_warp(); o < plan.num_outputs; o += kWarpSize) {
      grad.at(plan.output_slot[o], c) = arrays.grad_y[(first + c) * plan.num_outputs + o];
    }
  }
  __syncthreads();
  const int column = Lanes<kColumns>::column();
  for (int64_t level = plan.num_levels - 1; level >= 0; --level) {
    for (int64_t slot = plan.level_ptr[level] + warp_in_block(); slot < plan.level_ptr[level + 1];
         slot += warps_in_block()) {
      backward_slot<kColumns>(plan, arrays, slot, grad, pitch, column, first + column);
    }
    __syncthreads();
  }
  for (int c = warp_in_block(); arrays.grad_x && c < kColumns && first + c < arrays.batch; c += warps_in_block()) {
    for (int64_t i = lane_in_warp(); i < plan.num_inputs; i += kWarpSize) {
      arrays.grad_x[(first + c) * plan.num_inputs + i] = grad.at(i, c);
    }
  }
}

// Calls body(std::integral_constant<int, columns>{}).
template <class Body>
void with_columns(int columns, Body&& body) {
  switch (columns) {
    case 2:
      return body(std::integral_constant<int, 2>{});
    case 4:
      return body(std::integral_constant<int, 4>{});
    case 8:
      return body(std::integral_constant<int, 8>{});
    case 16:
      return body(std::integral_constant<int, 16>{});
    default:
      return body(std::integral_constant<int, 32>{});
  }
}

}  // namespace

template <class T>
void resident_forward(const PlanView& plan, const ForwardArrays<T>& arrays, int columns, Stream stream) {
  const int64_t pitch = pitch_of(arrays.batch);
  // A kept tape is written to its last column, so that none of it is garbage.
  const int64_t samples = arrays.tape ? pitch : arrays.batch, tiles = (samples + columns - 1) / columns;
  with_columns(columns, [&](auto width) {
    launch<resident_forward_kernel<decltype(width)::value, T>>(tiles, kThreads<T>, plan.num_slots * columns * sizeof(T),
                                                               stream, plan, arrays, pitch);
  });
}

template <class T>
void resident_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, Stream stream) {
  const int64_t tiles = (arrays.batch + columns - 1) / columns;
  with_columns(columns, [&](auto width) {
    launch<resident_backward_kernel<decltype(width)::value, T>>(
        tiles, kThreads<T>, plan.num_slots * columns * sizeof(T), stream, plan, arrays, pitch_of(arrays.batch));
  });
}

template void resident_forward<float>(const PlanView&, const ForwardArrays<float>&, int, Stream);
template void resident_forward<double>(const PlanView&, const ForwardArrays<double>&, int, Stream);
template void resident_backward<float>(const PlanView&, const BackwardArrays<float>&, int, Stream);
template void resident_backward<double>(const PlanView&, const BackwardArrays<double>&, int, Stream);

}  // namespace freewire::cuda

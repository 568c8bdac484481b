// SPDX-License-Identifier: MIT
// The streamed regime: rows in global memory, a launch a level, for networks whose rows fit no block's shared memory.
//
// A warp does one node for 32 samples, a block eight nodes of a level for the same samples; the launches order the
// levels. Race-free as in the resident regime. An edge moves 32 elements of a row from L2 or device memory a warp, its
// slot and its weight. The grid is the widest level's: which slots a level has stands on the device only, and asking
// would be a wait.
#include "cuda/backward_node.h"
#include "cuda/device.h"
#include "cuda/fill.h"
#include "cuda/forward_node.h"
#include "cuda/streamed.h"

namespace freewire::cuda {
namespace {

constexpr int kNodes = 8;  // a block's warps
constexpr int kThreads = kNodes * kWarpSize;

// Samples a warp covers, from blockIdx.y.
inline __device__ int64_t first_sample() { return int64_t{blockIdx.y} * kWarpSize; }

// rows[i][b] = x[b][i], 0 past the batch's end. A warp turns a tile of 32 x 32 over in shared memory, so that both
// sides are read and written in runs; the 33rd column keeps its lanes in different banks.
template <class T>
__global__ void __launch_bounds__(kThreads)
    read_kernel(const T* __restrict__ x, int64_t width, int64_t batch, Rows<T> rows) {
  FREEWIRE_SHARED(tile, T[kWarpSize][kWarpSize + 1]);
  const int64_t column = int64_t{blockIdx.x} * kWarpSize;
  for (int c = warp_in_block(); c < kWarpSize; c += kNodes) {
    const int64_t sample = first_sample() + c, i = column + lane_in_warp();
    tile[c][lane_in_warp()] = sample < batch && i < width ? x[sample * width + i] : T(0);
  }
  __syncthreads();
  for (int r = warp_in_block(); r < kWarpSize; r += kNodes) {
    if (column + r < width) rows.at(column + r, first_sample() + lane_in_warp()) = tile[lane_in_warp()][r];
  }
}

// to[b][i] = rows[slot(i)][b]; slots null: row i.
template <class T>
__global__ void __launch_bounds__(kThreads)
    write_kernel(Rows<T> rows, const int32_t* __restrict__ slots, int64_t width, int64_t batch, T* __restrict__ to) {
  FREEWIRE_SHARED(tile, T[kWarpSize][kWarpSize + 1]);
  const int64_t column = int64_t{blockIdx.x} * kWarpSize;
  for (int r = warp_in_block(); r < kWarpSize; r += kNodes) {
    const int64_t i = column + r;
    if (i < width) tile[r][lane_in_warp()] = rows.at(slots ? slots[i] : i, first_sample() + lane_in_warp());
  }
  __syncthreads();
  for (int c = warp_in_block(); c < kWarpSize; c += kNodes) {
    const int64_t sample = first_sample() + c, i = column + lane_in_warp();
    if (sample < batch && i < width) to[sample * width + i] = tile[lane_in_warp()][c];
  }
}

// grad's rows before the first level: the gradient of y at the outputs. The other rows are 0 already.
template <class T>
__global__ void __launch_bounds__(kThreads)
    scatter_kernel(const T* __restrict__ grad_y, const int32_t* __restrict__ slots, int64_t width, int64_t batch,
                   Rows<T> grad) {
  const int64_t sample = first_sample() + lane_in_warp(), o = int64_t{blockIdx.x} * kNodes + warp_in_block();
  if (o < width && sample < batch) grad.at(slots[o], sample) = grad_y[sample * width + o];
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    level_forward_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ ForwardArrays<T> arrays,
                         Rows<T> rows, int64_t level) {
  const int64_t begin = level == 0 ? plan.num_inputs : plan.level_ptr[level];
  const int64_t slot = begin + int64_t{blockIdx.x} * kNodes + warp_in_block();
  if (slot >= plan.level_ptr[level + 1]) return;  // whole warps
  const int64_t sample = first_sample() + lane_in_warp();
  forward_node<kWarpSize>(plan, arrays, slot, rows, Rows<T>{arrays.tape, rows.stride}, sample, sample);
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    level_backward_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ BackwardArrays<T> arrays,
                          Rows<T> grad, int64_t level) {
  const int64_t slot = plan.level_ptr[level] + int64_t{blockIdx.x} * kNodes + warp_in_block();
  if (slot >= plan.level_ptr[level + 1]) return;
  const int64_t sample = first_sample() + lane_in_warp();
  backward_slot<kWarpSize>(plan, arrays, slot, grad, grad.stride, sample, sample);
}

}  // namespace

template <class T>
void streamed_forward(const PlanView& plan, const ForwardArrays<T>& arrays, T* rows_data, Stream stream) {
  const Rows<T> rows{rows_data, pitch_of(arrays.batch)};
  const int64_t slices = rows.stride / kWarpSize;
  launch<read_kernel<T>>({blocks_of(plan.num_inputs, kWarpSize), slices}, kThreads, 0, stream, arrays.x,
                         plan.num_inputs, arrays.batch, rows);
  for (int64_t level = 0; level < plan.num_levels; ++level) {
    launch<level_forward_kernel<T>>({blocks_of(plan.level_width, kNodes), slices}, kThreads, 0, stream, plan, arrays,
                                    rows, level);
  }
  launch<write_kernel<T>>({blocks_of(plan.num_outputs, kWarpSize), slices}, kThreads, 0, stream, rows, plan.output_slot,
                          plan.num_outputs, arrays.batch, arrays.y);
}

template <class T>
void streamed_backward(const PlanView& plan, const BackwardArrays<T>& arrays, Stream stream) {
  const Rows<T> grad{arrays.rows, pitch_of(arrays.batch)};
  const int64_t slices = grad.stride / kWarpSize;
  fill_zero(grad.data, plan.num_slots * grad.stride, stream);
  launch<scatter_kernel<T>>({blocks_of(plan.num_outputs, kNodes), slices}, kThreads, 0, stream, arrays.grad_y,
                            plan.output_slot, plan.num_outputs, arrays.batch, grad);
  for (int64_t level = plan.num_levels - 1; level >= 0; --level) {
    const int64_t width = level == 0 ? plan.num_inputs + plan.level_width : plan.level_width;
    launch<level_backward_kernel<T>>({blocks_of(width, kNodes), slices}, kThreads, 0, stream, plan, arrays, grad,
                                     level);
  }
  if (!arrays.grad_x) return;
  launch<write_kernel<T>>({blocks_of(plan.num_inputs, kWarpSize), slices}, kThreads, 0, stream, grad,
                          static_cast<const int32_t*>(nullptr), plan.num_inputs, arrays.batch, arrays.grad_x);
}

template void streamed_forward<float>(const PlanView&, const ForwardArrays<float>&, float*, Stream);
template void streamed_forward<double>(const PlanView&, const ForwardArrays<double>&, double*, Stream);
template void streamed_backward<float>(const PlanView&, const BackwardArrays<float>&, Stream);
template void streamed_backward<double>(const PlanView&, const BackwardArrays<double>&, Stream);

}  // namespace freewire::cuda

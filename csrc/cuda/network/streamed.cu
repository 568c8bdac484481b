// SPDX-License-Identifier: MIT
// The streamed regime: rows in global memory and one launch per level, for networks too large for a block's shared
// memory.
//
// A thread owns kHeld samples of one node, a warp 32 x kHeld samples, and a block eight nodes of a level at the same
// samples; the launches order the levels. Lanes load 32 edges and exchange them by shuffles, and eight rows are loaded
// together. An edge loads its slot, its weight and 128 to 512 bytes of a row, from L2 or device memory. Race-free,
// since within a level nodes write rows of their own, which no node of that level reads; every sum has one order:
// bitwise deterministic. The grid is that of the widest level: the sizes of levels are stored on the device, and
// reading them would mean waiting.
#include "cuda/network/backward_node.h"
#include "cuda/network/streamed.h"

namespace freewire::cuda {
namespace {

constexpr int kNodes = 8;  // per block, one for each warp
constexpr int kThreads = kNodes * kWarpSize;
constexpr int kBlocks = 3;  // per multiprocessor, at least: without a bound the compiler spills to make room for more

// A grid of nodes and columns in one dimension, since the others are too small: neighbouring blocks cover kColumns
// columns each of the same nodes.
template <int kColumns>
struct Place {
  __device__ explicit Place(int64_t pitch)
      : down(blockIdx.x / static_cast<unsigned>(pitch / kColumns)),
        first_column(blockIdx.x % static_cast<unsigned>(pitch / kColumns) * int64_t{kColumns}) {}
  int64_t down, first_column;
};
template <int kColumns>
int64_t grid_of(int64_t down, int64_t pitch) {
  return down * (pitch / kColumns);
}

// rows[i][b] = x[b][i], 0 past the end of the batch. A block transposes a tile of 32 x 32 in shared memory, so that
// both global reads and writes are coalesced; the 33rd column avoids bank conflicts. Each number is read and written
// once.
template <class T>
__global__ void __launch_bounds__(kThreads)
    read_kernel(const T* __restrict__ x, int64_t width, int64_t batch, Rows<T> rows) {
  FREEWIRE_SHARED(tile, T[kWarpSize][kWarpSize + 1]);
  const Place<kWarpSize> place(rows.stride);
  const int64_t column = place.down * kWarpSize;
  for (int c = warp_in_block(); c < kWarpSize; c += kNodes) {
    const int64_t sample = place.first_column + c, i = column + lane_in_warp();
    tile[c][lane_in_warp()] = sample < batch && i < width ? x[sample * width + i] : T{};
  }
  __syncthreads();
  for (int r = warp_in_block(); r < kWarpSize; r += kNodes) {
    if (column + r < width) rows.at(column + r, place.first_column + lane_in_warp()) = tile[lane_in_warp()][r];
  }
}

// to[b][i] = rows[row(i)][b], transposed in the same way, where row(i) is inference_row[slots[i]]. A null
// inference_row or slots stands for the identity.
template <class From, class To>
__global__ void __launch_bounds__(kThreads)
    write_kernel(Rows<From> rows, const int32_t* __restrict__ slots, const int32_t* __restrict__ inference_row,
                 int64_t width, int64_t batch, To* __restrict__ to) {
  FREEWIRE_SHARED(tile, From[kWarpSize][kWarpSize + 1]);
  const Place<kWarpSize> place(rows.stride);
  const int64_t column = place.down * kWarpSize;
  for (int r = warp_in_block(); r < kWarpSize; r += kNodes) {
    const int64_t i = column + r;
    if (i >= width) break;
    const int64_t slot = slots ? slots[i] : i, row = inference_row ? inference_row[slot] : slot;
    tile[r][lane_in_warp()] = rows.at(row, place.first_column + lane_in_warp());
  }
  __syncthreads();
  for (int c = warp_in_block(); c < kWarpSize; c += kNodes) {
    const int64_t sample = place.first_column + c, i = column + lane_in_warp();
    if (sample < batch && i < width) to[sample * width + i] = stored_as<To>(tile[lane_in_warp()][c]);
  }
}

// sums += the weighted rows of edges begin to end, at kHeld columns from column on; edge(k, row, weight) sets the row
// and the weight of edge k. Called by whole warps.
template <int kHeld, class T, class Edge>
__device__ __forceinline__ void gather_rows(Compute<T> (&sums)[kHeld], int64_t begin, int64_t end, const Rows<T>& rows,
                                            int64_t column, Edge&& edge) {
  constexpr int kAtOnce = 8;
  for (int64_t k0 = begin; k0 < end; k0 += kWarpSize) {
    int32_t row = 0;
    Compute<T> weight = 0;
    if (k0 + lane_in_warp() < end) edge(k0 + lane_in_warp(), row, weight);
    const int count = static_cast<int>(end - k0 < kWarpSize ? end - k0 : kWarpSize);
    for (int k = 0; k < count; k += kAtOnce) {
      Pack<T, kHeld> values[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int64_t from = __shfl_sync(kFullWarp, row, k + i);
        values[i] = {};  // an edge past the end has weight 0, and 0 x infinity must not arise
        if (k + i < count) values[i] = load_pack<kHeld>(&rows.at(from, column));
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const Compute<T> scale = __shfl_sync(kFullWarp, weight, k + i);
        for (int c = 0; c < kHeld; ++c) sums[c] += scale * widened(values[i].v[c]);
      }
    }
  }
}

template <int kHeld, class T>
__global__ void __launch_bounds__(kThreads, kBlocks)
    level_forward_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ ForwardArrays<T> arrays,
                         Rows<T> rows, int64_t level) {
  using C = Compute<T>;
  const Place<kHeld * kWarpSize> place(rows.stride);
  const int64_t begin = level == 0 ? plan.num_inputs : plan.level_ptr[level];
  const int64_t slot = begin + place.down * kNodes + warp_in_block();
  if (slot >= plan.level_ptr[level + 1]) return;  // whole warps
  const int64_t node = slot - plan.num_inputs, column = place.first_column + lane_in_warp() * kHeld;
  const int64_t first = plan.in_begin[node], count = plan.in_end[node] - first;
  const auto aggregation = static_cast<Aggregation>(plan.aggregation[node]);
  const bool moved = arrays.moves(plan);
  const int32_t* src = moved ? plan.row_src : plan.in_src;
  C sums[kHeld] = {};
  if (is_linear(aggregation)) {
    gather_rows(sums, first, first + count, rows, column, [&](int64_t edge, int32_t& row, C& weight) {
      row = src[edge];
      weight = widened(arrays.weight[edge]);
    });
  }
  const C bias = arrays.bias ? widened(arrays.bias[plan.bias_index[node]]) : C(0);
  const C scale = aggregation == Aggregation::kMean && count > 0 ? C(1) / C(count) : C(1);
  if (!is_linear(aggregation)) {
#pragma unroll
    for (int c = 0; c < kHeld; ++c) {
      sums[c] = aggregate<C>(aggregation, count, [&](int64_t k) {
        return widened(arrays.weight[first + k]) * widened(rows.at(src[first + k], column + c));
      });
    }
  }
  const int64_t live = arrays.batch - column;
  Pack<C, kHeld> values;
#pragma unroll
  for (int c = 0; c < kHeld; ++c) values.v[c] = c < live ? sums[c] * scale + bias : C(0);
  if (arrays.tape && plan.kept_row[node] >= 0) store_global(&rows.at(plan.kept_row[node], column), pack_as<T>(values));
  activate_all(static_cast<Activation>(plan.activation[node]), values.v, live);
  store_global(&rows.at(moved ? plan.inference_row[slot] : slot, column), pack_as<T>(values));
}

template <int kHeld, class T>
__global__ void __launch_bounds__(kThreads, kBlocks)
    level_backward_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ BackwardArrays<T> arrays,
                          Rows<Compute<T>> grad, int64_t level) {
  using C = Compute<T>;
  const Place<kHeld * kWarpSize> place(grad.stride);
  const int64_t begin = level == 0 && !arrays.wants_x() ? plan.num_inputs : plan.level_ptr[level];
  const int64_t slot = begin + place.down * kNodes + warp_in_block();
  if (slot >= plan.level_ptr[level + 1]) return;
  const int64_t node = slot - plan.num_inputs, column = place.first_column + lane_in_warp() * kHeld,
                pitch = grad.stride;
  C sums[kHeld] = {};
  gather_rows(sums, plan.out_ptr[slot], plan.out_split[slot], grad, column, [&](int64_t k, int32_t& row, C& weight) {
    row = plan.out_dst[k];
    weight = widened(arrays.weight[plan.out_edge[k]]);
  });
  const int64_t output = plan.output_of_slot[slot], live = arrays.batch - column;
  Pack<C, kHeld> grads;
#pragma unroll
  for (int c = 0; c < kHeld; ++c) {
    grads.v[c] = sums[c];
    if (output >= 0 && c < live) grads.v[c] += arrays.grad_y_at((column + c) * plan.num_outputs + output);
    if (plan.out_split[slot] < plan.out_ptr[slot + 1])
      grads.v[c] += gather_shares(plan, arrays, pitch, slot, column + c);
  }
  if (node >= 0) {
    const int64_t row = plan.kept_row[node] >= 0 ? plan.kept_row[node] : slot;
    const Pack<C, kHeld> value = pack_as<C>(load_pack<kHeld>(arrays.tape + row * pitch + column));
    through_activation(static_cast<Activation>(plan.activation[node]), value.v, grads.v, live);
    store_global(arrays.delta + node * pitch + column, grads);
    const auto aggregation = static_cast<Aggregation>(plan.aggregation[node]);
    const int64_t fan_in = plan.in_end[node] - plan.in_begin[node];
    const C scale = aggregation == Aggregation::kMean && fan_in > 0 ? C(1) / C(fan_in) : C(1);
#pragma unroll
    for (int c = 0; c < kHeld; ++c) {
      grads.v[c] *= scale;
      if (!is_linear(aggregation)) share_out(plan, arrays, pitch, node, grads.v[c], column + c);
    }
  }
  store_global(&grad.at(slot, column), grads);
}

// Calls body(std::integral_constant<int, columns per lane>{}): 16 bytes of sums per lane if a row is a whole number of
// such warps.
template <class T, class Body>
void with_held(int64_t pitch, Body&& body) {
  constexpr int kWide = 16 / sizeof(Compute<T>), kShort = 2;
  static_assert(kPitchColumns % (kShort * kWarpSize) == 0, "a row is a whole number of short warps");
  if (pitch % (kWide * kWarpSize) == 0) {
    body(std::integral_constant<int, kWide>{});
  } else {
    body(std::integral_constant<int, kShort>{});
  }
}

}  // namespace

template <class T>
void streamed_forward(const PlanView& plan, const ForwardArrays<T>& arrays, T* rows_data, Stream stream) {
  const Rows<T> rows{rows_data, pitch_of(arrays.batch)};
  launch<read_kernel<T>>(grid_of<kWarpSize>(blocks_of(plan.num_inputs, kWarpSize), rows.stride), kThreads, 0, stream,
                         arrays.x, plan.num_inputs, arrays.batch, rows);
  with_held<T>(rows.stride, [&](auto held) {
    constexpr int kHeld = decltype(held)::value;

    for (int64_t level = 0; level < plan.num_levels; ++level) {
      launch<level_forward_kernel<kHeld, T>>(
          grid_of<kHeld * kWarpSize>(blocks_of(plan.level_width, kNodes), rows.stride), kThreads, 0, stream, plan,
          arrays, rows, level);
    }
  });
  launch<write_kernel<T, T>>(grid_of<kWarpSize>(blocks_of(plan.num_outputs, kWarpSize), rows.stride), kThreads, 0,
                             stream, rows, plan.output_slot, arrays.moves(plan) ? plan.inference_row : nullptr,
                             plan.num_outputs, arrays.batch, arrays.y);
}

template <class T>
void streamed_backward(const PlanView& plan, const BackwardArrays<T>& arrays, Stream stream) {
  const Rows<Compute<T>> grad{arrays.rows, pitch_of(arrays.batch)};
  with_held<Compute<T>>(grad.stride, [&](auto held) {
    constexpr int kHeld = decltype(held)::value;

    for (int64_t level = plan.num_levels - 1; level >= 0; --level) {
      const int64_t inputs = level == 0 && arrays.wants_x() ? plan.num_inputs : 0, width = inputs + plan.level_width;
      launch<level_backward_kernel<kHeld, T>>(grid_of<kHeld * kWarpSize>(blocks_of(width, kNodes), grad.stride),
                                              kThreads, 0, stream, plan, arrays, grad, level);
    }
  });
  const auto write = [&](auto* to) {
    using To = std::remove_pointer_t<decltype(to)>;
    constexpr const int32_t* kInOrder = nullptr;
    launch<write_kernel<Compute<T>, To>>(grid_of<kWarpSize>(blocks_of(plan.num_inputs, kWarpSize), grad.stride),
                                         kThreads, 0, stream, grad, kInOrder, kInOrder, plan.num_inputs, arrays.batch,
                                         to);
  };
  if constexpr (kNarrow<T>) {
    if (arrays.wide_grad_x) return write(arrays.wide_grad_x);
  }
  if (arrays.grad_x) write(arrays.grad_x);
}

#define FREEWIRE_INSTANTIATE(T, tag, name)                                                 \
  template void streamed_forward<T>(const PlanView&, const ForwardArrays<T>&, T*, Stream); \
  template void streamed_backward<T>(const PlanView&, const BackwardArrays<T>&, Stream);
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cuda

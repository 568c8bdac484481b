// SPDX-License-Identifier: MIT
// A whole batch through the kernels: how tiles are spread over threads, and in which order sums are added.
//
// Enters: a plan, arrays, and parallel_for(begin, end, grain, body), which calls body(first, last) on ranges
// that make up [begin, end), in parallel as it likes; grain is the least that is worth a thread. Leaves: y
// and the tape, or the gradients. No torch here, so that csrc/testing runs this very code on std::thread
// under the sanitizers. How the ranges are cut changes no bit: tiles share nothing, and the sums of the
// groups, whose number depends on the batch alone, are added in order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/buffer.h"
#include "cpu/kernels.h"

namespace freewire::cpu {

constexpr int64_t kEdgesPerTask = 32768;  // below that a task costs more than the edges it copies

// How a batch is cut.
template <class T>
struct Tiling {
  Tiling(const PlanView& plan, int64_t batch) {
    const int64_t bytes = row_bytes(plan, batch, sizeof(T));
    variant = row_variant(bytes);
    columns = bytes / static_cast<int64_t>(sizeof(T));
    tiles = (batch + columns - 1) / columns;
    groups = num_groups(tiles);
  }
  int variant;  // which of a kernel's three
  int64_t columns, tiles, groups;
};

// The gradients that the backward leaves; null where nobody wants one.
template <class T>
struct Gradients {
  T* x;       // [batch, I]
  T* weight;  // [E]
  T* bias;    // [num_biases]
};

// tape: [tiles, tape_rows, columns] to keep for a backward, or null.
template <class T, class ParallelFor>
void run_forward(const PlanView& plan, const ForwardArrays<T>& arrays, T* tape, const ParallelFor& parallel_for) {
  const Tiling<T> tiling(plan, arrays.batch);
  const auto kernel = kernels<T>().forward[tiling.variant];
  parallel_for(0, tiling.tiles, 1, [&](int64_t begin, int64_t end) {
    Buffer<T> scratch(tape ? 0 : plan.num_slots * tiling.columns);
    for (int64_t tile = begin; tile < end; ++tile) {
      kernel(plan, arrays, tile, tape != nullptr,
             tape ? tape + tile * plan.tape_rows * tiling.columns : scratch.data());
    }
  });
}

// Each group's tiles in turn; out_sums [groups, M] and bias_sums [groups, C] are null where unwanted.
template <class T, class ParallelFor>
void run_groups(const PlanView& plan, const BackwardArrays<T>& arrays, const T* tape, T* out_sums, T* bias_sums,
                const ParallelFor& parallel_for) {
  const Tiling<T> tiling(plan, arrays.batch);
  const auto kernel = kernels<T>().backward[tiling.variant];
  parallel_for(0, tiling.groups, 1, [&](int64_t begin, int64_t end) {
    Buffer<T> grad(plan.num_slots * tiling.columns), products(plan.product_fan_in * tiling.columns);
    for (int64_t group = begin; group < end; ++group) {
      const BackwardScratch<T> scratch{grad.data(), products.data(),
                                       out_sums ? out_sums + group * plan.num_live_edges : nullptr,
                                       bias_sums ? bias_sums + group * plan.num_computed() : nullptr};
      const int64_t first = group_begin(group, tiling.groups, tiling.tiles),
                    last = group_begin(group + 1, tiling.groups, tiling.tiles);
      for (int64_t tile = first; tile < last; ++tile) {
        kernel(plan, arrays, tile, tile == first, tape + tile * plan.tape_rows * tiling.columns, scratch);
      }
    }
  });
}

// Entry i of the groups' sums [groups, count], added in order.
template <class T>
T ordered_sum(const T* sums, int64_t groups, int64_t count, int64_t i) {
  T total = sums[i];
  for (int64_t group = 1; group < groups; ++group) total += sums[group * count + i];
  return total;
}

// grad_y: [batch, O]. weight: [E]. tape: as run_forward kept it.
template <class T, class ParallelFor>
void run_backward(const PlanView& plan, const T* grad_y, const T* weight, const T* tape, int64_t batch,
                  const Gradients<T>& gradients, const ParallelFor& parallel_for) {
  const int64_t groups = Tiling<T>(plan, batch).groups;
  const int64_t edges = plan.num_live_edges, nodes = plan.num_computed();
  Buffer<T> out_weight(edges);
  parallel_for(0, edges, kEdgesPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out_weight.data()[i] = weight[plan.out_edge[i]];
  });

  Buffer<T> out_sums(gradients.weight ? groups * edges : 0), bias_sums(gradients.bias ? groups * nodes : 0);
  const BackwardArrays<T> arrays{grad_y, out_weight.data(), weight, gradients.x, batch};
  run_groups<T>(plan, arrays, tape, gradients.weight ? out_sums.data() : nullptr,
                gradients.bias ? bias_sums.data() : nullptr, parallel_for);

  // What reaches no output has gradient exactly 0; so has everything in an empty batch.
  if (gradients.weight && (groups == 0 || edges < plan.num_edges)) {
    parallel_for(0, plan.num_edges, kEdgesPerTask, [&](int64_t begin, int64_t end) {
      std::fill(gradients.weight + begin, gradients.weight + end, T(0));
    });
  }
  if (gradients.bias && (groups == 0 || nodes < plan.num_biases)) {
    std::fill_n(gradients.bias, plan.num_biases, T(0));
  }
  if (groups == 0) return;
  if (gradients.weight) {
    parallel_for(0, edges, kEdgesPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        gradients.weight[plan.out_edge[i]] = ordered_sum(out_sums.data(), groups, edges, i);
    });
  }
  for (int64_t i = 0; gradients.bias && i < nodes; ++i) {
    gradients.bias[plan.bias_index[i]] = ordered_sum(bias_sums.data(), groups, nodes, i);
  }
}

}  // namespace freewire::cpu

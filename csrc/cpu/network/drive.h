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
#include "cpu/network/kernels.h"

namespace freewire::cpu {

constexpr int64_t kEdgesPerTask = 32768;  // below that a task costs more than the edges it copies

// How a batch is cut.
template <class T>
struct Tiling {
  Tiling(const PlanView& plan, int64_t batch) {
    constexpr int64_t kItemBytes = sizeof(Compute<T>);
    const int64_t bytes = row_bytes(plan, batch, kItemBytes);
    variant = row_variant(bytes);
    columns = bytes / kItemBytes;
    tiles = (batch + columns - 1) / columns;
    groups = num_groups(tiles);
  }
  int variant;  // which of a kernel's three
  int64_t columns, tiles, groups;
};

// Parameters as kernels read them: where 16 bits store them a copy in float, made once a call.
template <class T>
class Widened {
 public:
  template <class ParallelFor>
  Widened(const T* from, int64_t count, const ParallelFor& parallel_for) : copy_(from && kNarrow<T> ? count : 0) {
    if constexpr (kNarrow<T>) {
      data_ = from ? copy_.data() : nullptr;
      if (from) {
        parallel_for(0, count, kEdgesPerTask, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) copy_.data()[i] = widened(from[i]);
        });
      }
    } else {
      data_ = from;
    }
  }
  const Compute<T>* data() const { return data_; }

 private:
  Buffer<Compute<T>> copy_;
  const Compute<T>* data_;
};

// What the forward is called with.
template <class T>
struct ForwardCall {
  const T* x;       // [batch, I]
  const T* weight;  // [E]
  const T* bias;    // [num_biases], or null
  T* y;             // [batch, O]
  int64_t batch;
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
void run_forward(const PlanView& plan, const ForwardCall<T>& call, T* tape, const ParallelFor& parallel_for) {
  const Tiling<T> tiling(plan, call.batch);
  const Widened<T> weight(call.weight, plan.num_edges, parallel_for), bias(call.bias, plan.num_biases, parallel_for);
  const ForwardArrays<T> arrays{call.x, weight.data(), bias.data(), call.y, call.batch};
  const auto kernel = kernels<T>().forward[tiling.variant];
  parallel_for(0, tiling.tiles, 1, [&](int64_t begin, int64_t end) {
    Buffer<T> scratch(tape ? 0 : plan.num_rows * tiling.columns);
    for (int64_t tile = begin; tile < end; ++tile) {
      kernel(plan, arrays, tile, tape != nullptr,
             tape ? tape + tile * plan.tape_rows * tiling.columns : scratch.data());
    }
  });
}

// Each group's tiles in turn; out_sums [groups, M] and bias_sums [groups, C] are null where unwanted.
template <class T, class ParallelFor>
void run_groups(const PlanView& plan, const BackwardArrays<T>& arrays, const T* tape, Compute<T>* out_sums,
                Compute<T>* bias_sums, const ParallelFor& parallel_for) {
  const Tiling<T> tiling(plan, arrays.batch);
  const auto kernel = kernels<T>().backward[tiling.variant];
  parallel_for(0, tiling.groups, 1, [&](int64_t begin, int64_t end) {
    using C = Compute<T>;
    Buffer<C> grad(plan.num_slots * tiling.columns), products(plan.product_fan_in * tiling.columns);
    for (int64_t group = begin; group < end; ++group) {
      const BackwardScratch<C> scratch{grad.data(), products.data(),
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
template <class C>
C ordered_sum(const C* sums, int64_t groups, int64_t count, int64_t i) {
  C total = sums[i];
  for (int64_t group = 1; group < groups; ++group) total += sums[group * count + i];
  return total;
}

// grad_y: [batch, O]. weight: [E]. tape: as run_forward kept it.
template <class T, class ParallelFor>
void run_backward(const PlanView& plan, const T* grad_y, const T* weight, const T* tape, int64_t batch,
                  const Gradients<T>& gradients, const ParallelFor& parallel_for) {
  using C = Compute<T>;
  const int64_t groups = Tiling<T>(plan, batch).groups;
  const int64_t edges = plan.num_live_edges, nodes = plan.num_computed();
  const bool pushes = plan.gather_edges > 0;  // only then are weights read in their own order
  const Widened<T> widened_weight(kNarrow<T> && !pushes ? nullptr : weight, plan.num_edges, parallel_for);
  Buffer<C> out_weight(edges);
  parallel_for(0, edges, kEdgesPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out_weight.data()[i] = widened(weight[plan.out_edge[i]]);
  });

  Buffer<C> out_sums(gradients.weight ? groups * edges : 0), bias_sums(gradients.bias ? groups * nodes : 0);
  const BackwardArrays<T> arrays{grad_y, out_weight.data(), widened_weight.data(), gradients.x, batch};
  run_groups<T>(plan, arrays, tape, gradients.weight ? out_sums.data() : nullptr,
                gradients.bias ? bias_sums.data() : nullptr, parallel_for);

  // What reaches no output has gradient exactly 0; so has everything in an empty batch.
  if (gradients.weight && (groups == 0 || edges < plan.num_edges)) {
    parallel_for(0, plan.num_edges, kEdgesPerTask,
                 [&](int64_t begin, int64_t end) { std::fill(gradients.weight + begin, gradients.weight + end, T{}); });
  }
  if (gradients.bias && (groups == 0 || nodes < plan.num_biases)) {
    std::fill_n(gradients.bias, plan.num_biases, T{});
  }
  if (groups == 0) return;
  if (gradients.weight) {
    parallel_for(0, edges, kEdgesPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        gradients.weight[plan.out_edge[i]] = narrowed<T>(ordered_sum(out_sums.data(), groups, edges, i));
    });
  }
  for (int64_t i = 0; gradients.bias && i < nodes; ++i) {
    gradients.bias[plan.bias_index[i]] = narrowed<T>(ordered_sum(bias_sums.data(), groups, nodes, i));
  }
}

}  // namespace freewire::cpu

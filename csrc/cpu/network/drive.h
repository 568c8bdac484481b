// SPDX-License-Identifier: MIT
// A whole batch through the kernels: how tiles are spread over threads, and in which order sums are added.
//
// The functions take a plan, arrays, and parallel_for(begin, end, grain, body), which calls body(first, last) on ranges
// that make up [begin, end), in parallel if it likes; grain is the smallest range that is worth a thread. They write y
// and the tape, or the gradients. How the ranges are cut changes no bit: tiles share nothing, and the sums of the
// groups, whose number depends on the batch alone, are added in order. No torch here, so that csrc/testing runs this
// code on std::thread under the sanitizers. workspace.h has the sizes of all that is allocated here.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/buffer.h"
#include "cpu/network/kernels.h"
#include "cpu/network/tiling.h"
#include "cpu/network/workspace.h"

namespace freewire::cpu {

constexpr int64_t kEdgesPerTask = 32768;  // with fewer, starting a task costs more than the edges it copies

// Parameters as kernels read them: of 16-bit types a copy in float, made once per call.
template <class T>
class Widened {
 public:
  template <class ParallelFor>
  Widened(const T* from, int64_t count, const ParallelFor& parallel_for)
      : copy_(from ? widened_copy<T>(count).count : 0) {
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

// The arguments of the forward.
template <class T>
struct ForwardCall {
  const T* x;       // [batch, I]
  const T* weight;  // [E]
  const T* bias;    // [num_biases], or null
  T* y;             // [batch, O]
  int64_t batch;
};

// The gradients that the backward writes; null for those that are not wanted.
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
  const ForwardWorkspace<T> workspace(plan, tiling, tape != nullptr);
  const ForwardArrays<T> arrays{call.x, weight.data(), bias.data(), call.y, call.batch};
  const auto kernel = kernels<T>().forward[tiling.variant];
  parallel_for(0, tiling.tiles, 1, [&](int64_t begin, int64_t end) {
    Buffer<T> scratch(workspace.rows.count);
    for (int64_t tile = begin; tile < end; ++tile) {
      kernel(plan, arrays, tile, tape != nullptr,
             tape ? tape + tile * plan.tape_rows * tiling.columns : scratch.data());
    }
  });
}

// Each group's tiles in turn. out_sums [groups, M] and bias_sums [groups, C] are null where they are not wanted.
template <class T, class ParallelFor>
void run_groups(const PlanView& plan, const BackwardArrays<T>& arrays, const Tiling<T>& tiling,
                const BackwardWorkspace<T>& workspace, const T* tape, Compute<T>* out_sums, Compute<T>* bias_sums,
                const ParallelFor& parallel_for) {
  const auto kernel = kernels<T>().backward[tiling.variant];
  parallel_for(0, tiling.groups, 1, [&](int64_t begin, int64_t end) {
    using C = Compute<T>;
    Buffer<C> grad(workspace.grad.count), products(workspace.products.count);
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
  const Tiling<T> tiling(plan, batch);
  const BackwardWorkspace<T> workspace(plan, tiling, gradients.weight != nullptr, gradients.bias != nullptr);
  const int64_t groups = tiling.groups, edges = plan.num_live_edges, nodes = plan.num_computed();
  const Widened<T> widened_weight(kNarrow<T> && workspace.weight.count == 0 ? nullptr : weight, plan.num_edges,
                                  parallel_for);
  Buffer<C> out_weight(workspace.out_weight.count);
  parallel_for(0, edges, kEdgesPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) out_weight.data()[i] = widened(weight[plan.out_edge[i]]);
  });

  Buffer<C> out_sums(workspace.out_sums.count), bias_sums(workspace.bias_sums.count);
  const BackwardArrays<T> arrays{grad_y, out_weight.data(), widened_weight.data(), gradients.x, batch};
  run_groups<T>(plan, arrays, tiling, workspace, tape, gradients.weight ? out_sums.data() : nullptr,
                gradients.bias ? bias_sums.data() : nullptr, parallel_for);

  // The gradient of what reaches no output is exactly 0, and so is every gradient of an empty batch.
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

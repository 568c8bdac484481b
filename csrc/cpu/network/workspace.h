// SPDX-License-Identifier: MIT
// Sizes of what a call on the CPU allocates besides its results: drive.h allocates by them, and the planner adds them
// up for Network.memory.
#pragma once

#include <algorithm>
#include <cstdint>

#include "allocations.h"
#include "cpu/network/tiling.h"
#include "number.h"
#include "plan_view.h"

namespace freewire::cpu {

// The copy in Compute<T> of that many parameters, which 16-bit types need.
template <class T>
constexpr Elements<Compute<T>> widened_copy(int64_t count) {
  return {kNarrow<T> ? count : 0};
}

template <class T>
struct ForwardWorkspace {
  // keep: the call returns a tape, which then is all it works in.
  ForwardWorkspace(const PlanSizes& plan, const Tiling<T>& tiling, bool keep)
      : weight(widened_copy<T>(plan.num_edges)),
        bias(widened_copy<T>(plan.num_biases)),
        rows{keep ? 0 : plan.scratch_rows * tiling.columns} {}
  int64_t bytes(int64_t threads) const { return weight.bytes() + bias.bytes() + threads * rows.bytes(); }

  Elements<Compute<T>> weight, bias;
  Elements<T> rows;  // per thread
};

template <class T>
struct BackwardWorkspace {
  BackwardWorkspace(const PlanSizes& plan, const Tiling<T>& tiling, bool need_weight, bool need_bias)
      // Only nodes that are not linear read weights in their own order.
      : weight(widened_copy<T>(plan.if_gathers(plan.num_edges))),
        out_weight{plan.num_live_edges},
        out_sums{need_weight ? tiling.groups * plan.num_live_edges : 0},
        bias_sums{need_bias ? tiling.groups * plan.num_computed() : 0},
        grad{plan.num_slots * tiling.columns},
        products{plan.product_fan_in * tiling.columns} {}
  int64_t bytes(int64_t threads) const {
    return weight.bytes() + out_weight.bytes() + out_sums.bytes() + bias_sums.bytes() +
           threads * (grad.bytes() + products.bytes());
  }

  Elements<Compute<T>> weight, out_weight, out_sums, bias_sums;
  Elements<Compute<T>> grad, products;  // per thread
};

// The most that one call holds at once besides x and the parameters: a forward without gradients, or a training step.
template <class T>
int64_t call_bytes(const PlanSizes& plan, int64_t batch, bool training, int64_t threads, Wanted wanted) {
  const Tiling<T> tiling(plan, batch);
  const Results<T> results(plan, batch, wanted);
  const int64_t forward = ForwardWorkspace<T>(plan, tiling, training).bytes(std::min(threads, tiling.tiles));
  if (!training) return results.y.bytes() + forward;
  const BackwardWorkspace<T> backward(plan, tiling, wanted.parameters, wanted.parameters);
  return results.training_bytes(forward, backward.bytes(std::min(threads, tiling.groups)));
}

}  // namespace freewire::cpu

// SPDX-License-Identifier: MIT
// Sizes of what a call on the CPU allocates besides its results: forward_drive.h and backward_drive.h allocate by them,
// and the planner adds them up for Network.memory.
#pragma once

#include <algorithm>
#include <cstdint>

#include "allocations.h"
#include "cpu/network/team.h"
#include "cpu/network/tiling.h"
#include "number.h"
#include "plan_view.h"

namespace freewire::cpu {

// The copy in Compute<T> of that many parameters, which 16-bit types need.
template <class T>
constexpr Elements<Compute<T>> widened_copy(int64_t count) {
  return {kNarrow<T> ? count : 0};
}

// What threads share that go through the stages of a tile together; nothing for one thread.
inline Elements<Team::Stage> team_of(const PlanSizes& plan, int64_t threads) {
  return {threads > 1 ? plan.num_stages + 1 : 0};
}

template <class T>
struct ForwardWorkspace {
  // keep: the call returns a tape, which then is all it works in.
  ForwardWorkspace(const PlanSizes& plan, const Tiling<T>& tiling, bool keep, int64_t threads)
      : sharing(threads_by_stage(plan, tiling, threads)),
        tasks(std::min(threads, tiling.tiles)),
        weight(widened_copy<T>(plan.num_edges)),
        bias(widened_copy<T>(plan.num_biases)),
        panel{tiling.kind == kRow1 ? 0 : plan.num_panel},
        team(team_of(plan, sharing)),
        rows{keep ? 0 : plan.scratch_rows * tiling.columns} {}
  int64_t bytes() const { return weight.bytes() + bias.bytes() + panel.bytes() + team.bytes() + tasks * rows.bytes(); }

  int64_t sharing;  // threads that go through the stages of one tile
  int64_t tasks;    // at a time
  Elements<Compute<T>> weight, bias, panel;
  Elements<Team::Stage> team;
  Elements<T> rows;  // per task
};

template <class T>
struct BackwardWorkspace {
  using C = Compute<T>;
  BackwardWorkspace(const PlanSizes& plan, const Tiling<T>& tiling, bool need_weight, bool need_bias, int64_t threads)
      // Nodes that are not linear, dense blocks and few samples read weights in their own order.
      : canonical(tiling.few() || plan.gather_edges > 0 || plan.num_blocks > 0),
        slices(plan.gather_edges ? 1 : tiling.slices(threads)),
        // Rows of gradients are kept where sums over samples follow later: of a round of one tile per group.
        keeps_rows(!tiling.few() && (plan.num_blocks > 0 || slices > 1)),
        sharing(std::min(threads_by_stage(plan, tiling, threads), few_parts(plan))),
        tasks(tiling.few() ? sharing : std::min(threads, tiling.groups * slices)),
        threads(threads),
        weight(widened_copy<T>(canonical ? plan.num_edges : 0)),
        panel{tiling.few() ? 0 : plan.num_panel},
        out_weight{tiling.few() || sparse_edges(plan) == 0 ? 0 : plan.num_live_edges},
        out_sums{need_weight && !tiling.few() && sparse_edges(plan) > 0 ? tiling.groups * plan.num_live_edges : 0},
        bias_sums{need_bias ? tiling.groups * plan.num_computed() : 0},
        weight_sums(widened_copy<T>(need_weight && (tiling.few() || plan.num_blocks > 0) ? plan.num_edges : 0)),
        kept_rows{keeps_rows ? tiling.groups * plan.num_slots * tiling.columns : 0},
        few_rows{tiling.few() ? few_parts(plan) * plan.num_slots * tiling.columns : 0},
        team(team_of(plan, sharing)),
        grad{keeps_rows || tiling.few() ? 0 : plan.num_slots * tiling.columns},
        products{plan.product_fan_in * tiling.columns},
        strip{need_weight && keeps_rows && plan.num_blocks > 0 ? tiling.groups * tiling.columns * kStripColumns : 0} {}
  int64_t bytes() const {
    return weight.bytes() + panel.bytes() + out_weight.bytes() + out_sums.bytes() + bias_sums.bytes() +
           weight_sums.bytes() + kept_rows.bytes() + few_rows.bytes() + team.bytes() +
           tasks * (grad.bytes() + products.bytes()) + threads * strip.bytes();
  }
  // Live edges outside of dense blocks.
  static int64_t sparse_edges(const PlanSizes& plan) { return plan.num_live_edges - plan.num_block_edges; }

  bool canonical;
  int64_t slices;
  bool keeps_rows;
  int64_t sharing;         // threads that go through the stages of one tile
  int64_t tasks, threads;  // tasks at a time, but for weight gradients of dense blocks, which have one per thread
  Elements<C> weight, panel, out_weight, out_sums, bias_sums, weight_sums, kept_rows, few_rows;
  Elements<Team::Stage> team;
  Elements<C> grad, products, strip;  // per task
};

// The most that one call holds at once besides x and the parameters: a forward without gradients, or a training step.
template <class T>
int64_t call_bytes(const PlanSizes& plan, int64_t batch, bool training, int64_t threads, Wanted wanted) {
  const Tiling<T> tiling(plan, batch);
  const Results<T> results(plan, batch, wanted, true);
  const ForwardWorkspace<T> forward(plan, training ? tiling : tiling.shared_by(threads, batch), training, threads);
  if (!training) return results.y.bytes() + forward.bytes();
  const BackwardWorkspace<T> backward(plan, tiling, wanted.parameters, wanted.parameters, threads);
  return results.training_bytes(forward.bytes(), backward.bytes());
}

}  // namespace freewire::cpu

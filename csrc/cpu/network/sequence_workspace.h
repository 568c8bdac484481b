// SPDX-License-Identifier: MIT
// Sizes of what a call of a recurrent network on the CPU allocates besides its results; see workspace.h.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/network/workspace.h"

namespace freewire::cpu {

// From this many weights on, tiles share the sums of at most kFewGroups groups, since each has sums for all weights.
constexpr int64_t kFewGroups = 4, kFewGroupEdges = 1 << 20;

// The tiles of a sequence whose backward is to run: rows of few samples, by whose kernels it runs.
template <class T>
Tiling<T> sequence_tiling(const PlanSizes& plan, int64_t batch) {
  Tiling<T> tiling(std::min(row_kind(plan, batch, Tiling<T>::kItemBytes), kRow64), batch);
  if (plan.num_edges >= kFewGroupEdges) tiling.groups = std::min(tiling.groups, kFewGroups);
  return tiling;
}

template <class T>
struct SequenceWorkspace {
  // keep: the call returns something for a backward. every: 0, or the states before every k-th step are all of it.
  SequenceWorkspace(const PlanSizes& plan, int64_t batch, int64_t every, bool keep, int64_t threads)
      : tiling(keep ? sequence_tiling<T>(plan, batch) : Tiling<T>(plan, batch).shared_by(threads, batch)),
        sharing(threads_by_stage(plan, tiling, threads)),
        tasks(std::min(threads, tiling.tiles)),
        weight(widened_copy<T>(plan.num_edges)),
        bias(widened_copy<T>(plan.num_biases)),
        panel{tiling.kind == kRow1 ? 0 : plan.num_panel},
        rows{keep && !every ? 0 : plan.scratch_rows * tiling.columns} {}
  int64_t bytes() const {
    return weight.bytes() + bias.bytes() + panel.bytes() + std::max<int64_t>(tasks, 1) * rows.bytes();
  }

  Tiling<T> tiling;
  int64_t sharing;  // threads that go through the stages of one tile
  int64_t tasks;    // at a time
  Elements<Compute<T>> weight, bias, panel;
  Elements<T> rows;  // per task
};

template <class T>
struct SequenceBackwardWorkspace {
  using C = Compute<T>;
  SequenceBackwardWorkspace(const PlanSizes& plan, int64_t batch, int64_t every, bool need_weight, bool need_bias,
                            int64_t threads)
      : tiling(sequence_tiling<T>(plan, batch)),
        parts(tiling.few() ? few_parts(plan) : 1),
        sharing(std::min(threads_by_stage(plan, tiling, threads), parts)),
        tasks(std::min(threads, tiling.groups)),
        weight(widened_copy<T>(plan.num_edges)),
        bias(widened_copy<T>(every ? plan.num_biases : 0)),
        panel{every && tiling.kind != kRow1 ? plan.num_panel : 0},
        weight_sums{need_weight && (kNarrow<T> || tiling.groups > 1) ? tiling.groups * plan.num_edges : 0},
        bias_sums{need_bias ? tiling.groups * plan.num_computed() : 0},
        grad{parts * plan.num_slots * tiling.columns},
        products{plan.product_fan_in * tiling.columns},
        tape{every * plan.tape_rows * tiling.columns} {}
  int64_t bytes() const {
    return weight.bytes() + bias.bytes() + panel.bytes() + weight_sums.bytes() + bias_sums.bytes() +
           std::max<int64_t>(tasks, 1) * (2 * grad.bytes() + products.bytes() + tape.bytes());
  }

  Tiling<T> tiling;
  int64_t parts;
  int64_t sharing;  // threads that go through the stages of one tile
  int64_t tasks;    // at a time
  Elements<C> weight, bias, panel, weight_sums, bias_sums;
  Elements<C> grad;      // twice per task: of a step and of the one after it
  Elements<C> products;  // per task
  Elements<T> tape;      // per task: of the steps that are run once more
};

// The most that one call over a sequence holds at once besides x, the states and the parameters: a forward without
// gradients, or a training step.
template <class T>
int64_t sequence_bytes(const PlanSizes& plan, int64_t batch, int64_t steps, int64_t every, bool training,
                       int64_t threads, Wanted wanted) {
  const SequenceWorkspace<T> forward(plan, batch, every, training, threads);
  const Elements<T> y{steps * batch * plan.num_results}, states{batch * plan.num_states};
  if (!training) return y.bytes() + states.bytes() + forward.bytes();
  const int64_t chunk = std::min(every, steps);
  const SequenceBackwardWorkspace<T> backward(plan, batch, chunk, wanted.parameters, wanted.parameters, threads);
  const Elements<T> kept{kept_of_sequence(plan, batch, steps, every, true)};
  const Elements<T> grad_x{wanted.x ? steps * batch * (plan.num_inputs - plan.num_states) : 0};
  const Elements<T> parameters{wanted.parameters ? plan.num_edges + plan.num_biases : 0};
  const int64_t gradients = grad_x.bytes() + states.bytes() + parameters.bytes();
  return 2 * (y.bytes() + states.bytes()) + kept.bytes() + std::max(forward.bytes(), gradients + backward.bytes());
}

}  // namespace freewire::cpu

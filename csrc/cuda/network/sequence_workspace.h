// SPDX-License-Identifier: MIT
// Sizes of what a call of a recurrent network on a GPU allocates besides its results; see workspace.h.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cuda/network/workspace.h"

namespace freewire::cuda {

// Sums of weight gradients over the steps, where grad_weight cannot hold them; and of bias gradients, by node.
template <class T>
constexpr int64_t step_weight_sums(const PlanSizes& plan, int64_t batch) {
  return adds_slices<T>(batch) ? slices_of(batch) * plan.num_edges : 0;
}
constexpr int64_t step_bias_sums(const PlanSizes& plan, int64_t batch) {
  return slices_of(batch) * plan.num_computed();
}

// Columns are those of the tile, 0 where the call streams.
template <class T>
struct SequenceWorkspace {
  // tapes: the tape of each step is kept. again: the forward runs once more, for a backward, and returns nothing.
  SequenceWorkspace(const PlanSizes& plan, int64_t batch, bool tapes, bool again, int columns)
      : step(plan, batch, tapes, columns),
        x{batch * plan.num_inputs},
        y{again || plan.num_outputs > plan.num_results ? batch * plan.num_outputs : 0} {}
  int64_t bytes() const { return step.bytes() + x.bytes() + y.bytes(); }

  ForwardWorkspace<T> step;
  Elements<T> x, y;  // of one step, states included
};

template <class T>
struct SequenceBackwardWorkspace {
  using C = Compute<T>;
  // chunk: steps that run once more at a time, or 0. columns: of the backward; forward_columns: of those steps.
  SequenceBackwardWorkspace(const PlanSizes& plan, int64_t batch, int64_t chunk, bool need_weight, bool need_bias,
                            int columns, int forward_columns)
      : step(plan, batch, false, columns),
        partial{(need_weight ? step_weight_sums<T>(plan, batch) : 0) + (need_bias ? step_bias_sums(plan, batch) : 0)},
        grad_y{batch * plan.num_outputs},
        grad_x{batch * plan.num_inputs},
        state_of_output{plan.num_outputs},
        again(plan, chunk ? batch : 0, true, true, forward_columns),
        tape{chunk * plan.tape_rows * pitch_of(batch)},
        runs_again(chunk > 0) {}
  int64_t bytes() const {
    return step.bytes() + partial.bytes() + grad_y.bytes() + grad_x.bytes() + state_of_output.bytes() +
           (runs_again ? again.bytes() + tape.bytes() : 0);
  }

  BackwardWorkspace<T> step;
  Elements<C> partial, grad_y, grad_x;  // sums over the steps; gradients of one step, states included
  Elements<int32_t> state_of_output;
  SequenceWorkspace<T> again;
  Elements<T> tape;
  bool runs_again;
};

// The most that one call over a sequence holds at once besides x, the states and the parameters: a forward without
// gradients, or a training step.
template <class T>
int64_t sequence_bytes(const PlanSizes& plan, int64_t batch, int64_t steps, int64_t every, bool training,
                       const Device& device, Wanted wanted) {
  const bool tapes = training && !every;
  const int columns = widest_tile(plan, forward_rows(plan, tapes), sizeof(T), device);
  const SequenceWorkspace<T> forward(plan, batch, tapes, false, columns);
  const Elements<T> y{steps * batch * plan.num_results}, states{batch * plan.num_states};
  if (!training) return y.bytes() + states.bytes() + forward.bytes();
  const SequenceBackwardWorkspace<T> backward(plan, batch, std::min(every, steps), wanted.parameters, wanted.parameters,
                                              widest_tile(plan, plan.num_slots, sizeof(Compute<T>), device),
                                              widest_tile(plan, plan.num_slots, sizeof(T), device));
  const Elements<T> kept{kept_of_sequence(plan, batch, steps, every, false)};
  const Elements<T> grad_x{wanted.x ? steps * batch * (plan.num_inputs - plan.num_states) : 0};
  const Elements<T> parameters{wanted.parameters ? plan.num_edges + plan.num_biases : 0};
  const int64_t gradients = grad_x.bytes() + states.bytes() + parameters.bytes();
  return 2 * (y.bytes() + states.bytes()) + kept.bytes() + std::max(forward.bytes(), gradients + backward.bytes());
}

}  // namespace freewire::cuda

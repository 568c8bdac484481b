// SPDX-License-Identifier: MIT
// A recurrent network over a whole sequence: the plan is that of one time step, whose last inputs, the states, hold
// values of the step before.
//
// Tiles of the batch never meet in time either, so one task runs all steps of a tile, its states in the cache; where
// the batch is one tile of few samples, threads share the stages of each step. forward_drive.h says what parallel_for
// is, sequence_workspace.h has the sizes of all that is allocated, and sequence_backward.h is the backward.
//
// What is kept for the backward is the tape of every step [tiles, steps, tape_rows, columns], or the states before
// every k-th step [tiles, ceil(steps / k), V, columns].
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/network/forward_drive.h"
#include "cpu/network/sequence_workspace.h"

namespace freewire::cpu {

// The arguments of the forward. states are those before the first step, last_states those after the last.
template <class T>
struct SequenceCall {
  const T* x;       // [steps, batch, I - V]
  const T* states;  // [batch, V]
  const T* weight;  // [E]
  const T* bias;    // [num_biases], or null
  T* y;             // [steps, batch, num_results]; null where the forward runs once more
  T* last_states;   // [batch, V]; likewise
  int64_t batch, steps;
  int64_t every;  // the k of the header comment, or 0
};

// Views of a plan by which kernels read and write a part of its inputs and outputs.
struct StepViews {
  explicit StepViews(const PlanView& plan) : features(plan), states(plan), next(plan) {
    features.num_inputs = plan.num_inputs - plan.num_states;
    features.num_outputs = plan.num_results;
    states.num_inputs = plan.num_states;
    next.output_slot = plan.state_source;
    next.num_outputs = plan.num_states;
  }
  PlanView features;  // the features, and the results
  PlanView states;    // the states as the first inputs
  PlanView next;      // the states of the next step as outputs
};

// The steps of one tile, forwards. keep: the rows are a tape, plan.tape_rows for each step; otherwise all steps work in
// the same plan.scratch_rows.
template <class T>
class ForwardSteps {
 public:
  ForwardSteps(const PlanView& plan, const SequenceCall<T>& call, const ForwardArrays<T>& arrays,
               const Tiling<T>& tiling, bool keep)
      : plan_(plan), views_(plan), call_(call), arrays_(arrays), tiling_(tiling), keep_(keep) {}

  // Runs the steps [first, last) of a tile. rows: those of the first step, which hold its states. threads: how many go
  // through the stages together.
  template <class ParallelFor>
  void run(int64_t tile, int64_t first, int64_t last, T* rows, int64_t threads, const ParallelFor& parallel_for) const {
    const bool prefetch = fetches_early<T>(keep_ ? plan_.tape_rows : plan_.scratch_rows, tiling_.columns);
    const auto run_nodes = kernels<T>().network.run[tiling_.kind];
    if (threads == 1) {
      for (int64_t t = first; t < last; ++t) {
        T* now = rows_of(t - first, rows);
        begin_step(tile, t, t > first, now);
        run_nodes(plan_, arrays_, 0, plan_.num_computed(), keep_, prefetch, now);
        end_step(tile, t, now);
      }
      return;
    }
    // The stages of a step, and one before and one after them.
    const StageCut cut(plan_, threads, kFewestItemEdges);
    const int64_t stages = plan_.num_stages + 2;
    Team team((last - first) * stages);
    parallel_for(0, threads, 1, [&](int64_t, int64_t) {
      team.run(
          [&](int64_t i) {
            const int64_t stage = i % stages - 1;
            return stage < 0 || stage == plan_.num_stages ? 1 : cut.items(stage);
          },
          [&](int64_t i, int64_t item) {
            const int64_t t = first + i / stages, stage = i % stages - 1;
            T* now = rows_of(t - first, rows);
            if (stage < 0) return begin_step(tile, t, t > first, now);
            if (stage == plan_.num_stages) return end_step(tile, t, now);
            const int64_t items = cut.items(stage);
            run_nodes(plan_, arrays_, cut.begin(stage, item, items), cut.begin(stage, item + 1, items), keep_, prefetch,
                      now);
          });
    });
  }

  // states [batch, V] into the rows of a step's states.
  void read_states(int64_t tile, const T* states, T* rows) const {
    ForwardArrays<T> arrays = arrays_;
    arrays.x = states;
    kernels<T>().network.read[tiling_.kind](views_.states, arrays, tile * tiling_.columns, states_in(rows));
  }
  // The states after a step, whose rows these are, to [batch, V].
  void write_states(int64_t tile, T* rows, T* to) const {
    ForwardArrays<T> arrays = arrays_;
    arrays.y = to;
    kernels<T>().network.write[tiling_.kind](views_.next, arrays, tile * tiling_.columns, keep_, rows);
  }
  // The states after a step into the rows of the states of another, or of the same.
  void advance_states(const T* before, T* rows) const {
    const int64_t columns = tiling_.columns;
    const bool moved = !keep_ && plan_.reuses_rows();
    T* states = states_in(rows);
    // A state's source is no later state, so it is read before it is written.
    for (int64_t state = plan_.num_states - 1; state >= 0; --state) {
      const int64_t slot = plan_.state_source[state];
      const int64_t row = moved ? plan_.inference_row[slot] : slot;
      std::copy_n(before + row * columns, columns, states + state * columns);
    }
  }
  // The rows of a step's states.
  T* states_in(T* rows) const { return rows + (plan_.num_inputs - plan_.num_states) * tiling_.columns; }
  // The rows of a step, given those of an earlier one.
  T* rows_of(int64_t steps_later, T* rows) const {
    return keep_ ? rows + steps_later * plan_.tape_rows * tiling_.columns : rows;
  }

 private:
  void begin_step(int64_t tile, int64_t t, bool advance, T* rows) const {
    if (advance) advance_states(keep_ ? rows - plan_.tape_rows * tiling_.columns : rows, rows);
    ForwardArrays<T> arrays = arrays_;
    arrays.x = call_.x + t * call_.batch * views_.features.num_inputs;
    kernels<T>().network.read[tiling_.kind](views_.features, arrays, tile * tiling_.columns, rows);
  }

  void end_step(int64_t tile, int64_t t, T* rows) const {
    ForwardArrays<T> arrays = arrays_;
    PlanView view = views_.features;
    if (call_.y) {
      arrays.y = call_.y + t * call_.batch * view.num_outputs;
    } else {
      view.num_outputs = 0;  // what is left to do is to clear the samples past the batch's end
    }
    kernels<T>().network.write[tiling_.kind](view, arrays, tile * tiling_.columns, keep_, rows);
  }

  const PlanView& plan_;
  const StepViews views_;
  const SequenceCall<T>& call_;
  const ForwardArrays<T>& arrays_;
  const Tiling<T> tiling_;
  const bool keep_;
};

// kept: as the header comment says, or null to keep nothing.
template <class T, class ParallelFor>
void run_sequence(const PlanView& plan, const SequenceCall<T>& call, T* kept, const ParallelFor& parallel_for) {
  if (call.steps == 0) {
    std::copy_n(call.states, call.batch * plan.num_states, call.last_states);
    return;
  }
  const SequenceWorkspace<T> space(plan, call.batch, call.every, kept != nullptr, parallel_for.threads());
  const Tiling<T>& tiling = space.tiling;
  const Widened<T> weight(call.weight, plan.num_edges, parallel_for), bias(call.bias, plan.num_biases, parallel_for);
  const Panels<Compute<T>> panel(space.panel.count ? plan : PlanView{}, weight.data(), parallel_for);
  const ForwardArrays<T> arrays{call.x, weight.data(), panel.data(), bias.data(), nullptr, call.batch};
  const bool keeps_tape = kept && !call.every, keeps_states = kept && call.every;
  const ForwardSteps<T> steps(plan, call, arrays, tiling, keeps_tape);
  const int64_t chunk = keeps_states ? std::min(call.every, call.steps) : call.steps;
  const int64_t chunks = chunks_of(call.steps, chunk);
  const int64_t state_elements = plan.num_states * tiling.columns;
  const auto run_tile = [&](int64_t tile, T* scratch, int64_t threads) {
    T* rows = keeps_tape ? kept + tile * call.steps * plan.tape_rows * tiling.columns : scratch;
    steps.read_states(tile, call.states, rows);
    for (int64_t c = 0; c < chunks; ++c) {
      if (c) steps.advance_states(rows, rows);
      if (keeps_states) std::copy_n(steps.states_in(rows), state_elements, kept + (tile * chunks + c) * state_elements);
      steps.run(tile, c * chunk, std::min((c + 1) * chunk, call.steps), rows, threads, parallel_for);
    }
    steps.write_states(tile, steps.rows_of(call.steps - 1, rows), call.last_states);
  };
  if (space.sharing > 1) {
    Buffer<T> scratch(space.rows.count);
    return run_tile(0, scratch.data(), space.sharing);
  }
  parallel_for(0, tiling.tiles, 1, [&](int64_t first, int64_t last) {
    Buffer<T> scratch(space.rows.count);
    for (int64_t tile = first; tile < last; ++tile) run_tile(tile, scratch.data(), 1);
  });
}

}  // namespace freewire::cpu

// SPDX-License-Identifier: MIT
// The backward of a recurrent network over a whole sequence; see sequence_drive.h.
//
// A tile goes through its steps backwards, each by the kernels of few samples, which push gradients to sources. What
// the states of a step receive is added to the gradients of their sources in the step before. The sums of weight
// gradients go on from step to step and from tile to tile of a group; those of the groups are added in order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/network/backward_drive.h"
#include "cpu/network/sequence_drive.h"

namespace freewire::cpu {

// The gradients that the backward writes; null for those that are not wanted.
template <class T>
struct SequenceGradients {
  T* x;       // [steps, batch, I - V]
  T* states;  // [batch, V]
  T* weight;  // [E]
  T* bias;    // [num_biases]
};

template <class T, class ParallelFor>
class SequenceBackward {
 public:
  using C = Compute<T>;
  // call: that of the forward, without its results. grad_y: [steps, batch, num_results]. grad_last: [batch, V], of the
  // states after the last step. kept: from run_sequence().
  SequenceBackward(const PlanView& plan, const SequenceCall<T>& call, const T* grad_y, const T* grad_last,
                   const T* kept, const SequenceGradients<T>& gradients, const ParallelFor& parallel_for)
      : plan_(plan),
        views_(plan),
        call_(call),
        grad_y_(grad_y),
        grad_last_(grad_last),
        kept_(kept),
        gradients_(gradients),
        parallel_for_(parallel_for),
        chunk_(call.every ? std::min(call.every, call.steps) : call.steps),
        space_(plan, call.batch, call.every ? chunk_ : 0, gradients.weight != nullptr, gradients.bias != nullptr,
               parallel_for.threads()),
        tiling_(space_.tiling),
        weight_(call.weight, plan.num_edges, parallel_for),
        bias_(space_.tape.count ? call.bias : nullptr, plan.num_biases, parallel_for),
        panel_(space_.panel.count ? plan : PlanView{}, weight_.data(), parallel_for),
        weight_sums_(space_.weight_sums.count),
        bias_sums_(space_.bias_sums.count),
        forward_arrays_{call.x, weight_.data(), panel_.data(), bias_.data(), nullptr, call.batch},
        forward_(plan, call, forward_arrays_, tiling_, true) {}

  void run() {
    fill_dead();
    if (tiling_.groups == 0) return;
    if (call_.steps == 0) {
      if (gradients_.states) std::copy_n(grad_last_, call_.batch * plan_.num_states, gradients_.states);
      return;
    }
    if (space_.sharing > 1) {
      Memory memory(space_);
      run_tile(0, memory);
    } else {
      parallel_for_(0, tiling_.groups, 1, [&](int64_t begin, int64_t end) {
        Memory memory(space_);
        for (int64_t group = begin; group < end; ++group) {
          for (int64_t tile = group; tile < tiling_.tiles; tile += tiling_.groups) run_tile(tile, memory);
        }
      });
    }
    finish();
  }

 private:
  // What a task works in.
  struct Memory {
    explicit Memory(const SequenceBackwardWorkspace<T>& space)
        : even(space.grad.count), odd(space.grad.count), products(space.products.count), tape(space.tape.count) {}
    C* grad(int64_t t) { return t % 2 ? odd.data() : even.data(); }
    Buffer<C> even, odd, products;
    Buffer<T> tape;
  };

  bool is_void() const { return tiling_.groups == 0 || call_.steps == 0; }

  // The gradient of what reaches no output is exactly 0, and so is every gradient of an empty batch or sequence.
  void fill_dead() {
    if (gradients_.weight && (is_void() || plan_.num_live_edges < plan_.num_edges)) {
      std::fill_n(gradients_.weight, plan_.num_edges, T{});
    }
    if (gradients_.bias) std::fill_n(gradients_.bias, plan_.num_biases, T{});
  }

  C* weight_sums(int64_t group) {
    if (!gradients_.weight) return nullptr;
    if (space_.weight_sums.count) return weight_sums_.data() + group * plan_.num_edges;
    if constexpr (kNarrow<T>) {
      return nullptr;
    } else {
      return gradients_.weight;
    }
  }

  void run_tile(int64_t tile, Memory& memory) {
    const int64_t chunks = chunks_of(call_.steps, chunk_), columns = tiling_.columns;
    const int64_t state_elements = plan_.num_states * columns;
    for (int64_t c = chunks - 1; c >= 0; --c) {
      const int64_t first = c * chunk_, last = std::min(first + chunk_, call_.steps);
      const T* tape = kept_ + tile * call_.steps * plan_.tape_rows * columns;
      if (call_.every) {
        T* rows = memory.tape.data();
        std::copy_n(kept_ + (tile * chunks + c) * state_elements, state_elements, forward_.states_in(rows));
        forward_.run(tile, first, last, rows, space_.sharing, parallel_for_);
        tape = rows;
      }
      run_steps(tile, first, last, tape, memory);
    }
    if (gradients_.states) write_states(tile, memory.grad(0));
  }

  // The steps [first, last), backwards. tape: that of the first.
  void run_steps(int64_t tile, int64_t first, int64_t last, const T* tape, Memory& memory) {
    const int64_t parts = space_.parts;
    const StageCut cut(plan_, parts, kFewestItemEdges);
    // Of each step: gradients of results; of states; the stages, unless one thread runs all nodes at once; grad_x.
    const bool by_stage = parts > 1;
    const int64_t own_stages = by_stage ? plan_.num_stages : 1, stages = own_stages + 3;
    const auto items = [&](int64_t i) {
      const int64_t stage = i % stages - 2;
      if (stage == -2) return parts;
      return by_stage && stage >= 0 && stage < own_stages ? cut.items(own_stages - 1 - stage) : int64_t{1};
    };
    const auto run_item = [&](int64_t i, int64_t item, C* products) {
      const int64_t t = last - 1 - i / stages, stage = i % stages - 2;
      const Step step(*this, tile, t, memory.grad(t), products);
      const auto& own = kernels<T>().network;
      const RowKind kind = tiling_.kind;
      const T* rows = tape + (t - first) * plan_.tape_rows * tiling_.columns;
      if (stage == -2) {
        own.few_start[kind](views_.features, step.arrays, item, step.scratch);
      } else if (stage == -1) {
        add_states(tile, t, memory.grad(t + 1), memory.grad(t));
      } else if (stage == own_stages) {
        own.few_finish[kind](views_.features, step.arrays, step.scratch);
      } else if (!by_stage) {
        own.few_run[kind](plan_, step.arrays, 0, 0, plan_.num_computed(), rows, step.scratch);
      } else {
        const int64_t at = own_stages - 1 - stage, count = cut.items(at);
        own.few_run[kind](plan_, step.arrays, item, cut.begin(at, item, count), cut.begin(at, item + 1, count), rows,
                          step.scratch);
      }
    };
    const int64_t all = (last - first) * stages;
    if (space_.sharing > 1) {
      Team team(all);
      parallel_for_(0, space_.sharing, 1, [&](int64_t, int64_t) {
        Buffer<C> products(space_.products.count);
        team.run(items, [&](int64_t i, int64_t item) { run_item(i, item, products.data()); });
      });
      return;
    }
    for (int64_t i = 0; i < all; ++i) {
      const int64_t count = items(i);
      for (int64_t item = 0; item < count; ++item) run_item(i, item, memory.products.data());
    }
  }

  // The arguments of the kernels for one step of a tile.
  struct Step {
    Step(SequenceBackward& run, int64_t tile, int64_t t, C* grad, C* products) {
      const PlanView& plan = run.plan_;
      const int64_t begin = tile * run.tiling_.columns, sample = t * run.call_.batch + begin;
      const int64_t group = tile % run.tiling_.groups;
      T* grad_x = run.gradients_.x;
      arrays = {run.grad_y_ + sample * plan.num_results,
                nullptr,
                run.weight_.data(),
                nullptr,
                grad_x ? grad_x + sample * run.views_.features.num_inputs : nullptr,
                std::min(run.call_.batch - begin, run.tiling_.columns)};
      scratch = {grad,
                 products,
                 run.weight_sums(group),
                 run.gradients_.bias ? run.bias_sums_.data() + group * plan.num_computed() : nullptr,
                 run.space_.parts,
                 tile < run.tiling_.groups && t == run.call_.steps - 1};
    }
    BackwardArrays<T> arrays;
    FewScratch<C> scratch;
  };

  // Adds the gradients of the states of the step after t to those of their sources, in the first part.
  void add_states(int64_t tile, int64_t t, const C* after, C* grad) const {
    const int64_t columns = tiling_.columns, begin = tile * columns;
    const int64_t live = std::min(call_.batch - begin, columns);
    for (int64_t state = 0; state < plan_.num_states; ++state) {
      C* row = grad + plan_.state_source[state] * columns;
      if (t == call_.steps - 1) {
        for (int64_t c = 0; c < live; ++c) row[c] += widened(grad_last_[(begin + c) * plan_.num_states + state]);
        continue;
      }
      for (int64_t part = 0; part < space_.parts; ++part) {
        const C* from = state_row(after, part, state);
        for (int64_t c = 0; c < columns; ++c) row[c] += from[c];
      }
    }
  }

  void write_states(int64_t tile, const C* grad) const {
    const int64_t columns = tiling_.columns, begin = tile * columns;
    const int64_t live = std::min(call_.batch - begin, columns);
    for (int64_t state = 0; state < plan_.num_states; ++state) {
      for (int64_t c = 0; c < live; ++c) {
        C sum = C(0);
        for (int64_t part = 0; part < space_.parts; ++part) sum += state_row(grad, part, state)[c];
        gradients_.states[(begin + c) * plan_.num_states + state] = narrowed<T>(sum);
      }
    }
  }

  const C* state_row(const C* grad, int64_t part, int64_t state) const {
    return grad + (part * plan_.num_slots + plan_.num_inputs - plan_.num_states + state) * tiling_.columns;
  }

  void finish() {
    if (space_.weight_sums.count) {
      parallel_for_(0, plan_.num_computed(), kFewestBlockNodes, [&](int64_t first, int64_t last) {
        for (int64_t node = first; node < last; ++node) {
          for (int64_t e = plan_.in_begin[node]; e < plan_.in_end[node]; ++e) {
            gradients_.weight[e] = narrowed<T>(ordered_sum(weight_sums_.data(), tiling_.groups, plan_.num_edges, e));
          }
        }
      });
    }
    // The parts of leaky nodes share the last bias; no other entry has more than one node.
    C shared = C(0);
    for (int64_t i = 0; gradients_.bias && i < plan_.num_computed(); ++i) {
      C sum = ordered_sum(bias_sums_.data(), tiling_.groups, plan_.num_computed(), i);
      if (plan_.bias_index[i] == plan_.num_biases - 1) sum = shared += sum;
      gradients_.bias[plan_.bias_index[i]] = narrowed<T>(sum);
    }
  }

  const PlanView& plan_;
  const StepViews views_;
  const SequenceCall<T>& call_;
  const T *grad_y_, *grad_last_, *kept_;
  const SequenceGradients<T>& gradients_;
  const ParallelFor& parallel_for_;
  const int64_t chunk_;  // steps that are run at a time
  const SequenceBackwardWorkspace<T> space_;
  const Tiling<T> tiling_;
  const Widened<T> weight_, bias_;
  const Panels<C> panel_;
  Buffer<C> weight_sums_, bias_sums_;
  const ForwardArrays<T> forward_arrays_;
  const ForwardSteps<T> forward_;
};

}  // namespace freewire::cpu

// SPDX-License-Identifier: MIT
// Runs a sequence through the CUDA kernels on the CPU, for one width of tile; see cuda_run.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cuda/network/sequence.h"
#include "testing/cases/cuda_run.h"
#include "testing/cases/sequence_case.h"

namespace freewire::testing {

// The memory of a forward; every array has exactly the size that sequence_workspace.h gives it.
template <class T>
struct SequenceMemory {
  using C = Compute<T>;
  explicit SequenceMemory(const cuda::SequenceWorkspace<T>& space)
      : rows(space.step.rows.count),
        x(space.x.count),
        y(space.y.count),
        edges(space.step.edges.count),
        nodes(space.step.nodes.count),
        begins(space.step.begins.count) {}

  cuda::SequenceArrays<T> arrays(const SequenceCase<T>& given, int64_t every) const {
    cuda::SequenceArrays<T> all{};
    all.x = given.x.data();
    all.states = given.states.data();
    all.step_x = x.data();
    all.step_y = y.data();
    all.steps = given.steps;
    all.every = every;
    all.step = {nullptr,     given.weight.data(), given.bias.data(), nullptr,       nullptr,
                rows.data(), edges.data(),        nodes.data(),      begins.data(), given.batch};
    return all;
  }

  Exact<T> rows, x, y;
  Exact<cuda::Edge<C>> edges;
  Exact<cuda::ForwardNode<C>> nodes;
  Exact<int32_t> begins;
};

// y and the last states.
template <class T>
std::pair<Exact<T>, Exact<T>> cuda_sequence(const SequenceCase<T>& given, int64_t every, int columns,
                                            const Exact<T>* kept) {
  const PlanView& plan = given.split_plan.view();
  const SequenceMemory<T> memory(cuda::SequenceWorkspace<T>(plan, given.batch, kept && !every, false, columns));
  Exact<T> y(given.steps * given.batch * plan.num_results), last(given.batch * plan.num_states);
  cuda::SequenceArrays<T> arrays = memory.arrays(given, every);
  arrays.y = y.data();
  arrays.last_states = last.data();
  arrays.kept = kept ? kept->data() : nullptr;
  cuda::run_sequence(plan, arrays, columns, nullptr);
  expect_launched();
  return {std::move(y), std::move(last)};
}

template <class T>
void cuda_sequence_backward(const SequenceCase<T>& given, int64_t every, int columns, const Exact<T>& kept,
                            const Exact<T>& grad_x, const Exact<T>& grad_states, const Exact<T>& grad_weight,
                            const Exact<T>& grad_bias) {
  using C = Compute<T>;
  const PlanView& plan = given.split_plan.view();
  const int64_t chunk = std::min(every, given.steps);
  const cuda::SequenceBackwardWorkspace<T> space(plan, given.batch, chunk, grad_weight.size() > 0, grad_bias.size() > 0,
                                                 columns, columns);
  const Exact<C> delta(space.step.delta.count), shares(space.step.shares.count), rows(space.step.rows.count);
  const Exact<C> partial(space.partial.count), step_y(space.grad_y.count), step_x(space.grad_x.count);
  const Exact<cuda::Edge<C>> edges(space.step.edges.count);
  const Exact<cuda::BackwardSlot<C>> slots(space.step.slots.count);
  const Exact<int32_t> begins(space.step.begins.count), sources(space.state_of_output.count);
  const Exact<T> tape(space.tape.count);
  const SequenceMemory<T> again(space.again);
  cuda::SequenceArrays<T> forward = again.arrays(given, every);
  forward.kept = tape.data();
  cuda::BackwardArrays<T> step{};
  step.weight = given.weight.data();
  step.grad_weight = grad_weight.data();
  step.grad_bias = grad_bias.data();
  step.delta = delta.data();
  step.shares = shares.data();
  step.rows = rows.data();
  step.edges = edges.data();
  step.slots = slots.data();
  step.begins = begins.data();
  step.partial = partial.data();
  step.batch = given.batch;
  cuda::run_sequence_backward<T>(plan, forward,
                                 {kept.data(), given.grad_y.data(), given.grad_last.data(), grad_x.data(),
                                  grad_states.data(), step_y.data(), step_x.data(), sources.data(), step},
                                 columns, columns, nullptr);
  expect_launched();
}

// columns: width of the tile, or 0 for the streamed regime. Runs a sequence that keeps nothing, tapes, and the states
// before each of every or every other step, with all gradients and with those of the parameters.
template <class T>
std::vector<Result<T>> cuda_sequence_run(const SequenceCase<T>& given, int columns) {
  const PlanView& plan = given.split_plan.view();
  const std::string where = columns ? ", tiles of " + std::to_string(columns) : ", streamed";
  std::vector<Result<T>> results;
  const auto add = [&](const std::string& name, Exact<T>&& values, const Expected& expected) {
    results.push_back({name + where, std::move(values), &expected});
  };
  auto [y, last] = cuda_sequence<T>(given, 0, columns, nullptr);
  add("y of a sequence without a tape", std::move(y), given.y);
  add("last states without a tape", std::move(last), given.last);
  for (const int64_t every : {0, 1, 2}) {
    const std::string how = every ? ", every " + std::to_string(every) : "";
    const Exact<T> kept(kept_of_sequence(plan, given.batch, given.steps, every, false));
    auto [y, last] = cuda_sequence(given, every, columns, &kept);
    add("y of a sequence" + how, std::move(y), given.y);
    add("last states" + how, std::move(last), given.last);
    for (const bool all : {false, true}) {
      const std::string which = (all ? " of all gradients" : " of the parameters'") + how;
      Exact<T> grad_x(all ? given.x.size() : 0), grad_states(all ? given.states.size() : 0);
      Exact<T> grad_weight(given.weight.size()), grad_bias(given.bias.size());
      cuda_sequence_backward(given, every, columns, kept, grad_x, grad_states, grad_weight, grad_bias);
      if (all) {
        add("grad_x" + which, std::move(grad_x), given.grad_x);
        add("grad_states" + which, std::move(grad_states), given.grad_states);
      }
      add("grad_weight" + which, std::move(grad_weight), given.grad_weight);
      if (given.has_bias) add("grad_bias" + which, std::move(grad_bias), given.grad_bias);
    }
  }
  return results;
}

}  // namespace freewire::testing

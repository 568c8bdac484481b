// SPDX-License-Identifier: MIT
// A recurrent network over a sequence, read from a file that tests/support/sanitize.py wrote, and run by the CPU
// kernels in every way that they can be called.
//
// The file is little-endian: the eight letters "fwsequ01"; int64 each: the numbers' type, the steps, the batch, `every`
// of cpu/network/sequence_drive.h, 1 if there is a bias, 1 if results are given; then arrays as in case_file.h: the
// packed plan of a step, x, states, weight, bias, grad_y and grad_last and, each after its tolerance, y, the last
// states, grad_x, grad_states, grad_weight and grad_bias. Nothing follows.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cpu/network/sequence_backward.h"
#include "cpu/network/sequence_drive.h"
#include "testing/cases/case_file.h"
#include "testing/cases/exact.h"
#include "testing/cases/results.h"
#include "testing/cases/sanitize_run.h"

namespace freewire::testing {

template <class T>
struct SequenceCase {
  // reader: just after the type.
  explicit SequenceCase(CaseReader& reader)
      : steps(within(reader, "steps", kMaxSteps)),
        batch(within(reader, "batch", kMaxBatch)),
        every(within(reader, "every", kMaxSteps)),
        has_bias(reader.number<int64_t>("has_bias") != 0),
        has_results(reader.number<int64_t>("has_results") != 0),
        split_plan(reader.array<int64_t>("plan", -1)) {
    const PlanView& plan = split_plan.view();
    const int64_t num_biases = has_bias ? plan.num_biases : 0, num_x = steps * batch * num_features();
    x = reader.array<T>("x", num_x);
    states = reader.array<T>("states", batch * plan.num_states);
    weight = reader.array<T>("weight", plan.num_edges);
    bias = reader.array<T>("bias", num_biases);
    grad_y = reader.array<T>("grad_y", steps * batch * plan.num_results);
    grad_last = reader.array<T>("grad_last", batch * plan.num_states);
    const auto expected = [&](const char* name, int64_t wanted) {
      const auto tolerance = reader.number<double>(name);
      return Expected{tolerance, reader.array<double>(name, has_results ? wanted : 0)};
    };
    y = expected("y", grad_y.size());
    last = expected("last", grad_last.size());
    grad_x = expected("grad_x", num_x);
    grad_states = expected("grad_states", states.size());
    grad_weight = expected("grad_weight", plan.num_edges);
    grad_bias = expected("grad_bias", num_biases);
    reader.expect_end();
  }
  int64_t num_features() const { return split_plan.view().num_inputs - split_plan.view().num_states; }
  // Elements of what the forward keeps: whole tiles, without the padding that freewire::sequence adds.
  int64_t num_kept() const {
    const PlanView& plan = split_plan.view();
    const cpu::Tiling<T> tiling = cpu::sequence_tiling<T>(plan, batch);
    const int64_t rows = every ? chunks_of(steps, every) * plan.num_states : steps * plan.tape_rows;
    return tiling.tiles * tiling.columns * rows;
  }

  int64_t steps, batch, every;
  bool has_bias, has_results;
  SplitPlan split_plan;
  Exact<T> x, states, weight, bias, grad_y, grad_last;
  Expected y, last, grad_x, grad_states, grad_weight, grad_bias;

 private:
  static int64_t within(CaseReader& reader, const char* name, int64_t most) {
    const auto value = reader.number<int64_t>(name);
    if (value < 0 || value > most) {
      throw std::runtime_error(std::string(name) + ": expected 0 to " + std::to_string(most) + ", got " +
                               std::to_string(value) + ".");
    }
    return value;
  }
};

// y and last: null in the call of a backward.
template <class T>
cpu::SequenceCall<T> sequence_call(const SequenceCase<T>& given, const Exact<T>& y = {}, const Exact<T>& last = {}) {
  return {given.x.data(), given.states.data(), given.weight.data(), given.bias.data(), y.data(),
          last.data(),    given.batch,         given.steps,         given.every};
}

template <class T>
void forward(const SequenceCase<T>& given, int threads, const Exact<T>& y, const Exact<T>& last, const Exact<T>* kept) {
  cpu::run_sequence(given.split_plan.view(), sequence_call(given, y, last), kept ? kept->data() : nullptr,
                    StdThreads{threads});
}

template <class T>
void backward(const SequenceCase<T>& given, int threads, const Exact<T>& kept,
              const cpu::SequenceGradients<T>& gradients) {
  const StdThreads parallel_for{threads};
  cpu::SequenceBackward<T, StdThreads>(given.split_plan.view(), sequence_call(given), given.grad_y.data(),
                                       given.grad_last.data(), kept.data(), gradients, parallel_for)
      .run();
}

// The results without and with something kept for the backward; then each gradient alone, and all.
template <class T>
std::vector<Result<T>> run(const SequenceCase<T>& given, int threads) {
  const PlanView& plan = given.split_plan.view();
  std::vector<Result<T>> results;
  const auto add = [&](const std::string& name, Exact<T>& values, const Expected& expected) {
    results.push_back({name, std::move(values), &expected});
  };
  const Exact<T> kept(given.num_kept());
  for (const bool keep : {false, true}) {
    Exact<T> y(given.grad_y.size()), last(given.grad_last.size());
    forward(given, threads, y, last, keep ? &kept : nullptr);
    add(keep ? "y with a tape" : "y without a tape", y, given.y);
    add(keep ? "last with a tape" : "last without a tape", last, given.last);
  }
  for (const int wanted : {1, 2, 4, 7}) {
    Exact<T> grad_x(wanted & 1 ? given.x.size() : 0), grad_states(wanted & 2 ? given.states.size() : 0);
    Exact<T> grad_weight(wanted & 4 ? plan.num_edges : 0), grad_bias(wanted & 4 ? given.bias.size() : 0);
    backward<T>(given, threads, kept, {grad_x.data(), grad_states.data(), grad_weight.data(), grad_bias.data()});
    const std::string which = wanted == 7 ? " of all gradients" : " alone";
    if (wanted & 1) add("grad_x" + which, grad_x, given.grad_x);
    if (wanted & 2) add("grad_states" + which, grad_states, given.grad_states);
    if (!(wanted & 4)) continue;
    add("grad_weight" + which, grad_weight, given.grad_weight);
    if (given.has_bias) add("grad_bias" + which, grad_bias, given.grad_bias);
  }
  return results;
}

}  // namespace freewire::testing

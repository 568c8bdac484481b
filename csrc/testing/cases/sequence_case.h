// SPDX-License-Identifier: MIT
// A recurrent network over a sequence, its arguments and its expected results, read from a file that
// tests/support/cuda_sequences.py wrote.
//
// The file is like that of case_file.h, but starts with "fwseqn01". The numbers are the type, the steps, the batch, and
// 1 if there is a bias; the arrays are the packed plan of one step, x, states, weight, bias, grad_y and grad_last, and
// the results y, last states, grad_x, grad_states, grad_weight and grad_bias.
#pragma once

#include <cstdint>
#include <string>

#include "testing/cases/case_file.h"

namespace freewire::testing {

constexpr const char* kCudaSequenceMagic = "fwseqn01";

template <class T>
struct SequenceCase {
  // reader: just after the type.
  explicit SequenceCase(CaseReader& reader)
      : steps(reader.number<int64_t>("steps")),
        batch(reader.number<int64_t>("batch")),
        has_bias(reader.number<int64_t>("has_bias") != 0),
        split_plan(reader.array<int64_t>("plan", -1)) {
    const PlanView& plan = split_plan.view();
    if (steps < 0 || batch < 0 || steps > kMaxBatch || batch > kMaxBatch) {
      throw std::runtime_error("steps, batch: expected 0 to " + std::to_string(kMaxBatch) + ", got other numbers.");
    }
    const int64_t num_biases = has_bias ? plan.num_biases : 0, all = steps * batch;
    const int64_t features = plan.num_inputs - plan.num_states;
    x = reader.array<T>("x", all * features);
    states = reader.array<T>("states", batch * plan.num_states);
    weight = reader.array<T>("weight", plan.num_edges);
    bias = reader.array<T>("bias", num_biases);
    grad_y = reader.array<T>("grad_y", all * plan.num_results);
    grad_last = reader.array<T>("grad_last", batch * plan.num_states);
    const auto expected = [&](const char* name, int64_t wanted) {
      const auto tolerance = reader.number<double>(name);
      return Expected{tolerance, reader.array<double>(name, wanted)};
    };
    y = expected("y", all * plan.num_results);
    last = expected("last", batch * plan.num_states);
    grad_x = expected("grad_x", all * features);
    grad_states = expected("grad_states", batch * plan.num_states);
    grad_weight = expected("grad_weight", plan.num_edges);
    grad_bias = expected("grad_bias", num_biases);
    reader.expect_end();
  }

  int64_t steps, batch;
  bool has_bias;
  SplitPlan split_plan;
  Exact<T> x, states, weight, bias, grad_y, grad_last;
  Expected y, last, grad_x, grad_states, grad_weight, grad_bias;
};

}  // namespace freewire::testing

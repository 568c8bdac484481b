// SPDX-License-Identifier: MIT
// Runs one case as a population of copies, by cpu/network/population_drive.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/network/population_drive.h"
#include "testing/cases/case_file.h"
#include "testing/cases/exact.h"
#include "testing/cases/results.h"
#include "testing/cases/sanitize_run.h"

namespace freewire::testing {

// More would only take more time: what a population adds does not depend on the samples.
constexpr int64_t kMostPopulationSamples = 17;

// The numbers so many times, one after the other.
template <class V>
Exact<V> repeated(const Exact<V>& values, int64_t times) {
  Exact<V> all(values.size() * times);
  for (int64_t i = 0; i < times; ++i) std::copy_n(values.data(), values.size(), all.data() + i * values.size());
  return all;
}

// The part of one copy.
template <class V>
Exact<V> part(const Exact<V>& all, int64_t i, int64_t times) {
  const int64_t count = all.size() / times;
  return Exact<V>(all.data() + i * count, count);
}

// The results of each copy, as run() returns those of the network alone.
template <class T>
std::vector<std::vector<Result<T>>> run_population_of(const Case<T>& given, int64_t members, int threads) {
  const PlanView& plan = given.split_plan.view();
  const StdThreads parallel_for{threads};
  const Exact<int64_t> words = repeated(given.words, members);
  Exact<int64_t> table(members * kTableColumns);
  for (int64_t i = 0; i < members; ++i) {
    const int64_t row[] = {i * given.words.size(), i * plan.num_edges, i * given.bias.size(), i * plan.tape_rows};
    std::copy_n(row, kTableColumns, table.data() + i * kTableColumns);
  }
  const Exact<T> x = repeated(given.x, members), weight = repeated(given.weight, members);
  const Exact<T> bias = repeated(given.bias, members), grad_y = repeated(given.grad_y, members);
  const Population all{
      words.data(),    table.data(),    words.size(), members, weight.size(), bias.size(), members * plan.tape_rows,
      plan.num_inputs, plan.num_outputs};
  const auto expect_fit = [](bool fits) {
    if (!fits) throw std::runtime_error("table: expected members that fit, got others.");
  };
  const Exact<T> tape(members * kept_elements(plan, given.batch, true));
  std::vector<std::vector<Result<T>>> results(members);
  const auto add = [&](const char* name, const Exact<T>& values, const Expected& expected) {
    for (int64_t i = 0; i < members; ++i) results[i].push_back({name, part(values, i, members), &expected});
  };
  for (const bool keep : {false, true}) {
    // With one input for all, each copy reads it.
    const bool shared = keep && members > 1;
    Exact<T> y(given.grad_y.size() * members);
    const cpu::ForwardCall<T> call{shared ? given.x.data() : x.data(), weight.data(), bias.data(), y.data(),
                                   given.batch};
    const int64_t step = shared ? 0 : given.x.size();
    expect_fit(cpu::run_population(all, call, step, keep ? tape.data() : nullptr, parallel_for));
    add(keep ? "y with a tape" : "y without a tape", y, given.y);
  }
  for (const bool need_parameters : {false, true}) {
    for (const bool need_x : {false, true}) {
      Exact<T> grad_x(need_x ? x.size() : 0), grad_weight(need_parameters ? weight.size() : 0);
      Exact<T> grad_bias(need_parameters ? bias.size() : 0);
      const cpu::Gradients<T> gradients{grad_x.data(), grad_weight.data(), grad_bias.data()};
      expect_fit(cpu::run_population_backward(all, grad_y.data(), weight.data(), tape.data(), given.batch, gradients,
                                              parallel_for));
      if (need_x) add("grad_x", grad_x, given.grad_x);
      if (!need_parameters) continue;
      add("grad_weight", grad_weight, given.grad_weight);
      if (given.has_bias) add("grad_bias", grad_bias, given.grad_bias);
    }
  }
  return results;
}

}  // namespace freewire::testing

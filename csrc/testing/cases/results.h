// SPDX-License-Identifier: MIT
// The results of running a case, and whether they are right; shared by the programs of the CPU and the CUDA kernels.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "testing/cases/case_file.h"
#include "testing/cases/exact.h"

namespace freewire::testing {

template <class T>
struct Result {
  std::string name;
  Exact<T> values;
  const Expected* expected;
};

// Runs a case in every way that kernels can be called: y without and with a tape, then no gradients, x's, the
// parameters', and all. forward(y, tape or null); backward(tape, grad_x, grad_weight, grad_bias), empty if not wanted.
template <class T, class Forward, class Backward>
std::vector<Result<T>> run_every_way(const Case<T>& given, int64_t tape_size, const std::string& where,
                                     const Forward& forward, const Backward& backward) {
  const PlanView& plan = given.split_plan.view();
  std::vector<Result<T>> results;
  const Exact<T> tape(tape_size);
  for (const bool keep : {false, true}) {
    Exact<T> y(given.batch * plan.num_outputs);
    forward(y, keep ? &tape : nullptr);
    results.push_back({(keep ? "y with a tape" : "y without a tape") + where, std::move(y), &given.y});
  }
  for (const bool need_parameters : {false, true}) {
    for (const bool need_x : {false, true}) {
      Exact<T> grad_x(need_x ? given.batch * plan.num_inputs : 0);
      Exact<T> grad_weight(need_parameters ? plan.num_edges : 0);
      Exact<T> grad_bias(need_parameters ? given.bias.size() : 0);
      backward(tape, grad_x, grad_weight, grad_bias);
      const std::string which = (need_x && need_parameters ? " of all gradients" : " alone") + where;
      if (need_x) results.push_back({"grad_x" + which, std::move(grad_x), &given.grad_x});
      if (!need_parameters) continue;
      results.push_back({"grad_weight" + which, std::move(grad_weight), &given.grad_weight});
      if (given.has_bias) results.push_back({"grad_bias" + which, std::move(grad_bias), &given.grad_bias});
    }
  }
  return results;
}

// Whether a result is rightly infinite, because the type holds no number so large.
template <class T>
bool overflows(double got, const Expected& expected, double wanted) {
  constexpr double kLargest = std::is_same_v<T, Half> ? 65504 : std::numeric_limits<Compute<T>>::max();
  return std::isinf(got) && std::abs(wanted) + expected.tolerance >= kLargest && (got > 0) == (wanted > 0);
}

template <class T>
void expect_close(const std::vector<Result<T>>& results) {
  for (const Result<T>& result : results) {
    const Expected& expected = *result.expected;
    for (int64_t i = 0; i < result.values.size(); ++i) {
      const double got = widened(result.values[i]), wanted = expected.values[i];
      if (std::abs(got - wanted) <= expected.tolerance || overflows<T>(got, expected, wanted)) continue;  // not a NaN
      throw std::runtime_error(result.name + ": expected " + std::to_string(wanted) + " within " +
                               std::to_string(expected.tolerance) + " at entry " + std::to_string(i) + ", got " +
                               std::to_string(got) + ".");
    }
  }
}

template <class T>
void expect_same_bits(const std::vector<Result<T>>& one, const std::vector<Result<T>>& many, const char* what) {
  for (size_t r = 0; r < one.size(); ++r) {
    for (int64_t i = 0; i < one[r].values.size(); ++i) {
      if (std::memcmp(&one[r].values[i], &many[r].values[i], sizeof(T)) == 0) continue;
      throw std::runtime_error(one[r].name + ": expected the same bits from " + what + ", got others at entry " +
                               std::to_string(i) + ".");
    }
  }
}

}  // namespace freewire::testing

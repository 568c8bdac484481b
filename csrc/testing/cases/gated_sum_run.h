// SPDX-License-Identifier: MIT
// Gated sums through the CPU's kernels on std::thread: results are right, and have the same bits from any number of
// threads.
#pragma once

#include "cpu/blocks/gated_sum_drive.h"
#include "testing/cases/gated_sum_case.h"
#include "testing/cases/sanitize_run.h"

namespace freewire::testing {

template <class T>
GatedSumResult<T> run(const GatedSumCase<T>& given, int threads, bool need_weight) {
  GatedSumResult<T> result(given, need_weight);
  const cpu::GatedSumCall<T> call{given.inputs(), given.weight.data(), given.length, given.relu};
  cpu::run_gated_sum(call, result.y.data(), StdThreads{threads});
  cpu::run_gated_sum_backward(call, given.grad_y.data(), result.gradients(), result.grad_weight.data(),
                              StdThreads{threads});
  return result;
}

// Returns the number of cases.
inline int64_t check_gated_sums() {
  int64_t ran = 0;
  // Lengths around a register, a step of several, a block of the backward, and a span, which one thread takes.
  for_each_gated_sum({0, 1, 9, 65, 513, cpu::kSpan + 13}, 70, [&](const auto& given) {
    const auto one = run(given, 1, given.gated), many = run(given, kManyThreads, given.gated);
    expect_right(given, one);
    expect_same_bits(given, one, many);
    expect_right(given, run(given, kManyThreads, false));
    ++ran;
  });
  return ran;
}

}  // namespace freewire::testing

// SPDX-License-Identifier: MIT
// What a run of a case leaves, and whether it is right: shared by the CPU's and the CUDA kernels' programs.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "testing/case_file.h"
#include "testing/exact.h"

namespace freewire::testing {

template <class T>
struct Result {
  std::string name;
  Exact<T> values;
  const Expected* expected;
};

template <class T>
void expect_close(const std::vector<Result<T>>& results) {
  for (const Result<T>& result : results) {
    const Expected& expected = *result.expected;
    for (int64_t i = 0; i < result.values.size(); ++i) {
      const double got = result.values[i], wanted = expected.values[i];
      if (std::abs(got - wanted) <= expected.tolerance) continue;  // false for a NaN
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

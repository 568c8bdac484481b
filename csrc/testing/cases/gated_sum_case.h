// SPDX-License-Identifier: MIT
// Gated sums for the raw kernels of both backends, and checks of their results.
//
// for_each_gated_sum(run) calls run(case) for lengths and numbers of arrays around every boundary that the kernels
// have; expect_right() throws std::runtime_error of one sentence.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "number.h"
#include "testing/cases/exact.h"
#include "testing/cases/number_types.h"

namespace freewire::testing {

// xs, weight and grad_y of one gated sum.
template <class T>
struct GatedSumCase {
  using C = Compute<T>;
  GatedSumCase(int64_t count, int64_t length, bool gated, bool relu)
      : count(count), length(length), gated(gated), relu(relu), weight(gated ? count : 0), grad_y(length) {
    uint32_t state = 12345;
    const auto draw = [&] {  // about uniform in [-2, 2)
      state = state * 1664525u + 1013904223u;
      return static_cast<C>(state >> 8) / C(1 << 22) - C(2);
    };
    for (int64_t i = 0; i < count; ++i) {
      Exact<T>& x = xs.emplace_back(length);
      for (int64_t k = 0; k < length; ++k) x[k] = narrowed<T>(draw());
    }
    for (int64_t i = 0; gated && i < count; ++i) weight[i] = draw();
    for (int64_t k = 0; k < length; ++k) grad_y[k] = narrowed<T>(draw());
  }
  std::vector<const T*> inputs() const {
    std::vector<const T*> found;
    for (const Exact<T>& x : xs) found.push_back(x.data());
    return found;
  }
  double gate(int64_t i) const { return gated ? 1 / (1 + std::exp(-double(weight[i]))) : 1.0 / double(count); }
  std::string name() const {
    return std::to_string(count) + " arrays of " + std::to_string(length) + (gated ? "" : ", mean") +
           (relu ? ", relu" : "");
  }
  int64_t count, length;
  bool gated, relu;
  std::vector<Exact<T>> xs;
  Exact<C> weight;
  Exact<T> grad_y;
};

// The results of one gated sum. grad_weight is empty if it is not wanted.
template <class T>
struct GatedSumResult {
  explicit GatedSumResult(const GatedSumCase<T>& given, bool need_weight)
      : y(given.length), grad_weight(need_weight ? given.count : 0) {
    for (int64_t i = 0; i < given.count; ++i) grad_xs.emplace_back(given.length);
  }
  std::vector<T*> gradients() const {
    std::vector<T*> found;
    for (const Exact<T>& grad : grad_xs) found.push_back(grad.data());
    return found;
  }
  Exact<T> y;
  std::vector<Exact<T>> grad_xs;
  Exact<Compute<T>> grad_weight;
};

inline void expect_near(double got, double wanted, double tolerance, const std::string& what) {
  if (std::abs(got - wanted) <= tolerance) return;  // no NaN passes
  throw std::runtime_error("gated sum of " + what + ": expected " + std::to_string(wanted) + ", got " +
                           std::to_string(got) + ".");
}

// Compares with the same computation in double. Where the sum is nearly 0, both sides of the relu are right.
template <class T>
void expect_right(const GatedSumCase<T>& given, const GatedSumResult<T>& result) {
  const bool narrow = kNarrow<T>, wide = sizeof(T) == 8;
  const double unit = narrow ? 1e-2 : wide ? 1e-14 : 2e-6, kink = (wide ? 1e-14 : 2e-6) * double(given.count);
  std::vector<double> dots(given.count), sizes(given.count);
  for (int64_t k = 0; k < given.length; ++k) {
    double sum = 0;
    for (int64_t i = 0; i < given.count; ++i) sum += given.gate(i) * widened(given.xs[i][k]);
    const std::string where = given.name() + ", y, entry " + std::to_string(k);
    const double size = 1 + std::abs(sum) + double(given.count) * (narrow ? 0 : 1);
    expect_near(widened(result.y[k]), given.relu && sum < 0 ? 0 : sum, unit * size, where);
    if (given.relu && std::abs(sum) < kink) continue;
    const double grad = given.relu && sum <= 0 ? 0 : widened(given.grad_y[k]);
    for (int64_t i = 0; i < given.count; ++i) {
      dots[i] += grad * widened(given.xs[i][k]);
      sizes[i] += std::abs(grad * widened(given.xs[i][k]));
      expect_near(widened(result.grad_xs[i][k]), given.gate(i) * grad, unit * 2, where + " of gradient");
    }
  }
  for (int64_t i = 0; i < result.grad_weight.size(); ++i) {
    const double gate = given.gate(i);
    expect_near(result.grad_weight[i], dots[i] * gate * (1 - gate), (wide ? 1e-13 : 1e-5) * (1 + sizes[i]),
                given.name() + ", weight " + std::to_string(i));
  }
}

template <class T>
void expect_same_bits(const GatedSumCase<T>& given, const GatedSumResult<T>& one, const GatedSumResult<T>& other) {
  const auto equal = [](const auto& a, const auto& b) {
    return a.size() == 0 || std::memcmp(a.data(), b.data(), a.bytes()) == 0;
  };
  bool same = equal(one.y, other.y) && equal(one.grad_weight, other.grad_weight);
  for (int64_t i = 0; i < given.count; ++i) same = same && equal(one.grad_xs[i], other.grad_xs[i]);
  if (!same) throw std::runtime_error("gated sum of " + given.name() + ": expected the same bits again, got others.");
}

// Calls run(case) for every type. many: a number of arrays, more than one CUDA launch takes.
template <class Run>
void for_each_gated_sum(const std::vector<int64_t>& lengths, int64_t many, const Run& run) {
  for_each_type([&](auto type) {
    using T = decltype(type);
    for (const int64_t length : lengths) {
      for (const int64_t count : {int64_t{1}, int64_t{3}}) {
        for (const bool relu : {false, true}) run(GatedSumCase<T>(count, length, true, relu));
      }
    }
    for (const bool relu : {false, true}) {
      run(GatedSumCase<T>(many, 37, true, relu));
      run(GatedSumCase<T>(many, 37, false, relu));
    }
  });
}

}  // namespace freewire::testing

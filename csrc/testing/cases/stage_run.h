// SPDX-License-Identifier: MIT
// Stages of separable convolutions through the CPU's kernels on std::thread: results are right, and have the same bits
// from any number of threads.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cpu/stages/stage_backward.h"
#include "cpu/stages/stage_inference.h"
#include "cpu/stages/stage_training.h"
#include "testing/cases/number_types.h"
#include "testing/cases/sanitize_run.h"
#include "testing/cases/stage_case.h"

namespace freewire::testing {

template <class T>
struct StageResult {
  using C = Compute<T>;
  StageResult(const StageCase<T>& given, bool need_x)
      : inference(given.shape.out.numel()),
        y(given.shape.out.numel()),
        mean(given.mean.data(), given.mean.size()),
        variance(given.variance.data(), given.variance.size()),
        grad_x(need_x ? given.x.size() : 0),
        grad_weight(given.weight.size()),
        grad_gamma(given.gamma.size()),
        grad_beta(given.beta.size()) {
    for (int64_t node = 0; node < given.plan.num_nodes(); ++node) {
      kept.emplace_back(given.shape.padded_out().numel());
      grad_depthwise.emplace_back(given.depthwise[node].size());
      grad_pointwise.emplace_back(given.pointwise[node].size());
    }
  }

  cpu::StageTape<T> tape() const {
    cpu::StageTape<T> found{{}, mean.data(), variance.data()};
    for (const Exact<T>& each : kept) found.results.push_back(each.data());
    return found;
  }
  cpu::StageGradients<T> gradients() const {
    cpu::StageGradients<T> found{grad_x.data(), grad_weight.data(), {}, {}, grad_gamma.data(), grad_beta.data()};
    for (const Exact<T>& each : grad_depthwise) found.depthwise.push_back(each.data());
    for (const Exact<T>& each : grad_pointwise) found.pointwise.push_back(each.data());
    return found;
  }
  // Calls use(name, array) for all of them.
  template <class Use>
  void each(const Use& use) const {
    use("y without norms", inference), use("y", y), use("mean", mean), use("variance", variance);
    use("grad_x", grad_x), use("grad_weight", grad_weight), use("grad_gamma", grad_gamma), use("grad_beta", grad_beta);
    for (const Exact<T>& array : kept) use("results", array);
    for (const Exact<T>& array : grad_depthwise) use("grad_depthwise", array);
    for (const Exact<T>& array : grad_pointwise) use("grad_pointwise", array);
  }

  Exact<T> inference, y;
  std::vector<Exact<T>> kept;
  Exact<C> mean, variance;
  Exact<T> grad_x;
  Exact<C> grad_weight, grad_gamma, grad_beta;
  std::vector<Exact<T>> grad_depthwise, grad_pointwise;
};

template <class T>
cpu::StageTraining<T> training_of(const StageCase<T>& given) {
  return {given.x.data(),    given.weight.data(), given.weights(), given.gamma.data(),
          given.beta.data(), given.epsilon,       given.relu,      given.batch_statistics};
}

template <class T>
void run_inference(const StageCase<T>& given, int threads, T* y) {
  const cpu::StageCall<T> call{
      given.x.data(), given.weight.data(), given.weights(), given.gamma.data(), given.beta.data(), given.relu, y};
  cpu::run_stage(given.plan, given.shape, call, StdThreads{threads});
}

template <class T, class ParallelFor>
void run_forward(const StageCase<T>& given, const cpu::StageTape<T>& tape, T* y, const ParallelFor& parallel_for) {
  cpu::run_stage_forward(given.plan, given.shape, training_of(given), tape, y, parallel_for);
}

template <class T>
StageResult<T> run(const StageCase<T>& given, int threads, bool need_x) {
  StageResult<T> result(given, need_x);
  run_inference(given, threads, result.inference.data());
  run_forward(given, result.tape(), result.y.data(), StdThreads{threads});
  if (!given.shape.empty()) {
    std::vector<std::unique_ptr<Exact<char>>> made;  // on the heap, each of its exact size
    const cpu::Memory memory = [&](int64_t bytes) {
      made.push_back(std::make_unique<Exact<char>>(bytes));
      return made.back()->data();
    };
    cpu::run_stage_backward(given.plan, given.shape, training_of(given), result.tape(), given.grad_y.data(),
                            result.gradients(), memory, StdThreads{threads});
  }
  return result;
}

// Compares whole arrays, since a number on the other side of a relu changes its neighbours.
template <class T, class Number>
void expect_near(const StageCase<T>& given, const std::string& name, const Exact<Number>& got,
                 const std::vector<double>& wanted) {
  const double tolerance = kNarrow<T> ? 3e-2 : sizeof(T) == 8 ? 1e-12 : 1e-5;
  double apart = 0, size = 0;
  for (int64_t i = 0; i < got.size(); ++i) {
    apart += (widened(got[i]) - wanted[i]) * (widened(got[i]) - wanted[i]);
    size += wanted[i] * wanted[i];
  }
  const double allowed = tolerance * (std::sqrt(size) + std::sqrt(double(got.size())));
  if (std::sqrt(apart) <= allowed) return;  // no NaN passes
  throw std::runtime_error("stage of " + given.name() + ": expected " + name + " within " + std::to_string(allowed) +
                           ", got it off by " + std::to_string(std::sqrt(apart)) + ".");
}

// Without the padding, which must be zero.
template <class T>
Exact<T> unpadded(const StageCase<T>& given, const Exact<T>& kept) {
  const int64_t channels = given.shape.out.channels, padded = cpu::padded_channels(channels);
  Exact<T> found(given.shape.out.numel());
  for (int64_t i = 0; i < kept.size(); ++i) {
    if (i % padded < channels) {
      found[i / padded * channels + i % padded] = kept[i];
    } else if (widened(kept[i]) != 0) {
      throw std::runtime_error("stage of " + given.name() + ": expected zeros in padding, got others.");
    }
  }
  return found;
}

template <class T>
void expect_right(const StageCase<T>& given, const StageReference<T>& wanted, const StageResult<T>& result) {
  expect_near(given, "y without norms", result.inference, wanted.inference());
  expect_near(given, "y", result.y, wanted.y);
  expect_near(given, "mean", result.mean, wanted.mean);
  expect_near(given, "variance", result.variance, wanted.variance);
  expect_near(given, "grad_x", result.grad_x, wanted.grad_x);
  expect_near(given, "grad_weight", result.grad_weight, wanted.grad_weight);
  expect_near(given, "grad_gamma", result.grad_gamma, wanted.grad_gamma);
  expect_near(given, "grad_beta", result.grad_beta, wanted.grad_beta);
  for (int64_t node = 0; node < given.plan.num_nodes(); ++node) {
    const std::string of = " of node " + std::to_string(node);
    expect_near(given, "results" + of, unpadded(given, result.kept[node]), wanted.kept[node]);
    expect_near(given, "grad_depthwise" + of, result.grad_depthwise[node], wanted.grad_depthwise[node]);
    expect_near(given, "grad_pointwise" + of, result.grad_pointwise[node], wanted.grad_pointwise[node]);
  }
}

template <class T>
void expect_same_bits(const StageCase<T>& given, const StageResult<T>& one, const StageResult<T>& other) {
  std::vector<std::pair<const void*, size_t>> arrays;
  one.each([&](const char*, const auto& array) { arrays.emplace_back(array.data(), array.bytes()); });
  size_t next = 0;
  other.each([&](const char* name, const auto& array) {
    const auto [data, bytes] = arrays[next++];
    if (bytes == 0 || std::memcmp(data, array.data(), bytes) == 0) return;
    throw std::runtime_error("stage of " + given.name() + ": expected the same bits of " + name +
                             " again, got others.");
  });
}

template <class T>
void check_stage(const StageCase<T>& given) {
  const auto one = run(given, 1, true), many = run(given, kManyThreads, true);
  if (!given.shape.empty()) expect_right(given, StageReference<T>(given), one);
  expect_same_bits(given, one, many);
  run(given, kManyThreads, false);
}

}  // namespace freewire::testing

// SPDX-License-Identifier: MIT
// Gated sums with the depthwise convolution that reads them, through the CPU's kernels on std::thread: the results are
// compared with those in double, and their bits between numbers of threads.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "cpu/blocks/gated_depthwise_drive.h"
#include "testing/cases/gated_sum_case.h"
#include "testing/cases/sanitize_run.h"

namespace freewire::testing {

// A gated sum's numbers, read as feature maps, and a kernel [9, channels].
template <class T>
struct GatedDepthwiseCase {
  GatedDepthwiseCase(const cpu::Maps& maps, int64_t count, bool relu)
      : maps(maps), sum(count, maps.numel(), true, relu), kernel(9 * maps.channels) {
    for (int64_t i = 0; i < kernel.size(); ++i) kernel[i] = widened(narrowed<T>(Compute<T>((i * 37 % 23 - 11) / 8.0)));
  }
  std::string name() const {
    return std::to_string(maps.batch) + " maps of " + std::to_string(maps.height) + " x " + std::to_string(maps.width) +
           " x " + std::to_string(maps.channels) + ", " + sum.name();
  }
  cpu::Maps maps;
  GatedSumCase<T> sum;
  Exact<Compute<T>> kernel;
};

template <class T>
struct GatedDepthwiseResult {
  GatedDepthwiseResult(const GatedDepthwiseCase<T>& given, bool need_parameters)
      : sum(given.sum, need_parameters), grad_kernel(need_parameters ? given.kernel.size() : 0) {}
  GatedSumResult<T> sum;  // its y is the convolution's
  Exact<Compute<T>> grad_kernel;
};

template <class T>
GatedDepthwiseResult<T> run(const GatedDepthwiseCase<T>& given, int threads, bool need_parameters) {
  GatedDepthwiseResult<T> result(given, need_parameters);
  const GatedSumCase<T>& sum = given.sum;
  const cpu::GatedSumCall<T> call{sum.inputs(), sum.weight.data(), sum.length, sum.relu};
  cpu::run_gated_depthwise(call, given.maps, given.kernel.data(), result.sum.y.data(), StdThreads{threads});
  const cpu::GatedDepthwiseGradients<T> grads{result.sum.gradients(), result.sum.grad_weight.data(),
                                              result.grad_kernel.data()};
  cpu::run_gated_depthwise_backward(call, given.maps, given.kernel.data(), sum.grad_y.data(), grads,
                                    StdThreads{threads});
  return result;
}

// Calls use(entry, result, tap) for every pair of an entry of the sum and an entry of the result that reads it.
template <class Use>
void for_each_tap(const cpu::Maps& maps, const Use& use) {
  for (int64_t image = 0; image < maps.batch; ++image) {
    for (int64_t row = 0; row < maps.height; ++row) {
      for (int64_t column = 0; column < maps.width; ++column) {
        for (int64_t tap = 0; tap < 9; ++tap) {
          const int64_t from_row = row + tap / 3 - 1, from_column = column + tap % 3 - 1;
          if (from_row < 0 || from_row >= maps.height || from_column < 0 || from_column >= maps.width) continue;
          const int64_t from = maps.at(image, from_row) + from_column * maps.channels;
          const int64_t to = maps.at(image, row) + column * maps.channels;
          for (int64_t c = 0; c < maps.channels; ++c) use(from + c, to + c, tap * maps.channels + c);
        }
      }
    }
  }
}

template <class T>
void expect_right(const GatedDepthwiseCase<T>& given, const GatedDepthwiseResult<T>& result) {
  const GatedSumCase<T>& sum = given.sum;
  const double unit = kNarrow<T> ? 2e-2 : sizeof(T) == 8 ? 1e-13 : 1e-5;
  std::vector<double> input(sum.length), grad_input(sum.length), y(sum.length), grad_kernel(given.kernel.size());
  std::vector<double> kernel_size(given.kernel.size()), dot_size(sum.count);  // of the terms that are added
  for (int64_t k = 0; k < sum.length; ++k) {
    for (int64_t i = 0; i < sum.count; ++i) input[k] += sum.gate(i) * widened(sum.xs[i][k]);
  }
  const std::vector<double> sums = input;
  for (double& each : input) each = sum.relu ? std::max(each, 0.0) : each;
  for_each_tap(given.maps, [&](int64_t from, int64_t to, int64_t tap) {
    y[to] += given.kernel[tap] * input[from];
    grad_input[from] += given.kernel[tap] * widened(sum.grad_y[to]);
    grad_kernel[tap] += input[from] * widened(sum.grad_y[to]);
    kernel_size[tap] += std::abs(input[from] * widened(sum.grad_y[to]));
  });
  std::vector<double> dots(sum.count);
  for (int64_t k = 0; k < sum.length; ++k) {
    const std::string where = given.name() + ", entry " + std::to_string(k);
    expect_near(widened(result.sum.y[k]), y[k], unit * 10, where);
    if (sum.relu && std::abs(sums[k]) < 1e-5) continue;  // either side of the kink is right
    const double grad = sum.relu && sums[k] <= 0 ? 0 : grad_input[k];
    for (int64_t i = 0; i < sum.count; ++i) {
      dots[i] += grad * widened(sum.xs[i][k]);
      dot_size[i] += std::abs(grad * widened(sum.xs[i][k]));
      expect_near(widened(result.sum.grad_xs[i][k]), sum.gate(i) * grad, unit * 10, where + " of gradient");
    }
  }
  for (int64_t i = 0; i < result.sum.grad_weight.size(); ++i) {
    const double gate = sum.gate(i);
    expect_near(result.sum.grad_weight[i], dots[i] * gate * (1 - gate), unit * (1 + dot_size[i]),
                given.name() + ", weight " + std::to_string(i));
  }
  for (int64_t i = 0; i < result.grad_kernel.size(); ++i) {
    expect_near(result.grad_kernel[i], grad_kernel[i], unit * (1 + kernel_size[i]),
                given.name() + ", kernel " + std::to_string(i));
  }
}

template <class T>
void check_gated_depthwise(const GatedDepthwiseCase<T>& given) {
  const auto one = run(given, 1, true), many = run(given, kManyThreads, true);
  expect_right(given, one);
  expect_same_bits(given.sum, one.sum, many.sum);
  if (one.grad_kernel.size() &&
      std::memcmp(one.grad_kernel.data(), many.grad_kernel.data(), one.grad_kernel.bytes()) != 0) {
    throw std::runtime_error("gated sum of " + given.name() + ": expected the same bits again, got others.");
  }
  expect_right(given, run(given, kManyThreads, false));
}

// Returns the number of cases.
inline int64_t check_gated_depthwise() {
  // Fewer channels than a register holds, as many, and more; fewer pixels than are computed at a time, and more; one
  // row, one band, and several.
  const cpu::Maps shapes[] = {{0, 3, 3, 2}, {2, 0, 3, 2}, {1, 3, 0, 2},  {1, 3, 3, 0},   {1, 1, 1, 1},
                              {2, 3, 5, 3}, {1, 9, 4, 8}, {3, 2, 7, 16}, {1, 17, 6, 21}, {18, 5, 3, 33}};
  int64_t ran = 0;
  for_each_type([&](auto type) {
    for (const cpu::Maps& maps : shapes) {
      for (const int64_t count : {int64_t{1}, int64_t{3}}) {
        check_gated_depthwise(GatedDepthwiseCase<decltype(type)>(maps, count, count > 1));
        ++ran;
      }
    }
  });
  return ran;
}

}  // namespace freewire::testing

// SPDX-License-Identifier: MIT
// Stages of separable convolutions for the raw kernels, and the same computation in double, one number at a time.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "cpu/stages/stage_parameters.h"
#include "number.h"
#include "testing/cases/exact.h"

namespace freewire::testing {

// Two nodes read the input, node 2 reads both, the second one twice, and 3 and 4 are the sinks.
inline const std::vector<int64_t> kStageInPtr{0, 0, 0, 3, 5, 6}, kStageInSrc{0, 1, 1, 2, 0, 1};

// The arguments of a stage. Its norms use the statistics of the batch, or given ones.
template <class T>
struct StageCase {
  using C = Compute<T>;
  StageCase(const cpu::Maps& in, int64_t stride, int64_t channels, bool relu, bool batch_statistics)
      : plan(kStageInPtr, kStageInSrc),
        shape(in, stride, channels),
        relu(relu),
        batch_statistics(batch_statistics),
        x(drawn<T>(in.numel(), 1)),
        grad_y(drawn<T>(shape.out.numel(), 1)),
        weight(drawn<C>(plan.num_edges(), 1)),
        gamma(drawn<C>(plan.num_nodes() * channels, 1)),
        beta(drawn<C>(plan.num_nodes() * channels, 1)),
        mean(drawn<C>(plan.num_nodes() * channels, 0.5)),
        variance(drawn<C>(plan.num_nodes() * channels, 0.25)) {
    for (int64_t node = 0; node < plan.num_nodes(); ++node) {
      depthwise.push_back(drawn<T>(9 * depth(node), 0.25));
      pointwise.push_back(drawn<T>(channels * depth(node), 1 / std::sqrt(1.0 + double(depth(node)))));
      epsilon.push_back(0.1 + 0.01 * double(node));
    }
    for (int64_t i = 0; i < variance.size(); ++i) variance[i] += 1;
  }

  bool is_input(int64_t node) const { return node < plan.num_inputs; }
  int64_t depth(int64_t node) const { return is_input(node) ? shape.in.channels : shape.out.channels; }
  double gate(int64_t edge) const { return 1 / (1 + std::exp(-double(weight[edge]))); }
  cpu::StageWeights<T> weights() const {
    cpu::StageWeights<T> found;
    for (const Exact<T>& each : depthwise) found.depthwise.push_back(each.data());
    for (const Exact<T>& each : pointwise) found.pointwise.push_back(each.data());
    return found;
  }
  std::string name() const {
    const cpu::Maps& in = shape.in;
    return std::to_string(in.batch) + " maps of " + std::to_string(in.height) + " x " + std::to_string(in.width) +
           " x " + std::to_string(in.channels) + " to " + std::to_string(shape.out.channels) + ", stride " +
           std::to_string(shape.stride) + (relu ? ", relu" : "") + (batch_statistics ? "" : ", given statistics");
  }

  cpu::StagePlan plan;
  cpu::StageShape shape;
  bool relu, batch_statistics;
  uint32_t state = 12345;  // of the numbers that are drawn
  Exact<T> x, grad_y;
  Exact<C> weight, gamma, beta, mean, variance;  // gamma and beta are the scale and the shift of inference
  std::vector<Exact<T>> depthwise, pointwise;
  std::vector<double> epsilon;

 private:
  // About uniform in [-2, 2) times a factor.
  template <class Number>
  Exact<Number> drawn(int64_t size, double factor) {
    Exact<Number> numbers(size);
    for (int64_t i = 0; i < size; ++i) {
      state = state * 1664525u + 1013904223u;
      const double number = (double(state >> 8) / (1 << 22) - 2) * factor;
      numbers[i] = narrowed<Number>(static_cast<Compute<Number>>(number));
    }
    return numbers;
  }
};

// The results of a stage in double. Maps are rounded to T where the kernels store them on the way forward, so that both
// are on the same side of a relu.
template <class T>
class StageReference {
 public:
  using Numbers = std::vector<double>;

  explicit StageReference(const StageCase<T>& given)
      : given_(given),
        nodes_(given.plan.num_nodes()),
        channels_(given.shape.out.channels),
        pixels_(given.shape.out.batch * given.shape.out.height * given.shape.out.width) {
    run_forward();
    run_backward();
  }

  // y of the stage that has scales and shifts instead of norms.
  Numbers inference() const {
    std::vector<Numbers> results;
    for (int64_t node = 0; node < nodes_; ++node) {
      Numbers total = read(node, results);
      for (double& each : total) each = rounded(given_.relu && each <= 0 ? 0 : each);
      Numbers result = multiply(node, convolve(node, total));
      for (int64_t i = 0; i < pixels_ * channels_; ++i) {
        const int64_t c = node * channels_ + i % channels_;
        result[i] = rounded(given_.gamma[c] * result[i] + given_.beta[c]);
      }
      results.push_back(std::move(result));
    }
    return mean_of_sinks(results);
  }

  // Of training.
  Numbers y, mean, variance;
  std::vector<Numbers> kept;
  Numbers grad_x, grad_weight, grad_gamma, grad_beta;
  std::vector<Numbers> grad_depthwise, grad_pointwise;

 private:
  static double rounded(double value) { return widened(narrowed<T>(static_cast<Compute<T>>(value))); }

  Numbers mean_of_sinks(const std::vector<Numbers>& results) const {
    Numbers found(pixels_ * channels_);
    for (const int64_t sink : given_.plan.sinks) {
      for (size_t i = 0; i < found.size(); ++i) found[i] += results[sink][i] / double(given_.plan.sinks.size());
    }
    return found;
  }

  // What a node reads, before its relu.
  Numbers read(int64_t node, const std::vector<Numbers>& results) const {
    if (given_.is_input(node)) {
      Numbers x(given_.x.size());
      for (size_t i = 0; i < x.size(); ++i) x[i] = widened(given_.x[static_cast<int64_t>(i)]);
      return x;
    }
    Numbers total(pixels_ * channels_);
    for (int64_t edge = given_.plan.in_ptr[node]; edge < given_.plan.in_ptr[node + 1]; ++edge) {
      const Numbers& from = results[given_.plan.in_src[edge]];
      for (size_t i = 0; i < total.size(); ++i) total[i] += given_.gate(edge) * from[i];
    }
    return total;
  }

  // Calls use(pixel of the result, pixel that it reads, tap) for a node's depthwise convolution.
  template <class Use>
  void for_each_read(int64_t node, const Use& use) const {
    const cpu::Maps &out = given_.shape.out, &in = given_.is_input(node) ? given_.shape.in : out;
    const int64_t stride = given_.is_input(node) ? given_.shape.stride : 1;
    for (int64_t pixel = 0; pixel < pixels_; ++pixel) {
      const int64_t image = pixel / (out.height * out.width), place = pixel % (out.height * out.width);
      for (int64_t tap = 0; tap < 9; ++tap) {
        const int64_t row = place / out.width * stride + tap / 3 - 1, column = place % out.width * stride + tap % 3 - 1;
        if (row < 0 || row >= in.height || column < 0 || column >= in.width) continue;
        use(pixel, (image * in.height + row) * in.width + column, tap);
      }
    }
  }

  Numbers convolve(int64_t node, const Numbers& from) const {
    const int64_t depth = given_.depth(node);
    Numbers found(pixels_ * depth);
    for_each_read(node, [&](int64_t pixel, int64_t source, int64_t tap) {
      for (int64_t c = 0; c < depth; ++c) {
        found[pixel * depth + c] += widened(given_.depthwise[node][9 * c + tap]) * from[source * depth + c];
      }
    });
    return found;
  }

  Numbers multiply(int64_t node, const Numbers& from) const {
    const int64_t depth = given_.depth(node);
    Numbers found(pixels_ * channels_);
    for (int64_t i = 0; i < pixels_ * channels_; ++i) {
      const int64_t pixel = i / channels_, c = i % channels_;
      for (int64_t k = 0; k < depth; ++k) {
        found[i] += widened(given_.pointwise[node][c * depth + k]) * from[pixel * depth + k];
      }
    }
    return found;
  }

  void run_forward() {
    mean.assign(nodes_ * channels_, 0);
    variance.assign(nodes_ * channels_, 0);
    for (int64_t node = 0; node < nodes_; ++node) {
      before_.push_back(read(node, normal_));
      after_.push_back(before_.back());
      for (double& each : after_.back()) each = given_.relu && each <= 0 ? 0 : each;
      convolved_.push_back(convolve(node, after_.back()));
      kept.push_back(multiply(node, convolved_.back()));
      for (double& each : kept.back()) each = rounded(each);
      normal_.emplace_back(pixels_ * channels_);
      for (int64_t c = 0; c < channels_; ++c) normalise(node, c);
    }
    y = mean_of_sinks(normal_);
  }

  void normalise(int64_t node, int64_t c) {
    const int64_t at = node * channels_ + c;
    mean[at] = given_.mean[at];
    variance[at] = given_.variance[at];
    const auto each = [&](const auto& use) {
      for (int64_t pixel = 0; pixel < pixels_; ++pixel) use(kept[node][pixel * channels_ + c], pixel * channels_ + c);
    };
    if (given_.batch_statistics) {
      mean[at] = variance[at] = 0;
      each([&](double value, int64_t) { mean[at] += value / double(pixels_); });
      each([&](double value, int64_t) { variance[at] += (value - mean[at]) * (value - mean[at]) / double(pixels_); });
    }
    each([&](double value, int64_t i) {
      normal_[node][i] = given_.gamma[at] * (value - mean[at]) * inverse(node, c) + given_.beta[at];
    });
  }
  double inverse(int64_t node, int64_t c) const {
    return 1 / std::sqrt(variance[node * channels_ + c] + given_.epsilon[node]);
  }

  void run_backward() {
    grad_x.assign(given_.x.size(), 0);
    grad_weight.assign(given_.plan.num_edges(), 0);
    grad_gamma.assign(nodes_ * channels_, 0);
    grad_beta.assign(nodes_ * channels_, 0);
    grad_depthwise.resize(nodes_);
    grad_pointwise.resize(nodes_);
    std::vector<Numbers> grads(nodes_, Numbers(pixels_ * channels_));
    for (const int64_t sink : given_.plan.sinks) {
      for (int64_t i = 0; i < pixels_ * channels_; ++i) {
        grads[sink][i] = widened(given_.grad_y[i]) / double(given_.plan.sinks.size());
      }
    }
    for (int64_t node = nodes_ - 1; node >= 0; --node) {
      for (int64_t c = 0; c < channels_; ++c) back_through_norm(node, c, grads[node]);
      Numbers grad = back_through_convolutions(node, grads[node]);
      for (size_t i = 0; i < grad.size(); ++i) grad[i] = given_.relu && before_[node][i] <= 0 ? 0 : grad[i];
      for (size_t i = 0; given_.is_input(node) && i < grad.size(); ++i) grad_x[i] += grad[i];
      for (int64_t edge = given_.plan.in_ptr[node]; edge < given_.plan.in_ptr[node + 1]; ++edge) {
        const int64_t source = given_.plan.in_src[edge];
        const double gate = given_.gate(edge);
        for (size_t i = 0; i < grad.size(); ++i) {
          grads[source][i] += gate * grad[i];
          grad_weight[edge] += gate * (1 - gate) * grad[i] * normal_[source][i];
        }
      }
    }
  }

  void back_through_norm(int64_t node, int64_t c, Numbers& grad) {
    const int64_t at = node * channels_ + c;
    const auto normal = [&](int64_t i) { return (kept[node][i] - mean[at]) * inverse(node, c); };
    for (int64_t i = c; i < pixels_ * channels_; i += channels_) {
      grad_beta[at] += grad[i];
      grad_gamma[at] += grad[i] * normal(i);
    }
    for (int64_t i = c; i < pixels_ * channels_; i += channels_) {
      const double shared = (grad_beta[at] + normal(i) * grad_gamma[at]) / double(pixels_);
      grad[i] = given_.gamma[at] * inverse(node, c) * (grad[i] - (given_.batch_statistics ? shared : 0));
    }
  }

  Numbers back_through_convolutions(int64_t node, const Numbers& grad) {
    const int64_t depth = given_.depth(node);
    Numbers between(pixels_ * depth), found(after_[node].size());
    grad_pointwise[node].assign(channels_ * depth, 0);
    grad_depthwise[node].assign(9 * depth, 0);
    for (int64_t i = 0; i < pixels_ * channels_; ++i) {
      for (int64_t k = 0; k < depth; ++k) {
        const int64_t at = i / channels_ * depth + k, weight = i % channels_ * depth + k;
        between[at] += grad[i] * widened(given_.pointwise[node][weight]);
        grad_pointwise[node][weight] += grad[i] * convolved_[node][at];
      }
    }
    for_each_read(node, [&](int64_t pixel, int64_t source, int64_t tap) {
      for (int64_t c = 0; c < depth; ++c) {
        const double of_tap = between[pixel * depth + c];
        found[source * depth + c] += of_tap * widened(given_.depthwise[node][9 * c + tap]);
        grad_depthwise[node][9 * c + tap] += of_tap * after_[node][source * depth + c];
      }
    });
    return found;
  }

  const StageCase<T>& given_;
  int64_t nodes_, channels_, pixels_;
  std::vector<Numbers> before_, after_, convolved_, normal_;  // of each node: what it reads, and so on
};

}  // namespace freewire::testing

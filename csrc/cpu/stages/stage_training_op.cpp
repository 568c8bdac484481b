// SPDX-License-Identifier: MIT
// freewire::stage_forward and stage_backward on the CPU: parallel regions of torch's pool, one or two for each node.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <tuple>
#include <vector>

#include "cpu/stages/stage_backward.h"
#include "cpu/stages/stage_call.h"
#include "cpu/stages/stage_training.h"
#include "cpu/torch_tensors.h"
#include "cpu/torch_threads.h"

namespace freewire {
namespace {

using torch::stable::Tensor;

template <class T>
cpu::StageTraining<T> training_of(const StageArguments& given, const Tensor& weight, const Tensor& gamma,
                                  const Tensor& beta, const std::vector<double>& epsilon, bool relu,
                                  bool batch_statistics) {
  using C = Compute<T>;
  return {
      numbers<T>(given.x), numbers<C>(weight), given.weights<T>(), numbers<C>(gamma), numbers<C>(beta), epsilon, relu,
      batch_statistics};
}

std::tuple<Tensor, std::vector<Tensor>, Tensor, Tensor> stage_forward_cpu(
    const Tensor& x, const Tensor& weight, const std::vector<Tensor>& depthwise, const std::vector<Tensor>& pointwise,
    const Tensor& gamma, const Tensor& beta, const std::vector<double>& epsilon, const std::optional<Tensor>& mean,
    const std::optional<Tensor>& variance, const std::vector<int64_t>& in_ptr, const std::vector<int64_t>& in_src,
    int64_t stride, bool relu) {
  const StageArguments given(x, weight, depthwise, pointwise, in_ptr, in_src, stride);
  given.check_norms(gamma, beta, epsilon);
  STD_TORCH_CHECK(mean.has_value() == variance.has_value(),
                  "mean, variance: expected both or neither, got one of the two. Pass the other.");
  if (mean) {
    given.check_per_channel(*mean, "mean");
    given.check_per_channel(*variance, "variance");
  }
  STD_TORCH_CHECK(mean || !given.shape.empty(),
                  "x: expected at least one pixel, whose statistics the norms use, got none. Pass some.");
  Tensor y = given.empty_output();
  std::vector<Tensor> results;
  for (int64_t node = 0; node < given.plan.num_nodes(); ++node) results.push_back(cpu::empty(x, given.result_sizes()));
  Tensor used_mean = mean ? torch::stable::clone(*mean) : torch::stable::empty_like(gamma);
  Tensor used_variance = variance ? torch::stable::clone(*variance) : torch::stable::empty_like(gamma);
  with_float_type(x, [&](auto type) {
    using T = decltype(type);
    using C = Compute<T>;
    const auto call = training_of<T>(given, weight, gamma, beta, epsilon, relu, !mean);
    cpu::StageTape<T> tape{{}, mutable_numbers<C>(used_mean), mutable_numbers<C>(used_variance)};
    for (const Tensor& each : results) tape.results.push_back(mutable_numbers<T>(each));
    cpu::run_stage_forward(given.plan, given.shape, call, tape, mutable_numbers<T>(y), cpu::TorchThreads{});
  });
  return {y, std::move(results), used_mean, used_variance};
}

std::tuple<Tensor, Tensor, Tensor, Tensor, std::vector<Tensor>, std::vector<Tensor>> stage_backward_cpu(
    const Tensor& grad_y, const Tensor& x, const std::vector<Tensor>& results, const Tensor& mean,
    const Tensor& variance, const Tensor& weight, const std::vector<Tensor>& depthwise,
    const std::vector<Tensor>& pointwise, const Tensor& gamma, const Tensor& beta, const std::vector<double>& epsilon,
    const std::vector<int64_t>& in_ptr, const std::vector<int64_t>& in_src, int64_t stride, bool relu,
    bool batch_statistics, bool need_x) {
  const StageArguments given(x, weight, depthwise, pointwise, in_ptr, in_src, stride);
  given.check_norms(gamma, beta, epsilon);
  given.check_per_channel(mean, "mean");
  given.check_per_channel(variance, "variance");
  given.check_gradient(grad_y);
  given.check_results(results);
  const auto like = [](const std::vector<Tensor>& tensors) {
    std::vector<Tensor> made;
    for (const Tensor& each : tensors) made.push_back(torch::stable::empty_like(each));
    return made;
  };
  Tensor grad_x = need_x ? torch::stable::empty_like(x) : torch::stable::new_empty(x, {0});
  Tensor grad_weight = torch::stable::empty_like(weight);
  Tensor grad_gamma = torch::stable::empty_like(gamma), grad_beta = torch::stable::empty_like(beta);
  std::vector<Tensor> grad_depthwise = like(given.depthwise), grad_pointwise = like(given.pointwise);
  if (given.shape.empty()) {
    for (Tensor* each : {&grad_x, &grad_weight, &grad_gamma, &grad_beta}) torch::stable::zero_(*each);
    for (auto* list : {&grad_depthwise, &grad_pointwise}) {
      for (Tensor& each : *list) torch::stable::zero_(each);
    }
  } else {
    with_float_type(x, [&](auto type) {
      using T = decltype(type);
      using C = Compute<T>;
      const auto call = training_of<T>(given, weight, gamma, beta, epsilon, relu, batch_statistics);
      // The backward only reads what the forward has kept.
      cpu::StageTape<T> tape{{}, const_cast<C*>(numbers<C>(mean)), const_cast<C*>(numbers<C>(variance))};
      for (const Tensor& each : results) tape.results.push_back(const_cast<T*>(numbers<T>(each)));
      std::vector<Tensor> made;
      const cpu::Memory memory = [&](int64_t bytes) {
        made.push_back(cpu::empty(x, {(bytes + sizeof(T) - 1) / sizeof(T)}));
        return made.back().mutable_data_ptr();
      };
      cpu::StageGradients<T> grads{need_x ? mutable_numbers<T>(grad_x) : nullptr,
                                   mutable_numbers<C>(grad_weight),
                                   {},
                                   {},
                                   mutable_numbers<C>(grad_gamma),
                                   mutable_numbers<C>(grad_beta)};
      for (const Tensor& each : grad_depthwise) grads.depthwise.push_back(mutable_numbers<T>(each));
      for (const Tensor& each : grad_pointwise) grads.pointwise.push_back(mutable_numbers<T>(each));
      cpu::run_stage_backward(given.plan, given.shape, call, tape, numbers<T>(grad_y), grads, memory,
                              cpu::TorchThreads{});
    });
  }
  return {grad_x, grad_weight, grad_gamma, grad_beta, std::move(grad_depthwise), std::move(grad_pointwise)};
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CPU, m) {
  m.impl("stage_forward", TORCH_BOX(&freewire::stage_forward_cpu));
  m.impl("stage_backward", TORCH_BOX(&freewire::stage_backward_cpu));
}

// SPDX-License-Identifier: MIT
// freewire::population_forward, population_inference and population_backward on the CPU, on torch's pool of threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "cpu/network/population_drive.h"
#include "cpu/torch_tensors.h"
#include "cpu/torch_threads.h"
#include "population_checks.h"

namespace freewire {
namespace {

using torch::stable::Tensor;
using Limits = std::vector<int64_t>;

// kept: the tape to write, or null.
Tensor run(const Population& all, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
           const Tensor* kept) {
  const int64_t batch = x.size(1);
  const Tensor x_rows = cpu::contiguous(x), weights = cpu::contiguous(weight);
  const Tensor biases = bias ? cpu::contiguous(*bias) : weights;
  Tensor y = cpu::empty(x, {all.members, batch, all.num_outputs});

  with_float_type(x, [&](auto type) {
    using T = decltype(type);
    const cpu::ForwardCall<T> call{numbers<T>(x_rows), numbers<T>(weights), bias ? numbers<T>(biases) : nullptr,
                                   mutable_numbers<T>(y), batch};
    const int64_t x_step = x.size(0) == all.members ? batch * all.num_inputs : 0;
    check_members(
        cpu::run_population(all, call, x_step, kept ? mutable_numbers<T>(*kept) : nullptr, cpu::TorchThreads{}));
  });
  return y;
}

std::tuple<Tensor, Tensor> forward_cpu(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                                       const Tensor& plans, const Tensor& table, const Limits& limits,
                                       int64_t num_outputs) {
  const Population all = checked_population_forward(x, weight, bias, plans, table, limits, num_outputs);
  const Tensor kept = cpu::empty(x, {population_kept_elements(all, x.size(1), true)});
  return {run(all, x, weight, bias, &kept), kept};
}

Tensor inference_cpu(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& plans,
                     const Tensor& table, const Limits& limits, int64_t num_outputs) {
  return run(checked_population_forward(x, weight, bias, plans, table, limits, num_outputs), x, weight, bias, nullptr);
}

std::tuple<Tensor, Tensor, Tensor> backward_cpu(const Tensor& grad_y, const Tensor& tape, const Tensor& weight,
                                                const Tensor& plans, const Tensor& table, const Limits& limits,
                                                int64_t num_inputs, int64_t num_biases, bool need_x,
                                                bool need_parameters) {
  const Population all =
      checked_population_backward(grad_y, tape, weight, plans, table, limits, num_inputs, num_biases, true);
  const int64_t batch = grad_y.size(1);
  const Tensor grad_rows = cpu::contiguous(grad_y), weights = cpu::contiguous(weight);
  const Tensor tape_rows = cpu::contiguous(tape);
  Tensor grad_x = cpu::empty(weights, {need_x ? all.members : 0, batch, num_inputs});
  Tensor grad_weight = cpu::empty(weights, {need_parameters ? all.num_weights : 0});
  Tensor grad_bias = cpu::empty(weights, {need_parameters ? num_biases : 0});

  with_float_type(weight, [&](auto type) {
    using T = decltype(type);
    const cpu::Gradients<T> gradients{need_x ? mutable_numbers<T>(grad_x) : nullptr,
                                      need_parameters ? mutable_numbers<T>(grad_weight) : nullptr,
                                      need_parameters && num_biases ? mutable_numbers<T>(grad_bias) : nullptr};
    check_members(cpu::run_population_backward(all, numbers<T>(grad_rows), numbers<T>(weights), numbers<T>(tape_rows),
                                               batch, gradients, cpu::TorchThreads{}));
  });
  return {grad_x, grad_weight, grad_bias};
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CPU, m) {
  m.impl("population_forward", TORCH_BOX(&freewire::forward_cpu));
  m.impl("population_inference", TORCH_BOX(&freewire::inference_cpu));
  m.impl("population_backward", TORCH_BOX(&freewire::backward_cpu));
}

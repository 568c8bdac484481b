// SPDX-License-Identifier: MIT
// freewire::backward on the CPU, on torch's pool of threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <tuple>
#include <vector>

#include "checks.h"
#include "cpu/network/backward_drive.h"
#include "cpu/torch_tensors.h"
#include "cpu/torch_threads.h"

namespace freewire {
namespace {

using torch::stable::Tensor;

std::tuple<Tensor, Tensor, Tensor> backward_cpu(const Tensor& grad_y, const Tensor& tape, const Tensor& weight,
                                                const Tensor& plan_words, const Header& header, int64_t num_inputs,
                                                int64_t num_biases, bool need_x, bool need_parameters) {
  const PlanView plan = checked_backward(grad_y, tape, weight, plan_words, header, num_inputs, num_biases);
  const int64_t batch = grad_y.size(0);
  const Tensor grad_rows = cpu::contiguous(grad_y), weights = cpu::contiguous(weight);
  const Tensor tape_rows = cpu::contiguous(tape);
  Tensor grad_x = cpu::empty(weights, {need_x ? batch : 0, num_inputs});
  Tensor grad_weight = cpu::empty(weights, {need_parameters ? plan.num_edges : 0});
  Tensor grad_bias = cpu::empty(weights, {need_parameters ? num_biases : 0});

  with_float_type(weight, [&](auto type) {
    using T = decltype(type);
    const cpu::Gradients<T> gradients{need_x ? mutable_numbers<T>(grad_x) : nullptr,
                                      need_parameters ? mutable_numbers<T>(grad_weight) : nullptr,
                                      need_parameters && num_biases ? mutable_numbers<T>(grad_bias) : nullptr};
    cpu::run_backward(plan, numbers<T>(grad_rows), numbers<T>(weights), numbers<T>(tape_rows), batch, gradients,
                      cpu::TorchThreads{});
  });
  return {grad_x, grad_weight, grad_bias};
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CPU, m) { m.impl("backward", TORCH_BOX(&freewire::backward_cpu)); }

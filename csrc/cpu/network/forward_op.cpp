// SPDX-License-Identifier: MIT
// freewire::forward, inference and network on the CPU, on torch's pool of threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "checks.h"
#include "cpu/network/forward_drive.h"
#include "cpu/torch_tensors.h"
#include "cpu/torch_threads.h"

namespace freewire {
namespace {

using torch::stable::Tensor;

// kept: the tape to write, or null.
Tensor run(const PlanView& plan, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
           const Tensor* kept) {
  const int64_t batch = x.size(0);
  const Tensor x_rows = cpu::contiguous(x), weights = cpu::contiguous(weight);
  const Tensor biases = bias ? cpu::contiguous(*bias) : weights;
  Tensor y = cpu::empty(x, {batch, plan.num_outputs});

  with_float_type(x, [&](auto type) {
    using T = decltype(type);
    const cpu::ForwardCall<T> call{numbers<T>(x_rows), numbers<T>(weights), bias ? numbers<T>(biases) : nullptr,
                                   mutable_numbers<T>(y), batch};
    T* tape = kept ? mutable_numbers<T>(*kept) : nullptr;
    cpu::run_forward(plan, call, tape, cpu::TorchThreads{});
    if (tape) cpu::clear_tape_end(plan, batch, tape, kept->numel());
  });
  return y;
}

std::tuple<Tensor, Tensor> forward_cpu(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                                       const Tensor& plan_words, const Header& header, int64_t num_outputs,
                                       int64_t tape_rows) {
  const PlanView plan = checked_forward(x, weight, bias, plan_words, header, num_outputs, tape_rows);
  const Tensor kept = cpu::empty(x, {tape_rows ? kept_elements(plan, x.size(0), !header) : 0});
  return {run(plan, x, weight, bias, tape_rows ? &kept : nullptr), kept};
}

Tensor inference_cpu(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& plan_words,
                     const Header& header, int64_t num_outputs) {
  return run(checked_forward(x, weight, bias, plan_words, header, num_outputs, 0), x, weight, bias, nullptr);
}

// No tape: the operator's autograd, where there is one, calls freewire::forward.
Tensor network_cpu(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& plan_words,
                   const std::vector<int64_t>& header, int64_t num_outputs, int64_t, bool) {
  return inference_cpu(x, weight, bias, plan_words, header, num_outputs);
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CPU, m) {
  m.impl("forward", TORCH_BOX(&freewire::forward_cpu));
  m.impl("inference", TORCH_BOX(&freewire::inference_cpu));
  m.impl("network", TORCH_BOX(&freewire::network_cpu));
}

// SPDX-License-Identifier: MIT
// freewire::gated_sum and its backward on the CPU: one parallel region of torch's pool.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "cpu/blocks/gated_sum_call.h"
#include "cpu/torch_threads.h"

namespace freewire {
namespace {

using torch::stable::Tensor;

std::optional<Tensor> contiguous(const std::optional<Tensor>& tensor) {
  return tensor ? std::optional(torch::stable::contiguous(*tensor)) : std::nullopt;
}

Tensor gated_sum_cpu(const std::vector<Tensor>& xs, const std::optional<Tensor>& weight, bool relu) {
  check_gated_sum(xs, weight);
  const auto weights = contiguous(weight);
  Tensor y = torch::stable::empty_like(xs[0]);
  with_float_type(xs[0], [&](auto type) {
    using T = decltype(type);
    cpu::run_gated_sum(call_of<T>(xs, weights ? &*weights : nullptr, relu), mutable_numbers<T>(y), cpu::TorchThreads{});
  });
  return y;
}

std::tuple<std::vector<Tensor>, Tensor> gated_sum_backward_cpu(const Tensor& grad_y, const std::vector<Tensor>& xs,
                                                               const std::optional<Tensor>& weight, bool relu,
                                                               bool need_weight) {
  check_gated_sum_backward(grad_y, xs, weight, need_weight);
  const auto weights = contiguous(weight);
  std::vector<Tensor> grad_xs;
  for (const Tensor& x : xs) grad_xs.push_back(torch::stable::empty_like(x));
  const int64_t count = need_weight ? static_cast<int64_t>(xs.size()) : 0;
  Tensor grad_weight = torch::stable::new_empty(weight ? *weight : grad_y, {count});
  with_float_type(xs[0], [&](auto type) {
    using T = decltype(type);
    std::vector<T*> to;
    for (const Tensor& grad_x : grad_xs) to.push_back(mutable_numbers<T>(grad_x));
    cpu::run_gated_sum_backward(call_of<T>(xs, weights ? &*weights : nullptr, relu), numbers<T>(grad_y), to,
                                need_weight ? mutable_numbers<Compute<T>>(grad_weight) : nullptr, cpu::TorchThreads{});
  });
  return {std::move(grad_xs), grad_weight};
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CPU, m) {
  m.impl("gated_sum", TORCH_BOX(&freewire::gated_sum_cpu));
  m.impl("gated_sum_backward", TORCH_BOX(&freewire::gated_sum_backward_cpu));
}

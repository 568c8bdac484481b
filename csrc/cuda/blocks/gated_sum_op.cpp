// SPDX-License-Identifier: MIT
// freewire::gated_sum and its backward on a GPU: kernels on the caller's stream. Nothing waits, so they can be captured
// into a CUDA graph.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "cuda/blocks/gated_sum_kernels.h"
#include "cuda/common/torch_stream.h"
#include "gated_sum.h"

namespace freewire {
namespace {

using torch::stable::Tensor;

// Like cuda::aligned(), for tensors that keep their order of axes.
Tensor flat(const Tensor& tensor) {
  if (reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0) return tensor;
  return cuda::allocated(tensor.numel() * static_cast<int64_t>(tensor.element_size()),
                         [&] { return torch::stable::clone(tensor); });
}

Tensor empty_alike(const Tensor& tensor) {
  return cuda::allocated(tensor.numel() * static_cast<int64_t>(tensor.element_size()),
                         [&] { return torch::stable::empty_like(tensor); });
}

// Owns the arguments in the form that the kernels need.
struct Held {
  Held(const std::vector<Tensor>& arrays, const std::optional<Tensor>& weights) {
    for (const Tensor& x : arrays) xs.push_back(flat(x));
    if (weights) weight = cuda::aligned(*weights);
  }
  template <class T>
  cuda::GatedSumCall<T> call(bool relu) const {
    cuda::GatedSumCall<T> found{{}, weight ? numbers<Compute<T>>(*weight) : nullptr, xs[0].numel(), relu};
    for (const Tensor& x : xs) found.xs.push_back(numbers<T>(x));
    return found;
  }
  std::vector<Tensor> xs;
  std::optional<Tensor> weight;
};

Tensor gated_sum_cuda(const std::vector<Tensor>& xs, const std::optional<Tensor>& weight, bool relu) {
  check_gated_sum(xs, weight);
  const cuda::DeviceGuard guard(xs[0]);
  cuda::usable_device();
  const Held held(xs, weight);
  Tensor y = empty_alike(xs[0]);
  with_float_type(xs[0], [&](auto type) {
    using T = decltype(type);
    const auto call = held.call<T>(relu);
    const cuda::Workspace<Compute<T>> carried(y, cuda::carried_sums(call));
    cuda::run_gated_sum(call, mutable_numbers<T>(y), carried.data(), guard.stream());
  });
  cuda::check_launches();
  return y;
}

std::tuple<std::vector<Tensor>, Tensor> gated_sum_backward_cuda(const Tensor& grad_y, const std::vector<Tensor>& xs,
                                                                const std::optional<Tensor>& weight, bool relu,
                                                                bool need_weight) {
  check_gated_sum_backward(grad_y, xs, weight, need_weight);
  const cuda::DeviceGuard guard(xs[0]);
  cuda::usable_device();
  const Held held(xs, weight);
  const Tensor grad = flat(grad_y);
  std::vector<Tensor> grad_xs;
  for (const Tensor& x : xs) grad_xs.push_back(empty_alike(x));
  Tensor grad_weight = cuda::empty(weight ? *weight : grad_y, {need_weight ? static_cast<int64_t>(xs.size()) : 0});
  with_float_type(xs[0], [&](auto type) {
    using T = decltype(type);
    using C = Compute<T>;
    const auto call = held.call<T>(relu);
    const cuda::Workspace<C> carried(grad, relu ? cuda::carried_sums(call) : 0);
    const cuda::Workspace<C> partial(grad, need_weight ? cuda::partial_sums(call) : 0);
    cuda::GatedSumGradients<T> gradients{{}, need_weight ? mutable_numbers<C>(grad_weight) : nullptr, partial.data()};
    for (const Tensor& grad_x : grad_xs) gradients.xs.push_back(mutable_numbers<T>(grad_x));
    cuda::run_gated_sum_backward(call, numbers<T>(grad), gradients, carried.data(), guard.stream());
  });
  cuda::check_launches();
  return {std::move(grad_xs), grad_weight};
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CUDA, m) {
  m.impl("gated_sum", TORCH_BOX(&freewire::gated_sum_cuda));
  m.impl("gated_sum_backward", TORCH_BOX(&freewire::gated_sum_backward_cuda));
}

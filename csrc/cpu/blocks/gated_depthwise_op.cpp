// SPDX-License-Identifier: MIT
// freewire::gated_depthwise and its backward on the CPU: one parallel region of torch's pool.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <tuple>
#include <vector>

#include "cpu/blocks/gated_depthwise_drive.h"
#include "cpu/blocks/gated_sum_call.h"
#include "cpu/torch_threads.h"

namespace freewire {
namespace {

using torch::stable::Tensor;

cpu::Maps maps_of(const std::vector<Tensor>& xs, const Tensor& weight, const Tensor& kernel) {
  check_gated_sum(xs, weight);
  const Tensor& x = xs[0];
  STD_TORCH_CHECK(x.dim() == 4, "xs: expected [batch, channels, height, width], got ", x.dim(),
                  " dimension(s). Use gated_sum for other shapes.");
  const cpu::Maps maps{x.size(0), x.size(2), x.size(3), x.size(1)};
  const int64_t steps[] = {maps.height * maps.row(), 1, maps.row(), maps.channels};
  for (int axis = 0; axis < 4; ++axis) {
    STD_TORCH_CHECK(x.numel() == 0 || x.size(axis) == 1 || x.stride(axis) == steps[axis],
                    "xs: expected channels_last tensors, got another layout. Use contiguous() in that memory format.");
  }
  STD_TORCH_CHECK(kernel.dim() == 4 && kernel.size(0) == maps.channels && kernel.size(1) == 1 && kernel.size(2) == 3 &&
                      kernel.size(3) == 3,
                  "kernel: expected shape [", maps.channels, ", 1, 3, 3], got another shape of ", kernel.numel(),
                  " elements. Pass one 3x3 kernel per channel.");
  STD_TORCH_CHECK(kernel.scalar_type() == x.scalar_type() && kernel.device() == x.device(),
                  "kernel: expected the element type and the device of xs, got others. Use to(xs[0]).");
  return maps;
}

// A kernel [channels, 1, 3, 3] as [9, channels], in the type that is computed in.
template <class T>
std::vector<Compute<T>> taps_of(const Tensor& kernel) {
  const Tensor whole = torch::stable::contiguous(kernel);
  const T* const from = numbers<T>(whole);
  const int64_t channels = whole.size(0);
  std::vector<Compute<T>> taps(9 * channels);
  for (int64_t i = 0; i < 9 * channels; ++i) taps[i % 9 * channels + i / 9] = widened(from[i]);
  return taps;
}

Tensor gated_depthwise_cpu(const std::vector<Tensor>& xs, const Tensor& weight, bool relu, const Tensor& kernel) {
  const cpu::Maps maps = maps_of(xs, weight, kernel);
  const Tensor weights = torch::stable::contiguous(weight);
  Tensor y = torch::stable::empty_like(xs[0]);
  with_float_type(xs[0], [&](auto type) {
    using T = decltype(type);
    cpu::run_gated_depthwise(call_of<T>(xs, &weights, relu), maps, taps_of<T>(kernel).data(), mutable_numbers<T>(y),
                             cpu::TorchThreads{});
  });
  return y;
}

std::tuple<std::vector<Tensor>, Tensor, Tensor> gated_depthwise_backward_cpu(const Tensor& grad_y,
                                                                             const std::vector<Tensor>& xs,
                                                                             const Tensor& weight, bool relu,
                                                                             const Tensor& kernel, bool need_weight,
                                                                             bool need_kernel) {
  const cpu::Maps maps = maps_of(xs, weight, kernel);
  check_gated_sum_backward(grad_y, xs, weight, need_weight);
  const Tensor weights = torch::stable::contiguous(weight);
  std::vector<Tensor> grad_xs;
  for (const Tensor& x : xs) grad_xs.push_back(torch::stable::empty_like(x));
  Tensor grad_weight = torch::stable::new_empty(weight, {need_weight ? static_cast<int64_t>(xs.size()) : 0});
  Tensor grad_kernel = torch::stable::new_empty(kernel, {need_kernel ? maps.channels : 0, 1, 3, 3});
  with_float_type(xs[0], [&](auto type) {
    using T = decltype(type);
    std::vector<Compute<T>> taps(need_kernel ? 9 * maps.channels : 0);
    cpu::GatedDepthwiseGradients<T> grads{
        {}, need_weight ? mutable_numbers<Compute<T>>(grad_weight) : nullptr, need_kernel ? taps.data() : nullptr};
    for (const Tensor& grad_x : grad_xs) grads.xs.push_back(mutable_numbers<T>(grad_x));
    cpu::run_gated_depthwise_backward(call_of<T>(xs, &weights, relu), maps, taps_of<T>(kernel).data(),
                                      numbers<T>(grad_y), grads, cpu::TorchThreads{});
    T* const to = mutable_numbers<T>(grad_kernel);
    for (int64_t i = 0; i < static_cast<int64_t>(taps.size()); ++i) {
      to[i] = narrowed<T>(taps[i % 9 * maps.channels + i / 9]);
    }
  });
  return {std::move(grad_xs), grad_weight, grad_kernel};
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CPU, m) {
  m.impl("gated_depthwise", TORCH_BOX(&freewire::gated_depthwise_cpu));
  m.impl("gated_depthwise_backward", TORCH_BOX(&freewire::gated_depthwise_backward_cpu));
}

// SPDX-License-Identifier: MIT
// Argument checks of the gated sum's operators. Like checks.h it is at the root because the bindings of both backends
// use it.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <optional>
#include <vector>

#include "checks.h"

namespace freewire {

// Whether the elements fill their memory without gaps or overlaps, in any order of axes.
inline bool is_dense(const torch::stable::Tensor& tensor) {
  std::vector<int64_t> axes(tensor.dim());
  std::iota(axes.begin(), axes.end(), 0);
  std::sort(axes.begin(), axes.end(), [&](int64_t a, int64_t b) { return tensor.stride(a) < tensor.stride(b); });
  int64_t step = 1;
  for (const int64_t axis : axes) {
    if (tensor.size(axis) == 1) continue;
    if (tensor.stride(axis) != step) return tensor.numel() == 0;
    step *= tensor.size(axis);
  }
  return true;
}

// The stride of an axis of one element does not matter.
inline void check_alike(const torch::stable::Tensor& tensor, const torch::stable::Tensor& first, const char* name) {
  STD_TORCH_CHECK(tensor.scalar_type() == first.scalar_type() && tensor.device() == first.device(), name,
                  ": expected the element type and the device of the first of xs, got others.");
  bool alike = tensor.dim() == first.dim();
  for (int64_t axis = 0; alike && axis < first.dim(); ++axis) {
    const int64_t size = first.size(axis);
    alike = tensor.size(axis) == size && (size == 1 || tensor.stride(axis) == first.stride(axis));
  }
  STD_TORCH_CHECK(alike || (first.numel() == 0 && tensor.numel() == 0), name,
                  ": expected the shape and the strides of the first of xs, got others.");
}

inline void check_gated_sum(const std::vector<torch::stable::Tensor>& xs,
                            const std::optional<torch::stable::Tensor>& weight) {
  using torch::headeronly::ScalarType;
  STD_TORCH_CHECK(!xs.empty(), "xs: expected at least one tensor, got none.");
  STD_TORCH_CHECK(is_dense(xs[0]), "xs: expected tensors without gaps in memory, got one with gaps. Use contiguous().");
  for (const auto& x : xs) check_alike(x, xs[0], "xs");
  if (!weight) return;
  const bool is_double = xs[0].scalar_type() == ScalarType::Double;
  const int64_t count = static_cast<int64_t>(xs.size());
  STD_TORCH_CHECK(weight->dim() == 1 && weight->size(0) == count, "weight: expected one number for each of ", count,
                  " tensors, got ", weight->numel(), ".");
  STD_TORCH_CHECK(weight->scalar_type() == (is_double ? ScalarType::Double : ScalarType::Float) &&
                      weight->device() == xs[0].device(),
                  "weight: expected float32, or float64 for float64 tensors, on the device of xs, got another tensor.");
}

inline void check_gated_sum_backward(const torch::stable::Tensor& grad_y, const std::vector<torch::stable::Tensor>& xs,
                                     const std::optional<torch::stable::Tensor>& weight, bool need_weight) {
  check_gated_sum(xs, weight);
  check_alike(grad_y, xs[0], "grad_y");
  STD_TORCH_CHECK(weight || !need_weight, "need_weight: expected a weight to compute the gradient of, got none.");
}

}  // namespace freewire

// SPDX-License-Identifier: MIT
// Argument checks of the operators, shared by the backends.
//
// freewire/network.py checks what a user can get wrong and says it in the user's words. These are the second
// line, for direct calls of torch.ops.freewire: nothing that passes them reads or writes out of bounds, given
// a plan that Plan.pack() made.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>

#include "plan_view.h"

namespace freewire {

// Samples that a kept tape holds: whole tiles of the widest kind, so that its size does not depend on the
// tile chosen.
constexpr int64_t kTapePadding = 64;
inline int64_t padded_batch(int64_t batch) { return (batch + kTapePadding - 1) / kTapePadding * kTapePadding; }

inline PlanView checked_plan(const torch::stable::Tensor& plan) {
  STD_TORCH_CHECK(plan.scalar_type() == torch::headeronly::ScalarType::Long && plan.dim() == 1 && plan.is_contiguous(),
                  "plan: expected a contiguous int64 vector made by Plan.pack(), got something else.");
  PlanView view;
  STD_TORCH_CHECK(read_plan(plan.const_data_ptr<int64_t>(), plan.numel(), &view),
                  "plan: expected the words of Plan.pack(), got others. Make the plan with this version of freewire.");
  return view;
}

inline void check_vector(const torch::stable::Tensor& tensor, const torch::stable::Tensor& like, int64_t length,
                         const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 1 && tensor.size(0) == length, name, ": expected a vector of ", length,
                  " numbers, got ", tensor.numel(), " in ", tensor.dim(), " dimension(s).");
  STD_TORCH_CHECK(tensor.scalar_type() == like.scalar_type(), name, ": expected the element type of x.");
  STD_TORCH_CHECK(tensor.device() == like.device(), name, ": expected the device of x.");
}

inline void check_matrix(const torch::stable::Tensor& tensor, int64_t width, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 2 && tensor.size(1) == width, name, ": expected shape [batch, ", width, "], got ",
                  tensor.dim(), " dimension(s) and ", tensor.numel(), " element(s).");
}

// Calls body(T{}) with T float or double, as the tensor's type says.
template <class Body>
void with_float_type(const torch::stable::Tensor& tensor, Body&& body) {
  using torch::headeronly::ScalarType;
  const ScalarType type = tensor.scalar_type();
  STD_TORCH_CHECK(type == ScalarType::Float || type == ScalarType::Double,
                  "x: expected float32 or float64, got another type. Convert it, or the network.");
  if (type == ScalarType::Float) {
    body(float{});
  } else {
    body(double{});
  }
}

}  // namespace freewire

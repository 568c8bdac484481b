// SPDX-License-Identifier: MIT
// Argument checks of the operators of populations, shared by the backends; see checks.h.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <vector>

#include "allocations.h"
#include "checks.h"
#include "population.h"

namespace freewire {

// The arrays of a population. Its members are checked one by one where they run; see check_members().
inline Population checked_population(const torch::stable::Tensor& like, const torch::stable::Tensor& weight,
                                     const torch::stable::Tensor& plans, const torch::stable::Tensor& table,
                                     const std::vector<int64_t>& limits) {
  using torch::headeronly::ScalarType;
  STD_TORCH_CHECK(plans.scalar_type() == ScalarType::Long && plans.dim() == 1 && plans.is_contiguous(),
                  "plans: expected a contiguous int64 vector of packed plans, got another tensor.");
  STD_TORCH_CHECK(table.scalar_type() == ScalarType::Long && table.dim() == 2 && table.size(1) == kTableColumns &&
                      table.is_contiguous(),
                  "table: expected a contiguous int64 matrix of ", kTableColumns, " columns, got another tensor.");
  STD_TORCH_CHECK(plans.device() == like.device() && table.device() == like.device(),
                  "plans, table: expected the device of x, got another.");
  STD_TORCH_CHECK(static_cast<int64_t>(limits.size()) == kLimits && limits[0] == table.size(0) && limits[1] >= 0,
                  "limits: expected ", kLimits, " numbers, the first of which is ", table.size(0), ", got others.");
  check_vector(weight, like, limits[kLimits - 2], "weight");
  return {plans.const_data_ptr<int64_t>(),
          table.const_data_ptr<int64_t>(),
          plans.numel(),
          limits[0],
          weight.numel(),
          0,
          limits[1],
          0,
          0};
}

inline Population checked_population_forward(const torch::stable::Tensor& x, const torch::stable::Tensor& weight,
                                             const std::optional<torch::stable::Tensor>& bias,
                                             const torch::stable::Tensor& plans, const torch::stable::Tensor& table,
                                             const std::vector<int64_t>& limits, int64_t num_outputs) {
  Population all = checked_population(x, weight, plans, table, limits);
  STD_TORCH_CHECK(x.dim() == 3 && (x.size(0) == all.members || x.size(0) == 1), "x: expected shape [", all.members,
                  " or 1, batch, features], got ", x.dim(), " dimension(s) and ", x.numel(), " element(s).");
  STD_TORCH_CHECK(num_outputs >= 0, "num_outputs: expected a number of outputs, got ", num_outputs, ".");
  if (bias) check_vector(*bias, x, limits[kLimits - 1], "bias");
  all.num_biases = bias ? bias->numel() : 0;
  all.num_inputs = x.size(2);
  all.num_outputs = num_outputs;
  return all;
}

// Elements of the tape; csrc/allocations.h has those of a network.
inline int64_t population_kept_elements(const Population& all, int64_t batch, bool cpu) {
  PlanSizes sizes{};
  sizes.tape_rows = all.tape_rows;
  return kept_elements(sizes, batch, cpu);
}

inline Population checked_population_backward(const torch::stable::Tensor& grad_y, const torch::stable::Tensor& tape,
                                              const torch::stable::Tensor& weight, const torch::stable::Tensor& plans,
                                              const torch::stable::Tensor& table, const std::vector<int64_t>& limits,
                                              int64_t num_inputs, int64_t num_biases, bool cpu) {
  Population all = checked_population(grad_y, weight, plans, table, limits);
  STD_TORCH_CHECK(grad_y.dim() == 3 && grad_y.size(0) == all.members, "grad_y: expected shape [", all.members,
                  ", batch, outputs], got ", grad_y.dim(), " dimension(s) and ", grad_y.numel(), " element(s).");
  STD_TORCH_CHECK(num_inputs >= 0, "num_inputs: expected a number of at least 0, got ", num_inputs, ".");
  STD_TORCH_CHECK(num_biases == 0 || num_biases == limits[kLimits - 1], "num_biases: expected 0 or ",
                  limits[kLimits - 1], ", got ", num_biases, ".");
  check_vector(tape, grad_y, population_kept_elements(all, grad_y.size(1), cpu), "tape");
  all.num_biases = num_biases;
  all.num_inputs = num_inputs;
  all.num_outputs = grad_y.size(2);
  return all;
}

inline void check_members(bool fit) {
  STD_TORCH_CHECK(fit,
                  "table: expected the plans, weights and biases of members with the population's numbers of "
                  "inputs and outputs, got others.");
}

}  // namespace freewire

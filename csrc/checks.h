// SPDX-License-Identifier: MIT
// Argument checks of the operators, shared by the backends.
//
// freewire/nn/network.py checks the mistakes that a user can make and reports them in the user's terms. These checks
// are the second line, for direct calls of torch.ops.freewire: arguments that pass them are never read or written out
// of bounds, given a packed plan that Plan.pack() made.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <vector>

#include "allocations.h"
#include "number.h"
#include "plan_view.h"

namespace freewire {

// The first words of a packed plan, where the host cannot read them from the plan itself.
using Header = std::optional<std::vector<int64_t>>;

inline PlanView checked_plan(const torch::stable::Tensor& plan, const Header& header) {
  STD_TORCH_CHECK(plan.scalar_type() == torch::headeronly::ScalarType::Long && plan.dim() == 1 && plan.is_contiguous(),
                  "plan: expected a contiguous int64 vector, the packed plan, got another tensor.");
  STD_TORCH_CHECK(header ? header->size() == kPlanHeader : plan.is_cpu(), "header: expected the first ", kPlanHeader,
                  " words of the packed plan, or None for a plan on the CPU, got ", header ? header->size() : 0, ".");
  const int64_t* words = plan.const_data_ptr<int64_t>();
  PlanView view;
  STD_TORCH_CHECK(read_plan(header ? header->data() : words, words, plan.numel(), &view),
                  "plan: expected a plan that Plan.pack() of this version of freewire made, got other numbers.");
  return view;
}

inline void check_vector(const torch::stable::Tensor& tensor, const torch::stable::Tensor& like, int64_t length,
                         const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 1 && tensor.size(0) == length, name, ": expected a vector of ", length,
                  " numbers, got ", tensor.numel(), " in ", tensor.dim(), " dimension(s).");
  STD_TORCH_CHECK(tensor.scalar_type() == like.scalar_type(), name, ": expected the element type of x, got another.");
  STD_TORCH_CHECK(tensor.device() == like.device(), name, ": expected the device of x, got another.");
}

inline void check_matrix(const torch::stable::Tensor& tensor, int64_t width, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 2 && tensor.size(1) == width, name, ": expected shape [batch, ", width, "], got ",
                  tensor.dim(), " dimension(s) and ", tensor.numel(), " element(s).");
}

// Checks the arguments of freewire::forward; csrc/library.cpp describes them.
inline PlanView checked_forward(const torch::stable::Tensor& x, const torch::stable::Tensor& weight,
                                const std::optional<torch::stable::Tensor>& bias,
                                const torch::stable::Tensor& plan_words, const Header& header, int64_t num_outputs,
                                int64_t tape_rows) {
  const PlanView plan = checked_plan(plan_words, header);
  STD_TORCH_CHECK(plan_words.device() == x.device(), "plan: expected the device of x, got another.");
  check_matrix(x, plan.num_inputs, "x");
  check_vector(weight, x, plan.num_edges, "weight");
  if (bias) check_vector(*bias, x, plan.num_biases, "bias");
  STD_TORCH_CHECK(num_outputs == plan.num_outputs, "num_outputs: expected ", plan.num_outputs, ", got ", num_outputs,
                  ".");
  STD_TORCH_CHECK(tape_rows == 0 || tape_rows == plan.tape_rows, "tape_rows: expected 0 or ", plan.tape_rows, ", got ",
                  tape_rows, ".");
  return plan;
}

// Checks the arguments of freewire::backward.
inline PlanView checked_backward(const torch::stable::Tensor& grad_y, const torch::stable::Tensor& tape,
                                 const torch::stable::Tensor& weight, const torch::stable::Tensor& plan_words,
                                 const Header& header, int64_t num_inputs, int64_t num_biases) {
  const PlanView plan = checked_plan(plan_words, header);
  STD_TORCH_CHECK(plan_words.device() == grad_y.device(), "plan: expected the device of grad_y, got another.");
  check_matrix(grad_y, plan.num_outputs, "grad_y");
  check_vector(weight, grad_y, plan.num_edges, "weight");
  check_vector(tape, grad_y, kept_elements(plan, grad_y.size(0), !header), "tape");
  STD_TORCH_CHECK(num_inputs == plan.num_inputs, "num_inputs: expected ", plan.num_inputs, ", got ", num_inputs, ".");
  STD_TORCH_CHECK(num_biases == 0 || num_biases == plan.num_biases, "num_biases: expected 0 or ", plan.num_biases,
                  ", got ", num_biases, ".");
  return plan;
}

inline void check_steps(const torch::stable::Tensor& tensor, int64_t steps, int64_t batch, int64_t width,
                        const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 3 && tensor.size(0) == steps && tensor.size(1) == batch && tensor.size(2) == width,
                  name, ": expected shape [", steps, ", ", batch, ", ", width, "], got ", tensor.dim(),
                  " dimension(s) and ", tensor.numel(), " element(s).");
}

// The tensors of freewire::sequence that its backward has too; x is checked first.
inline PlanView checked_sequence(const torch::stable::Tensor& x, const torch::stable::Tensor& states,
                                 const torch::stable::Tensor& weight, const std::optional<torch::stable::Tensor>& bias,
                                 const torch::stable::Tensor& plan_words, const Header& header, int64_t every) {
  const PlanView plan = checked_plan(plan_words, header);
  STD_TORCH_CHECK(plan_words.device() == x.device(), "plan: expected the device of x, got another.");
  STD_TORCH_CHECK(x.dim() == 3, "x: expected shape [steps, batch, features], got ", x.dim(), " dimension(s).");
  check_steps(x, x.size(0), x.size(1), plan.num_inputs - plan.num_states, "x");
  const auto like_x = [&](const torch::stable::Tensor& tensor, const char* name) {
    STD_TORCH_CHECK(tensor.scalar_type() == x.scalar_type(), name, ": expected the element type of x, got another.");
    STD_TORCH_CHECK(tensor.device() == x.device(), name, ": expected the device of x, got another.");
  };
  check_matrix(states, plan.num_states, "states");
  STD_TORCH_CHECK(states.size(0) == x.size(1), "states: expected ", x.size(1), " rows, got ", states.size(0), ".");
  like_x(states, "states");
  check_vector(weight, x, plan.num_edges, "weight");
  if (bias) check_vector(*bias, x, plan.num_biases, "bias");
  STD_TORCH_CHECK(every >= 0, "every: expected a number of steps, or 0, got ", every, ".");
  return plan;
}

// The numbers that freewire::sequence is passed, since its results are made of them.
inline void check_sequence_sizes(const PlanView& plan, int64_t num_results, int64_t tape_rows) {
  STD_TORCH_CHECK(num_results == plan.num_results, "num_results: expected ", plan.num_results, ", got ", num_results,
                  ".");
  STD_TORCH_CHECK(tape_rows == plan.tape_rows, "tape_rows: expected ", plan.tape_rows, ", got ", tape_rows, ".");
}

// What freewire::sequence_backward has besides the tensors that checked_sequence() checked. cpu: it has no header.
inline void check_sequence_gradients(const PlanView& plan, const torch::stable::Tensor& grad_y,
                                     const torch::stable::Tensor& grad_last, const torch::stable::Tensor& kept,
                                     const torch::stable::Tensor& x, int64_t every, bool cpu) {
  const int64_t steps = x.size(0), batch = x.size(1);
  check_steps(grad_y, steps, batch, plan.num_results, "grad_y");
  check_matrix(grad_last, plan.num_states, "grad_last");
  check_vector(kept, x, kept_of_sequence(plan, batch, steps, every, cpu), "kept");
  STD_TORCH_CHECK(grad_last.size(0) == batch, "grad_last: expected ", batch, " rows, got ", grad_last.size(0), ".");
  STD_TORCH_CHECK(grad_y.scalar_type() == x.scalar_type() && grad_last.scalar_type() == x.scalar_type() &&
                      grad_y.device() == x.device() && grad_last.device() == x.device(),
                  "grad_y, grad_last: expected the element type and the device of x, got others.");
}

// Calls body(T{}), T being the type that the tensor's numbers are stored in.
template <class Body>
void with_float_type(const torch::stable::Tensor& tensor, Body&& body) {
  using torch::headeronly::ScalarType;
#define FREEWIRE_CASE(T, tag, name) \
  case ScalarType::tag:             \
    return body(T{});
#define FREEWIRE_NAME(T, tag, name) name ", "
  switch (tensor.scalar_type()) {
    FREEWIRE_FOR_EACH_TYPE(FREEWIRE_CASE)
    default:
      STD_TORCH_CHECK(false, "x: expected one of " FREEWIRE_FOR_EACH_TYPE(
                                 FREEWIRE_NAME) "got another type. Convert it, or the network.");
  }
#undef FREEWIRE_CASE
#undef FREEWIRE_NAME
}

// A pointer to a tensor's numbers as a type of number.h, which torch's typed pointers do not know.
template <class T>
const T* numbers(const torch::stable::Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}
template <class T>
T* mutable_numbers(const torch::stable::Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

}  // namespace freewire

// SPDX-License-Identifier: MIT
// freewire::sequence and its backward on the CPU, on torch's pool of threads.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "checks.h"
#include "cpu/network/sequence_backward.h"
#include "cpu/network/sequence_drive.h"
#include "cpu/torch_tensors.h"
#include "cpu/torch_threads.h"

namespace freewire {
namespace {

using torch::stable::Tensor;

std::tuple<Tensor, Tensor, Tensor> sequence_cpu(const Tensor& x, const Tensor& states, const Tensor& weight,
                                                const std::optional<Tensor>& bias, const Tensor& plan_words,
                                                const Header& header, int64_t num_results, int64_t tape_rows,
                                                int64_t every, bool keep) {
  const PlanView plan = checked_sequence(x, states, weight, bias, plan_words, header, every);
  check_sequence_sizes(plan, num_results, tape_rows);
  const int64_t steps = x.size(0), batch = x.size(1);
  const Tensor xs = cpu::contiguous(x), before = cpu::contiguous(states), weights = cpu::contiguous(weight);
  const Tensor biases = bias ? cpu::contiguous(*bias) : weights;
  Tensor y = cpu::empty(x, {steps, batch, num_results});
  Tensor last = cpu::empty(x, {batch, plan.num_states});
  const Tensor kept = cpu::empty(x, {keep ? kept_of_sequence(plan, batch, steps, every, !header) : 0});
  with_float_type(x, [&](auto type) {
    using T = decltype(type);
    const cpu::SequenceCall<T> call{numbers<T>(xs),
                                    numbers<T>(before),
                                    numbers<T>(weights),
                                    bias ? numbers<T>(biases) : nullptr,
                                    mutable_numbers<T>(y),
                                    mutable_numbers<T>(last),
                                    batch,
                                    steps,
                                    every};
    T* const memory = keep ? mutable_numbers<T>(kept) : nullptr;
    cpu::run_sequence(plan, call, memory, cpu::TorchThreads{});
    // An operator's result must not be garbage, even where it is not read.
    const cpu::Tiling<T> tiling = cpu::sequence_tiling<T>(plan, batch);
    const int64_t rows = every ? chunks_of(steps, every) * plan.num_states : steps * plan.tape_rows;
    if (memory) std::fill(memory + tiling.tiles * tiling.columns * rows, memory + kept.numel(), T{});
  });
  return {y, last, kept};
}

// Nothing is kept: the operator's autograd, where there is one, calls freewire::sequence.
std::tuple<Tensor, Tensor> recurrent_cpu(const Tensor& x, const Tensor& states, const Tensor& weight,
                                         const std::optional<Tensor>& bias, const Tensor& plan_words,
                                         const std::vector<int64_t>& header, int64_t num_results, int64_t tape_rows,
                                         int64_t every) {
  const auto [y, last, kept] =
      sequence_cpu(x, states, weight, bias, plan_words, header, num_results, tape_rows, every, false);
  return {y, last};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sequence_backward_cpu(
    const Tensor& grad_y, const Tensor& grad_last, const Tensor& kept, const Tensor& x, const Tensor& states,
    const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& plan_words, const Header& header,
    int64_t every, bool need_x, bool need_states, bool need_parameters) {
  const PlanView plan = checked_sequence(x, states, weight, bias, plan_words, header, every);
  const int64_t steps = x.size(0), batch = x.size(1);
  check_sequence_gradients(plan, grad_y, grad_last, kept, x, every, !header);
  const Tensor xs = cpu::contiguous(x), before = cpu::contiguous(states), weights = cpu::contiguous(weight);
  const Tensor biases = bias ? cpu::contiguous(*bias) : weights;
  const Tensor grad_ys = cpu::contiguous(grad_y), grad_lasts = cpu::contiguous(grad_last);
  const Tensor memory = cpu::contiguous(kept);
  Tensor grad_x = cpu::empty(x, {need_x ? steps : 0, batch, plan.num_inputs - plan.num_states});
  Tensor grad_states = cpu::empty(x, {need_states ? batch : 0, plan.num_states});
  Tensor grad_weight = cpu::empty(x, {need_parameters ? plan.num_edges : 0});
  Tensor grad_bias = cpu::empty(x, {need_parameters && bias ? plan.num_biases : 0});
  with_float_type(x, [&](auto type) {
    using T = decltype(type);
    const cpu::SequenceCall<T> call{numbers<T>(xs),
                                    numbers<T>(before),
                                    numbers<T>(weights),
                                    bias ? numbers<T>(biases) : nullptr,
                                    nullptr,
                                    nullptr,
                                    batch,
                                    steps,
                                    every};
    const cpu::SequenceGradients<T> gradients{need_x ? mutable_numbers<T>(grad_x) : nullptr,
                                              need_states ? mutable_numbers<T>(grad_states) : nullptr,
                                              need_parameters ? mutable_numbers<T>(grad_weight) : nullptr,
                                              need_parameters && bias ? mutable_numbers<T>(grad_bias) : nullptr};
    const cpu::TorchThreads threads;
    cpu::SequenceBackward<T, cpu::TorchThreads>(plan, call, numbers<T>(grad_ys), numbers<T>(grad_lasts),
                                                numbers<T>(memory), gradients, threads)
        .run();
  });
  return {grad_x, grad_states, grad_weight, grad_bias};
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CPU, m) {
  m.impl("sequence", TORCH_BOX(&freewire::sequence_cpu));
  m.impl("recurrent", TORCH_BOX(&freewire::recurrent_cpu));
  m.impl("sequence_backward", TORCH_BOX(&freewire::sequence_backward_cpu));
}

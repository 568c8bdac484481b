// SPDX-License-Identifier: MIT
// freewire::forward and freewire::network on the CPU: one parallel region of torch's pool, one task per tile of the
// batch.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "checks.h"
#include "cpu/network/drive.h"
#include "cpu/torch_threads.h"

namespace freewire {
namespace {

using torch::stable::Tensor;

std::tuple<Tensor, Tensor> forward_cpu(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                                       const Tensor& plan_words, const std::vector<int64_t>& header,
                                       int64_t num_outputs, int64_t tape_rows) {
  const PlanView plan = checked_forward(x, weight, bias, plan_words, header, num_outputs, tape_rows);
  const int64_t batch = x.size(0);
  const Tensor x_rows = torch::stable::contiguous(x), weights = torch::stable::contiguous(weight);
  const Tensor biases = bias ? torch::stable::contiguous(*bias) : weights;
  Tensor y = torch::stable::new_empty(x, {batch, num_outputs});
  Tensor kept = torch::stable::new_empty(x, {tape_rows ? kept_elements(plan, batch) : 0});

  with_float_type(x, [&](auto type) {
    using T = decltype(type);
    const cpu::ForwardCall<T> call{numbers<T>(x_rows), numbers<T>(weights), bias ? numbers<T>(biases) : nullptr,
                                   mutable_numbers<T>(y), batch};
    T* tape = tape_rows ? mutable_numbers<T>(kept) : nullptr;
    cpu::run_forward(plan, call, tape, cpu::TorchThreads{});
    // Narrow tiles leave the end of the tape unused; an operator's result must not be garbage, even where it is not
    // read.
    const cpu::Tiling<T> tiling(plan, batch);
    if (tape) std::fill(tape + tiling.tiles * tiling.columns * tape_rows, tape + kept.numel(), T{});
  });
  return {y, kept};
}

// No tape: the operator's autograd, where there is one, calls freewire::forward.
Tensor network_cpu(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& plan_words,
                   const std::vector<int64_t>& header, int64_t num_outputs, int64_t, bool) {
  return std::get<0>(forward_cpu(x, weight, bias, plan_words, header, num_outputs, 0));
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CPU, m) {
  m.impl("forward", TORCH_BOX(&freewire::forward_cpu));
  m.impl("network", TORCH_BOX(&freewire::network_cpu));
}

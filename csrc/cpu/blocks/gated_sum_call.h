// SPDX-License-Identifier: MIT
// A gated sum's arguments as tensors, for cpu/gated_sum_drive.h.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "cpu/blocks/gated_sum_drive.h"
#include "gated_sum.h"

namespace freewire {

// weight: contiguous, and living as long as the call; null: the mean.
template <class T>
cpu::GatedSumCall<T> call_of(const std::vector<torch::stable::Tensor>& xs, const torch::stable::Tensor* weight,
                             bool relu) {
  cpu::GatedSumCall<T> call{{}, weight ? numbers<Compute<T>>(*weight) : nullptr, xs[0].numel(), relu};
  for (const auto& x : xs) call.xs.push_back(numbers<T>(x));
  return call;
}

}  // namespace freewire

// SPDX-License-Identifier: MIT
// Converts the arguments of a gated sum from tensors for cpu/blocks/gated_sum_drive.h.
#pragma once

#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "cpu/blocks/gated_sum_drive.h"
#include "gated_sum.h"

namespace freewire {

// weight must be contiguous and outlive the call; null means the mean.
template <class T>
cpu::GatedSumCall<T> call_of(const std::vector<torch::stable::Tensor>& xs, const torch::stable::Tensor* weight,
                             bool relu) {
  cpu::GatedSumCall<T> call{{}, weight ? numbers<Compute<T>>(*weight) : nullptr, xs[0].numel(), relu};
  for (const auto& x : xs) call.xs.push_back(numbers<T>(x));
  return call;
}

}  // namespace freewire

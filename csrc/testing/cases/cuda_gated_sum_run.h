// SPDX-License-Identifier: MIT
// Gated sums through the CUDA kernels on the CPU: results are right, and have the same bits in any order of blocks and
// threads.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/blocks/gated_sum_kernels.h"
#include "testing/cases/cuda_run.h"
#include "testing/cases/gated_sum_case.h"
#include "testing/simt/simt.h"

namespace freewire::testing {

template <class T>
GatedSumResult<T> cuda_run(const GatedSumCase<T>& given, uint64_t seed, bool need_weight) {
  using C = Compute<T>;
  simt::options().seed = seed;
  GatedSumResult<T> result(given, need_weight);
  const cuda::GatedSumCall<T> call{given.inputs(), given.weight.data(), given.length, given.relu};
  const Exact<C> carried(cuda::carried_sums(call)), partial(need_weight ? cuda::partial_sums(call) : 0);
  cuda::run_gated_sum(call, result.y.data(), carried.data(), nullptr);
  cuda::run_gated_sum_backward(call, given.grad_y.data(),
                               {result.gradients(), result.grad_weight.data(), partial.data()}, carried.data(),
                               nullptr);
  expect_launched();
  return result;
}

inline void check_cuda_gated_sums(const std::vector<uint64_t>& seeds, bool quick) {
  // Lengths around 16 bytes, a block of the forward, and a block of the backward.
  std::vector<int64_t> lengths = {0, 1, 9, 1025, cuda::kGradientElements<float> + 3};
  if (quick) lengths = {9, 1025};
  for_each_gated_sum(lengths, cuda::kLaunchInputs + 6, [&](const auto& given) {
    const auto first = cuda_run(given, seeds[0], given.gated);
    expect_right(given, first);
    for (const uint64_t seed : seeds) expect_same_bits(given, first, cuda_run(given, seed, given.gated));
    expect_right(given, cuda_run(given, seeds[0], false));
  });
}

}  // namespace freewire::testing

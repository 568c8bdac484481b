// SPDX-License-Identifier: MIT
// One case through the CUDA kernels on the CPU, in every way that they can be asked for.
//
// Enters: a Case and a width of tile. Leaves: its results. Every array has memory of its own, of exactly the size that
// cuda/kernels.h gives it, so that AddressSanitizer sees a step too far.
#pragma once

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda/network/kernels.h"
#include "testing/cases/case_file.h"
#include "testing/cases/exact.h"
#include "testing/cases/results.h"

namespace freewire::testing {

inline void expect_launched() {
  if (const char* why = cuda::last_error())
    throw std::runtime_error(std::string("launch: expected none refused, got ") + why);
}

template <class T>
void cuda_forward(const Case<T>& given, int columns, const Exact<T>& y, const Exact<T>* tape) {
  const PlanView& plan = given.split_plan.view();
  using C = Compute<T>;
  const Exact<T> rows(columns || tape ? 0 : plan.num_rows * cuda::pitch_of(given.batch));
  const Exact<cuda::Edge<C>> edges(columns ? cuda::forward_edges(plan) : 0);
  const Exact<cuda::ForwardNode<C>> nodes(columns ? plan.num_computed() : 0);
  const Exact<int32_t> begins(columns ? plan.num_computed() : 0);
  const cuda::ForwardArrays<T> arrays{
      given.x.data(), given.weight.data(), given.bias.data(), y.data(),      tape ? tape->data() : nullptr,
      rows.data(),    edges.data(),        nodes.data(),      begins.data(), given.batch};
  cuda::run_forward(plan, arrays, columns, nullptr);
  expect_launched();
}

template <class T>
void cuda_backward(const Case<T>& given, int columns, const Exact<T>& tape, const Exact<T>& grad_x,
                   const Exact<T>& grad_weight, const Exact<T>& grad_bias) {
  using C = Compute<T>;
  const PlanView& plan = given.split_plan.view();
  const int64_t pitch = cuda::pitch_of(given.batch), slices = cuda::slices_of(given.batch);
  const Exact<C> delta(plan.num_computed() * pitch), shares(plan.gather_edges * pitch);
  const Exact<C> rows(columns ? 0 : plan.num_slots * pitch);
  const Exact<cuda::Edge<C>> edges(columns ? cuda::backward_edges(plan) : 0);
  const Exact<cuda::BackwardSlot<C>> slots(columns ? plan.num_slots : 0);
  const Exact<int32_t> begins(columns ? plan.num_slots : 0);
  const Exact<C> partial(cuda::adds_slices<T>(given.batch) && grad_weight.size() + grad_bias.size() > 0
                             ? std::max<int64_t>(slices, 1) * (plan.num_edges + plan.num_biases)
                             : 0);
  cuda::run_backward<T>(plan,
                        {given.grad_y.data(), tape.data(), given.weight.data(), grad_x.data(), grad_weight.data(),
                         grad_bias.data(), delta.data(), shares.data(), rows.data(), edges.data(), slots.data(),
                         begins.data(), partial.data(), given.batch},
                        columns, nullptr);
  expect_launched();
}

// columns 0: streamed.
template <class T>
std::vector<Result<T>> cuda_run(const Case<T>& given, int columns) {
  return run_every_way(
      given, given.split_plan.view().tape_rows * cuda::pitch_of(given.batch),
      columns ? ", tiles of " + std::to_string(columns) : ", streamed",
      [&](const Exact<T>& y, const Exact<T>* tape) { cuda_forward(given, columns, y, tape); },
      [&](const Exact<T>& tape, const Exact<T>& x, const Exact<T>& weight, const Exact<T>& bias) {
        cuda_backward(given, columns, tape, x, weight, bias);
      });
}

}  // namespace freewire::testing

// SPDX-License-Identifier: MIT
// Runs one case through the CUDA kernels on the CPU, in every way that they can be called, for one width of tile.
//
// Every array has memory of its own, of exactly the size that cuda/network/workspace.h gives it, so that
// AddressSanitizer reports a step too far.
#pragma once

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
  const cuda::ForwardWorkspace<T> workspace(plan, given.batch, tape != nullptr, columns);
  const Exact<T> rows(workspace.rows.count);
  const Exact<cuda::Edge<C>> edges(workspace.edges.count);
  const Exact<cuda::ForwardNode<C>> nodes(workspace.nodes.count);
  const Exact<int32_t> begins(workspace.begins.count);
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
  const cuda::BackwardWorkspace<T> workspace(plan, given.batch, grad_weight.size() + grad_bias.size() > 0, columns);
  const Exact<C> delta(workspace.delta.count), shares(workspace.shares.count);
  const Exact<C> rows(workspace.rows.count), partial(workspace.partial.count);
  const Exact<cuda::Edge<C>> edges(workspace.edges.count);
  const Exact<cuda::BackwardSlot<C>> slots(workspace.slots.count);
  const Exact<int32_t> begins(workspace.begins.count);
  cuda::run_backward<T>(plan,
                        {given.grad_y.data(), tape.data(), given.weight.data(), grad_x.data(), grad_weight.data(),
                         grad_bias.data(), delta.data(), shares.data(), rows.data(), edges.data(), slots.data(),
                         begins.data(), partial.data(), given.batch},
                        columns, nullptr);
  expect_launched();
}

// columns: width of the tile, or 0 for the streamed regime.
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

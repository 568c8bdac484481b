// SPDX-License-Identifier: MIT
// One case through the CUDA kernels on the CPU, in every way that they can be asked for.
//
// Enters: a Case and a width of tile. Leaves: its results. Every array has memory of its own, of exactly the size that
// cuda/kernels.h gives it, so that AddressSanitizer sees a step too far.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda/kernels.h"
#include "testing/case_file.h"
#include "testing/exact.h"
#include "testing/results.h"

namespace freewire::testing {

inline void expect_launched() {
  if (const char* why = cuda::last_error())
    throw std::runtime_error(std::string("launch: expected none refused, got ") + why);
}

template <class T>
void cuda_forward(const Case<T>& given, int columns, const Exact<T>& y, const Exact<T>* tape) {
  const PlanView& plan = given.split_plan.view();
  const Exact<T> rows(columns || tape ? 0 : plan.num_slots * cuda::pitch_of(given.batch));
  const cuda::ForwardArrays<T> arrays{given.x.data(), given.weight.data(),           given.bias.data(),
                                      y.data(),       tape ? tape->data() : nullptr, given.batch};
  cuda::run_forward(plan, arrays, rows.data(), columns, nullptr);
  expect_launched();
}

template <class T>
void cuda_backward(const Case<T>& given, int columns, const Exact<T>& tape, const Exact<T>& grad_x,
                   const Exact<T>& grad_weight, const Exact<T>& grad_bias) {
  const PlanView& plan = given.split_plan.view();
  const int64_t pitch = cuda::pitch_of(given.batch), slices = cuda::slices_of(given.batch);
  const Exact<T> delta(plan.num_computed() * pitch), shares(plan.gather_edges * pitch);
  const Exact<T> rows(columns ? 0 : plan.num_slots * pitch);
  const Exact<T> partial(slices > 1 && grad_weight.size() ? slices * (plan.num_edges + plan.num_biases) : 0);
  cuda::run_backward<T>(plan,
                        {given.grad_y.data(), tape.data(), given.weight.data(), grad_x.data(), grad_weight.data(),
                         grad_bias.data(), delta.data(), shares.data(), rows.data(), partial.data(), given.batch},
                        columns, nullptr);
  expect_launched();
}

// y without and with a tape, then the gradients: none, x's, the parameters', all. columns 0: streamed.
template <class T>
std::vector<Result<T>> cuda_run(const Case<T>& given, int columns) {
  const PlanView& plan = given.split_plan.view();
  const std::string where = columns ? ", tiles of " + std::to_string(columns) : ", streamed";
  std::vector<Result<T>> results;
  const Exact<T> tape(plan.tape_rows * cuda::pitch_of(given.batch));
  for (const bool keep : {false, true}) {
    Exact<T> y(given.batch * plan.num_outputs);
    cuda_forward(given, columns, y, keep ? &tape : nullptr);
    results.push_back({(keep ? "y with a tape" : "y without a tape") + where, std::move(y), &given.y});
  }
  for (const bool need_parameters : {false, true}) {
    for (const bool need_x : {false, true}) {
      Exact<T> grad_x(need_x ? given.batch * plan.num_inputs : 0);
      Exact<T> grad_weight(need_parameters ? plan.num_edges : 0);
      Exact<T> grad_bias(need_parameters ? given.bias.size() : 0);
      cuda_backward(given, columns, tape, grad_x, grad_weight, grad_bias);
      const std::string which = (need_x && need_parameters ? " of all gradients" : " alone") + where;
      if (need_x) results.push_back({"grad_x" + which, std::move(grad_x), &given.grad_x});
      if (!need_parameters) continue;
      results.push_back({"grad_weight" + which, std::move(grad_weight), &given.grad_weight});
      if (given.has_bias) results.push_back({"grad_bias" + which, std::move(grad_bias), &given.grad_bias});
    }
  }
  return results;
}

}  // namespace freewire::testing

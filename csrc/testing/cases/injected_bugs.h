// SPDX-License-Identifier: MIT
// Bugs injected on purpose, to show that a run without a report would have found them.
//
// inject() runs a case of at least two tiles, of a network or of a sequence, or a stage, with one bug. Each bug must
// end the program, by a sanitizer's report or by a mismatch. Memory bugs pass the kernels arrays that are too short, so
// that the invalid loads and stores are the kernels' own.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "testing/cases/case_file.h"
#include "testing/cases/exact.h"
#include "testing/cases/sanitize_run.h"
#include "testing/cases/sequence_run.h"
#include "testing/cases/stage_checks.h"

namespace freewire::testing {

// The backward of one tile by the kernel itself, into the caller's sums.
template <class T>
void backward_tile(const Case<T>& given, const Exact<T>& tape, int64_t tile, Compute<T>* out_sums) {
  using C = Compute<T>;
  const PlanView& plan = given.split_plan.view();
  const cpu::Tiling<T> tiling(plan, given.batch);
  const Exact<C> grad(plan.num_slots * tiling.columns), products(plan.product_fan_in * tiling.columns);
  const Exact<C> out_weight(plan.num_live_edges);
  const cpu::Widened<T> weight(given.weight.data(), plan.num_edges, StdThreads{1});
  const cpu::BackwardArrays<T> arrays{given.grad_y.data(), out_weight.data(), weight.data(), nullptr, nullptr,
                                      given.batch};
  cpu::kernels<T>().network.backward[tiling.kind](plan, arrays, tile * tiling.columns, true, false,
                                                  tape.data() + tile * plan.tape_rows * tiling.columns,
                                                  {grad.data(), products.data(), out_sums, nullptr});
}

// Two tiles of different groups into the same sums.
template <class T>
void race(const Case<T>& given, const Exact<T>& tape) {
  const Exact<Compute<T>> sums(given.split_plan.view().num_live_edges);
  const auto tile = [&](int64_t i) { backward_tile(given, tape, i, sums.data()); };
  std::thread first(tile, 0), second(tile, 1);
  first.join();
  second.join();
}

template <class T>
void inject(const std::string& bug, const Case<T>& given) {
  if (inject_into_stage(bug)) return;
  const PlanView& plan = given.split_plan.view();
  Exact<T> y(given.batch * plan.num_outputs);
  const Exact<T> tape(tape_size(given));
  forward(given, 1, y, &tape);
  if (bug == "short_tape") {
    backward<T>(given, 1, Exact<T>(tape.data(), tape.size() - 1), {nullptr, nullptr, nullptr});
  } else if (bug == "short_y") {
    forward<T>(given, 1, Exact<T>(y.size() - 1), nullptr);
  } else if (bug == "short_gradient") {
    const Exact<T> grad_weight(plan.num_edges - 1);
    backward(given, 1, tape, {nullptr, grad_weight.data(), nullptr});
  } else if (bug == "short_plan") {
    const Exact<int32_t> in_src(plan.in_src, plan.num_edges - 1);
    PlanView cut = plan;
    cut.in_src = in_src.data();
    const cpu::ForwardCall<T> call{given.x.data(), given.weight.data(), given.bias.data(), y.data(), given.batch};
    cpu::run_forward(cut, call, static_cast<T*>(nullptr), StdThreads{1});
  } else if (bug == "race") {
    race(given, tape);
  } else if (bug == "overflow") {
    const cpu::ForwardArrays<T> arrays{given.x.data(), nullptr, nullptr, nullptr, y.data(), given.batch};
    const cpu::Tiling<T> tiling(plan, given.batch);
    cpu::kernels<T>().network.read[tiling.kind](plan, arrays, std::numeric_limits<int64_t>::max(), tape.data());
  } else if (bug == "wrong_number" || bug == "thread_count") {
    const auto one = run(given, 1), many = run(given, kManyThreads);
    const Exact<T>& spoilt = (bug == "wrong_number" ? one : many).back().values;
    T& last = spoilt[spoilt.size() - 1];
    if (bug == "wrong_number") last = narrowed<T>(widened(last) + 1);
    if (bug == "thread_count") *reinterpret_cast<unsigned char*>(&last) ^= 1;
    expect_close(one);
    expect_same_bits(one, many, kThreadCounts);
  } else {
    throw std::invalid_argument("inject: expected a bug's name, got '" + bug + "'.");
  }
}

template <class T>
void inject(const std::string& bug, const SequenceCase<T>& given) {
  Exact<T> y(given.grad_y.size()), last(given.grad_last.size());
  const Exact<T> kept(given.num_kept());
  forward(given, 1, y, last, &kept);
  if (bug == "short_kept") {
    backward<T>(given, 1, Exact<T>(kept.data(), kept.size() - 1), {nullptr, nullptr, nullptr, nullptr});
  } else if (bug == "short_last") {
    forward<T>(given, 1, y, Exact<T>(last.size() - 1), nullptr);
  } else if (bug == "short_grad_states") {
    backward<T>(given, 1, kept, {nullptr, Exact<T>(given.states.size() - 1).data(), nullptr, nullptr});
  } else if (bug == "sequence_race") {
    // Two calls at once that keep their steps in the same memory.
    const auto again = [&] { forward(given, 1, Exact<T>(y.size()), Exact<T>(last.size()), &kept); };
    std::thread first(again), second(again);
    first.join();
    second.join();
  } else if (bug == "forgotten_states") {
    // A forward that starts from zeros.
    std::vector<Result<T>> results;
    std::fill_n(given.states.data(), given.states.size(), T{});
    forward<T>(given, 1, y, last, nullptr);
    results.push_back({"y of other states", std::move(y), &given.y});
    expect_close(results);
  } else {
    throw std::invalid_argument("inject: expected the name of a bug in sequences, got '" + bug + "'.");
  }
}

}  // namespace freewire::testing

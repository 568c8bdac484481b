// SPDX-License-Identifier: MIT
// One case through the kernels, in every way that they can be asked for.
//
// Enters: a Case. Leaves: its results, or std::runtime_error that says where they are not what they must be.
// The batch goes through cpu/drive.h as it does under torch, but on std::thread: the sanitizers do not know
// OpenMP's barriers and would report races that are none.
#pragma once

#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cpu/drive.h"
#include "testing/case_file.h"
#include "testing/exact.h"
#include "testing/results.h"

namespace freewire::testing {

constexpr int kManyThreads = 4;  // beside one
constexpr const char* kThreadCounts = "1 and 4 threads";

// parallel_for of cpu/drive.h. Cuts evenly, whatever grain says: small cases are to run in parallel as well.
struct StdThreads {
  template <class Body>
  void operator()(int64_t begin, int64_t end, int64_t, const Body& body) const {
    std::vector<std::thread> workers;
    for (int64_t i = 0; i < count; ++i) {
      const int64_t first = begin + (end - begin) * i / count, last = begin + (end - begin) * (i + 1) / count;
      if (first < last) workers.emplace_back([&body, first, last] { body(first, last); });
    }
    for (std::thread& worker : workers) worker.join();
  }
  int64_t count;
};

// The tape's size is what the tiles take, without the padding that freewire::forward gives it.
template <class T>
Exact<T> new_tape(const Case<T>& given) {
  const PlanView& plan = given.split_plan.view();
  const cpu::Tiling<T> tiling(plan, given.batch);
  return Exact<T>(tiling.tiles * plan.tape_rows * tiling.columns);
}

template <class T>
void forward(const Case<T>& given, int threads, const Exact<T>& y, const Exact<T>* tape) {
  const cpu::ForwardArrays<T> arrays{given.x.data(), given.weight.data(), given.bias.data(), y.data(), given.batch};
  cpu::run_forward(given.split_plan.view(), arrays, tape ? tape->data() : nullptr, StdThreads{threads});
}

template <class T>
void backward(const Case<T>& given, int threads, const Exact<T>& tape, const cpu::Gradients<T>& gradients) {
  cpu::run_backward(given.split_plan.view(), given.grad_y.data(), given.weight.data(), tape.data(), given.batch,
                    gradients, StdThreads{threads});
}

// y without and with a tape, then the gradients: none, x's, the parameters', all.
template <class T>
std::vector<Result<T>> run(const Case<T>& given, int threads) {
  const PlanView& plan = given.split_plan.view();
  std::vector<Result<T>> results;
  const Exact<T> tape = new_tape(given);
  for (const bool keep : {false, true}) {
    Exact<T> y(given.batch * plan.num_outputs);
    forward(given, threads, y, keep ? &tape : nullptr);
    results.push_back({keep ? "y with a tape" : "y without a tape", std::move(y), &given.y});
  }
  for (const bool need_parameters : {false, true}) {
    for (const bool need_x : {false, true}) {
      Exact<T> grad_x(need_x ? given.batch * plan.num_inputs : 0);
      Exact<T> grad_weight(need_parameters ? plan.num_edges : 0);
      Exact<T> grad_bias(need_parameters ? given.bias.size() : 0);
      backward(given, threads, tape, {grad_x.data(), grad_weight.data(), grad_bias.data()});
      const std::string which = need_x && need_parameters ? " of all gradients" : " alone";
      if (need_x) results.push_back({"grad_x" + which, std::move(grad_x), &given.grad_x});
      if (!need_parameters) continue;
      results.push_back({"grad_weight" + which, std::move(grad_weight), &given.grad_weight});
      if (given.has_bias) results.push_back({"grad_bias" + which, std::move(grad_bias), &given.grad_bias});
    }
  }
  return results;
}

}  // namespace freewire::testing

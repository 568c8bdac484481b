// SPDX-License-Identifier: MIT
// Runs one case through the CPU kernels, in every way that they can be called.
//
// The batch goes through cpu/network/{forward,backward}_drive.h as it does under torch, but on std::thread: the
// sanitizers do not know OpenMP's barriers and would report false races.
#pragma once

#include <cstdint>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cpu/network/backward_drive.h"
#include "cpu/network/forward_drive.h"
#include "testing/cases/case_file.h"
#include "testing/cases/exact.h"
#include "testing/cases/results.h"

namespace freewire::testing {

constexpr int kManyThreads = 4;  // besides one
constexpr const char* kThreadCounts = "1 and 4 threads";

// The parallel_for of the drives. It ignores grain and cuts evenly, so that small cases run in parallel as well.
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
  int64_t threads() const { return count; }
  int64_t count;
};

// Elements of the tape: whole tiles, without the padding that freewire::forward adds.
template <class T>
int64_t tape_size(const Case<T>& given) {
  const PlanView& plan = given.split_plan.view();
  const cpu::Tiling<T> tiling(plan, given.batch);
  return tiling.tiles * plan.tape_rows * tiling.columns;
}

template <class T>
void forward(const Case<T>& given, int threads, const Exact<T>& y, const Exact<T>* tape) {
  const cpu::ForwardCall<T> call{given.x.data(), given.weight.data(), given.bias.data(), y.data(), given.batch};
  cpu::run_forward(given.split_plan.view(), call, tape ? tape->data() : nullptr, StdThreads{threads});
}

template <class T>
void backward(const Case<T>& given, int threads, const Exact<T>& tape, const cpu::Gradients<T>& gradients) {
  cpu::run_backward(given.split_plan.view(), given.grad_y.data(), given.weight.data(), tape.data(), given.batch,
                    gradients, StdThreads{threads});
}

template <class T>
std::vector<Result<T>> run(const Case<T>& given, int threads) {
  return run_every_way(
      given, tape_size(given), "", [&](const Exact<T>& y, const Exact<T>* tape) { forward(given, threads, y, tape); },
      [&](const Exact<T>& tape, const Exact<T>& x, const Exact<T>& weight, const Exact<T>& bias) {
        backward(given, threads, tape, {x.data(), weight.data(), bias.data()});
      });
}

}  // namespace freewire::testing

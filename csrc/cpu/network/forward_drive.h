// SPDX-License-Identifier: MIT
// The forward of a whole batch: how its tiles are spread over threads.
//
// parallel_for(begin, end, grain, body) calls body(first, last) on ranges that make up [begin, end), in parallel if it
// likes; grain is the smallest range that is worth a thread, and parallel_for.threads() the number of threads that it
// has. Neither changes a bit of the results. No torch here, so that csrc/testing runs this code on std::thread under
// the sanitizers. workspace.h has the sizes of all that is allocated.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/buffer.h"
#include "cpu/network/costs.h"
#include "cpu/network/kernels.h"
#include "cpu/network/parameters.h"
#include "cpu/network/team.h"
#include "cpu/network/tiling.h"
#include "cpu/network/workspace.h"

namespace freewire::cpu {

// The arguments of the forward.
template <class T>
struct ForwardCall {
  const T* x;       // [batch, I]
  const T* weight;  // [E]
  const T* bias;    // [num_biases], or null
  T* y;             // [batch, O]
  int64_t batch;
};

// tape: [tiles, tape_rows, columns] to keep for a backward, or null.
template <class T, class ParallelFor>
void run_forward(const PlanView& plan, const ForwardCall<T>& call, T* tape, const ParallelFor& parallel_for) {
  const Tiling<T> kept(plan, call.batch);
  const int64_t threads = parallel_for.threads();
  const bool keep = tape != nullptr;
  const Tiling<T> tiling = keep ? kept : kept.shared_by(threads, call.batch);
  const int64_t slices = keep ? tiling.slices(threads) : 1;
  const Widened<T> weight(call.weight, plan.num_edges, parallel_for), bias(call.bias, plan.num_biases, parallel_for);
  const ForwardWorkspace<T> workspace(plan, tiling, keep, threads);
  const Panels<Compute<T>> panel(workspace.panel.count ? plan : PlanView{}, weight.data(), parallel_for);
  const ForwardArrays<T> arrays{call.x, weight.data(), panel.data(), bias.data(), call.y, call.batch};
  const auto& own = kernels<T>().network;
  const RowKind kind = slices > 1 ? kSlice : tiling.kind;
  const bool prefetch = fetches_early<T>(keep ? plan.tape_rows : plan.scratch_rows, tiling.columns);
  if (workspace.sharing > 1) {
    Buffer<T> scratch(workspace.rows.count);
    T* rows = keep ? tape : scratch.data();
    const StageCut cut(plan, workspace.sharing, kFewestItemEdges);
    Team team(plan.num_stages);
    own.read[kind](plan, arrays, 0, rows);
    parallel_for(0, workspace.sharing, 1, [&](int64_t, int64_t) {
      team.run([&](int64_t stage) { return cut.items(stage); },
               [&](int64_t stage, int64_t item) {
                 const int64_t items = cut.items(stage);
                 own.run[kind](plan, arrays, cut.begin(stage, item, items), cut.begin(stage, item + 1, items), keep,
                               prefetch, rows);
               });
    });
    own.write[kind](plan, arrays, 0, keep, rows);
    return;
  }
  parallel_for(0, tiling.tiles * slices, 1, [&](int64_t first, int64_t last) {
    SmallBuffer<T> scratch(workspace.rows.count);
    for (int64_t task = first; task < last; ++task) {
      const int64_t tile = task / slices, column = task % slices * (tiling.columns / slices);
      T* rows = keep ? tape + tile * plan.tape_rows * tiling.columns + column : scratch.data();
      const int64_t begin = tile * tiling.columns + column;
      own.read[kind](plan, arrays, begin, rows);
      own.run[kind](plan, arrays, 0, plan.num_computed(), keep, prefetch, rows);
      own.write[kind](plan, arrays, begin, keep, rows);
    }
  });
}

// Narrow tiles leave the end of a tape of that many elements unused; an operator's result must not be garbage, even
// where it is not read.
template <class T>
void clear_tape_end(const PlanView& plan, int64_t batch, T* tape, int64_t elements) {
  const Tiling<T> tiling(plan, batch);
  std::fill(tape + tiling.tiles * tiling.columns * plan.tape_rows, tape + elements, T{});
}

}  // namespace freewire::cpu

// SPDX-License-Identifier: MIT
// How a batch is cut into tiles, and the tiles into groups and tasks.
//
// Tiles and groups are a function of plan and batch alone, so that any number of threads rounds the sums in the same
// way. With more threads than tiles, tiles are cut into narrower ones, whose sums are rounded in the same way too.
#pragma once

#include <cstdint>

#include "cpu/network/costs.h"
#include "cpu/network/kernels.h"
#include "number.h"
#include "plan_view.h"

namespace freewire::cpu {

// The kind of rows for this batch, whose numbers are computed in itemsize bytes: the plan's choice, narrower while that
// leaves fewer than two tiles to share; and rows shorter than a cache line where one holds the batch.
inline RowKind row_kind(const PlanSizes& plan, int64_t batch, int64_t itemsize) {
  if (batch == 1) return kRow1;
  if (batch * itemsize <= row_bytes(kRow16, itemsize)) return kRow16;
  if (batch * itemsize <= row_bytes(kRow32, itemsize)) return kRow32;
  int kind = plan.row_bytes == 64 ? kRow64 : plan.row_bytes == 128 ? kRow128 : kRow256;
  while (kind > kRow64 && batch * itemsize <= row_bytes(static_cast<RowKind>(kind), itemsize)) --kind;
  return static_cast<RowKind>(kind);
}

// Tiles of one group share the sums of weight gradients; the sums of the groups are added in order afterwards. Tile i
// is in group i % groups.
constexpr int64_t kMaxGroups = 16;

// T: the type that x is stored in.
template <class T>
struct Tiling {
  static constexpr int64_t kItemBytes = sizeof(Compute<T>);
  Tiling(const PlanSizes& plan, int64_t batch) : Tiling(row_kind(plan, batch, kItemBytes), batch) {}
  Tiling(RowKind kind, int64_t batch)
      : kind(kind),
        columns(row_bytes(kind, kItemBytes) / kItemBytes),
        tiles((batch + columns - 1) / columns),
        groups(tiles < kMaxGroups ? tiles : kMaxGroups) {}

  // Whether the batch is one tile of few samples.
  bool few() const { return kind <= kRow64 && tiles == 1; }

  // For a forward that keeps no tape: narrower tiles where so many threads have none.
  Tiling shared_by(int64_t threads, int64_t batch) const {
    int wanted = kind;
    while (wanted > kRow64 && 2 * Tiling(static_cast<RowKind>(wanted), batch).tiles <= threads) --wanted;
    return Tiling(static_cast<RowKind>(wanted), batch);
  }

  // For tiles that lie on a tape: the slices of a row that are tasks of their own.
  int64_t slices(int64_t threads) const { return kind == kRow256 && 2 * tiles <= threads ? kSlices : 1; }

  RowKind kind;
  int64_t columns, tiles, groups;
};

// How many of the threads go through the stages of a tile together: all or one.
template <class T>
int64_t threads_by_stage(const PlanSizes& plan, const Tiling<T>& tiling, int64_t threads) {
  if (threads < 2 || !tiling.few() || plan.num_stages == 0) return 1;
  const int64_t saved_ns = plan.num_live_edges / threads * (threads - 1) * kEdgePs / 1000;
  return saved_ns > plan.num_stages * kStageNs ? threads : 1;
}

// Parts of a stage in the backward of few samples: a function of the plan alone, since the sum of the parts is rounded.
inline int64_t few_parts(const PlanSizes& plan) {
  return plan.num_stages > 0 && plan.num_live_edges >= kFewPartEdges ? kFewParts : 1;
}

}  // namespace freewire::cpu

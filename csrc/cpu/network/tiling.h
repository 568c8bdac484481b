// SPDX-License-Identifier: MIT
// How a batch is cut into tiles, and the tiles into groups. A function of plan and batch alone, so that any number of
// threads splits the batch, and rounds the sums, in the same way.
#pragma once

#include <cstdint>

#include "number.h"
#include "plan_view.h"

namespace freewire::cpu {

// Bytes of a tape row for this batch, in the type that is computed in: the plan's choice, halved while that leaves
// fewer than two tiles to share.
inline int64_t row_bytes(const PlanSizes& plan, int64_t batch, int64_t itemsize) {
  int64_t bytes = plan.row_bytes;
  while (bytes > 64 && batch * itemsize <= bytes) bytes /= 2;
  return bytes;
}
inline int row_variant(int64_t bytes) { return bytes == 64 ? 0 : bytes == 128 ? 1 : 2; }

// Tiles of one group share the sums of weight gradients; the sums of the groups are added in order afterwards.
constexpr int64_t kMaxGroups = 16;
inline int64_t num_groups(int64_t tiles) { return tiles < kMaxGroups ? tiles : kMaxGroups; }
inline int64_t group_begin(int64_t group, int64_t groups, int64_t tiles) { return tiles * group / groups; }

// T: the type that x is stored in.
template <class T>
struct Tiling {
  Tiling(const PlanSizes& plan, int64_t batch) {
    constexpr int64_t kItemBytes = sizeof(Compute<T>);
    const int64_t bytes = row_bytes(plan, batch, kItemBytes);
    variant = row_variant(bytes);
    columns = bytes / kItemBytes;
    tiles = (batch + columns - 1) / columns;
    groups = num_groups(tiles);
  }
  int variant;  // which of a kernel's three
  int64_t columns, tiles, groups;
};

}  // namespace freewire::cpu

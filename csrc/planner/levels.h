// SPDX-License-Identifier: MIT
// Nodes by (level, node number): the order that slots and canonical edges follow.
//
// From each node's level: where each level starts, and the nodes in order. Linear in nodes and levels.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "planner/check.h"

namespace freewire::planner {

struct ByLevel {
  std::vector<int64_t> begin;  // [L + 1] index into nodes of each level's first node
  std::vector<int32_t> nodes;  // [N]

  // level: [N], each from 0 to N - 1.
  explicit ByLevel(std::span<const int64_t> level) : nodes(level.size()) {
    const auto count = static_cast<int64_t>(level.size());
    int64_t highest = -1;
    for (const int64_t each : level) {
      require(each >= 0 && each < count, "level: expected numbers from 0 to below the number of nodes, got others.");
      highest = each > highest ? each : highest;
    }
    begin.assign(highest + 2, 0);
    for (const int64_t each : level) ++begin[each + 1];
    for (int64_t l = 0; l <= highest; ++l) begin[l + 1] += begin[l];
    std::vector<int64_t> next(begin.begin(), begin.end() - 1);
    for (int64_t node = 0; node < count; ++node) nodes[next[level[node]]++] = static_cast<int32_t>(node);
  }
};

}  // namespace freewire::planner

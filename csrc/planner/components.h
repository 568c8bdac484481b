// SPDX-License-Identifier: MIT
// The order in which the CPU runs the nodes, before dense blocks are made: level by level, or component by component.
//
// Running one connected component after the other keeps a component's rows in a core's cache. It pays where the graph
// is a union of small graphs. A union-find over the edges stops at the first component that is too large, so graphs of
// one piece cost next to nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "planner/in_edges.h"

namespace freewire::planner {

// The most slots of a component: rows of 256 bytes that fill 512 KiB, a part of any core's second cache.
constexpr int64_t kComponentSlots = 512 * 1024 / 256;

struct Components {
  // Component of each slot, numbered by first slots, [S]. Empty if there are not at least two components with computed
  // nodes, or if one is too large: then the nodes run level by level.
  std::vector<int32_t> of_slot;
  std::vector<int64_t> ptr;    // first position of each component with computed nodes, and C; or [0]
  std::vector<int32_t> nodes;  // [C] the computed nodes in order; in a component, by slot
};

Components find_components(const InEdges& in);

}  // namespace freewire::planner

// SPDX-License-Identifier: MIT
// The computed nodes of a plan and what each of them reads: what its run order and its dense blocks are found from.
#pragma once

#include <cstdint>
#include <span>

namespace freewire::planner {

// Arrays of EdgeLists. S slots, of which the first num_inputs are the inputs; C computed nodes; E edges; L levels.
struct InEdges {
  int64_t num_inputs;
  std::span<const int64_t> level_ptr;   // [L + 1] first slot of each level
  std::span<const int64_t> slot_node;   // [S]
  std::span<const int64_t> begin, end;  // [C] in-edges of each node, in canonical order
  std::span<const int32_t> source;      // [E] slot
  std::span<const char> linear;         // [C] whether the node's aggregation is linear

  int64_t num_slots() const { return static_cast<int64_t>(slot_node.size()); }
  int64_t num_computed() const { return static_cast<int64_t>(begin.size()); }
  int64_t fan_in(int64_t node) const { return end[node] - begin[node]; }
  std::span<const int32_t> sources(int64_t node) const { return source.subspan(begin[node], fan_in(node)); }
};

}  // namespace freewire::planner

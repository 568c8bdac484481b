// SPDX-License-Identifier: MIT
// The plan's slots and edge arrays.
//
// From a graph in canonical order and the nodes to compute they give the node and edge arrays of
// freewire/plan/plan.py's Plan. N nodes, E edges; S slots, of which the first I are the inputs, C = S - I computed; M
// live edges, those into a computed slot; L levels.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace freewire::planner {

class EdgeLists {
 public:
  // Assigns slots: the inputs in their order, then the kept nodes by (level, node number).
  // level: [N]. inputs: [I] node numbers. keep: [N], the nodes to compute, none of them an input. linear: [N], whether
  // the node's aggregation is linear.
  EdgeLists(std::span<const int64_t> level, std::span<const int64_t> inputs, std::span<const bool> keep,
            std::span<const bool> linear);

  int64_t num_slots() const { return static_cast<int64_t>(slot_node_.size()); }
  int64_t num_computed() const { return num_slots() - num_inputs_; }
  int64_t num_levels() const { return static_cast<int64_t>(level_ptr_.size()) - 1; }
  std::span<const int64_t> slot_node() const { return slot_node_; }  // [S]
  std::span<const int64_t> level_ptr() const { return level_ptr_; }  // [L + 1] the first slot of each level
  std::span<const int32_t> slot_of() const { return slot_of_; }      // [N], -1 for a node without a slot

  // Call this first: the edges by destination. src, dst: [E], canonical; every source of a kept node is kept or an
  // input. in_begin, in_end: [C]; in_src: [E], the source's slot, 0 where the edge is not live. Returns M.
  int64_t by_destination(std::span<const int64_t> src, std::span<const int64_t> dst, std::span<int64_t> in_begin,
                         std::span<int64_t> in_end, std::span<int32_t> in_src);

  // Call this next: the edges by source, from the results of by_destination; those into linear nodes first, each part
  // in canonical order.
  // out_ptr: [S + 1]; out_split: [S]; out_dst: [M], the destination's slot; out_edge: [M], canonical numbers.
  void by_source(std::span<const int64_t> in_begin, std::span<const int64_t> in_end, std::span<const int32_t> in_src,
                 std::span<int64_t> out_ptr, std::span<int64_t> out_split, std::span<int32_t> out_dst,
                 std::span<int64_t> out_edge) const;

 private:
  int64_t num_inputs_, num_live_edges_ = 0;
  std::vector<int32_t> order_, slot_of_;
  std::vector<int64_t> slot_node_, level_ptr_;
  std::vector<char> linear_;                         // [C]
  std::vector<int64_t> linear_edges_, other_edges_;  // [S] out-edges
};

}  // namespace freewire::planner

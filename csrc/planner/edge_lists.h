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

#include "planner/in_edges.h"

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

  // The results of by_destination and the nodes, for find_blocks(). Views of the arguments and of this.
  InEdges in_edges(std::span<const int64_t> in_begin, std::span<const int64_t> in_end,
                   std::span<const int32_t> in_src) const {
    return {num_inputs_, level_ptr_, slot_node_, in_begin, in_end, in_src, linear_};
  }

  // Call this next: the edges by source. Those into linear nodes outside of dense blocks come first, then those in
  // dense blocks, then the others; each part is in canonical order.
  // in: in_edges() of the results of by_destination. in_split: [C], one past the in-edges in the node's dense block.
  // out_ptr: [S + 1]; out_sparse, out_split: [S], the first edge of the second and of the third part; out_dst: [M], the
  // destination's slot; out_edge: [M], canonical numbers.
  void by_source(const InEdges& in, std::span<const int64_t> in_split, std::span<int64_t> out_ptr,
                 std::span<int64_t> out_sparse, std::span<int64_t> out_split, std::span<int32_t> out_dst,
                 std::span<int64_t> out_edge) const;

 private:
  int64_t num_inputs_, num_live_edges_ = 0;
  std::vector<int32_t> order_, slot_of_;
  std::vector<int64_t> slot_node_, level_ptr_;
  std::vector<char> linear_;                         // [C]
  std::vector<int64_t> linear_edges_, other_edges_;  // [S] out-edges
};

}  // namespace freewire::planner

// SPDX-License-Identifier: MIT
// The plan's slots and edge arrays; see edge_lists.h.
#include "planner/edge_lists.h"

#include <utility>

#include "planner/check.h"
#include "planner/levels.h"
#include "planner/prefetch.h"

namespace freewire::planner {

EdgeLists::EdgeLists(std::span<const int64_t> level, std::span<const int64_t> inputs, std::span<const bool> keep,
                     std::span<const bool> linear)
    : num_inputs_(static_cast<int64_t>(inputs.size())), slot_of_(level.size(), -1) {
  require(level.size() <= size_t{1} << 31, "level: expected at most 2^31 nodes, got more.");
  require(keep.size() == level.size(), "keep: expected one entry per node, got another number.");
  require(linear.size() == level.size(), "linear: expected one entry per node, got another number.");
  const auto num_nodes = static_cast<int64_t>(level.size());
  const auto add_slot = [&](int64_t node) {
    slot_of_[node] = static_cast<int32_t>(slot_node_.size());
    slot_node_.push_back(node);
  };
  for (const int64_t node : inputs) {
    require(node >= 0 && node < num_nodes, "inputs: expected node numbers, got one out of range.");
    require(slot_of_[node] < 0, "inputs: expected each node once, got one twice.");
    require(level[node] == 0 && !keep[node], "inputs: expected nodes of level 0 that are not computed, got others.");
    add_slot(node);
  }
  ByLevel by_level(level);
  order_ = std::move(by_level.nodes);
  level_ptr_.push_back(0);
  for (const int32_t node : order_) {
    if (!keep[node]) continue;
    // A kept node of level l has sources on every level below it, so no level is empty.
    require(level[node] <= static_cast<int64_t>(level_ptr_.size()),
            "level: expected a slot on every level, got a gap.");
    if (level[node] == static_cast<int64_t>(level_ptr_.size())) level_ptr_.push_back(num_slots());
    linear_.push_back(linear[node]);
    add_slot(node);
  }
  level_ptr_.push_back(num_slots());
}

int64_t EdgeLists::by_destination(std::span<const int64_t> src, std::span<const int64_t> dst,
                                  std::span<int64_t> in_begin, std::span<int64_t> in_end, std::span<int32_t> in_src) {
  require(src.size() == dst.size(), "dst: expected as many as src, got another number.");
  require(in_src.size() == dst.size(), "in_src: expected one entry per edge, got another number.");
  require(static_cast<int64_t>(in_begin.size()) == num_computed() && in_end.size() == in_begin.size(),
          "in_begin: expected one entry per computed slot, got another number.");
  const auto num_nodes = static_cast<int64_t>(slot_of_.size()), num_edges = static_cast<int64_t>(dst.size());
  linear_edges_.assign(slot_node_.size(), 0);
  other_edges_.assign(slot_node_.size(), 0);
  num_live_edges_ = 0;
  int64_t edge = 0;
  for (const int32_t node : order_) {  // canonical edges are grouped by destination in this order
    const int64_t begin = edge, slot = slot_of_[node], computed = slot - num_inputs_;
    auto& counts = computed >= 0 && !linear_[computed] ? other_edges_ : linear_edges_;
    for (; edge < num_edges && dst[edge] == node; ++edge) {
      prefetch(src, edge + kAhead, std::span(slot_of_));
      in_src[edge] = 0;
      if (slot < 0) continue;
      const int64_t from = src[edge];
      require(from >= 0 && from < num_nodes, "src: expected node numbers, got one out of range.");
      const int32_t source = slot_of_[from];
      require(computed >= 0 && source >= 0 && source < slot, "edges: expected each into a later slot, got others.");
      in_src[edge] = source;
      ++counts[source];
      ++num_live_edges_;
    }
    if (computed < 0) continue;
    in_begin[computed] = begin;
    in_end[computed] = edge;
  }
  require(edge == num_edges, "dst: expected canonical order, got another.");
  return num_live_edges_;
}

void EdgeLists::by_source(const InEdges& in, std::span<const int64_t> in_split, std::span<int64_t> out_ptr,
                          std::span<int64_t> out_sparse, std::span<int64_t> out_split, std::span<int32_t> out_dst,
                          std::span<int64_t> out_edge) const {
  require(linear_edges_.size() == slot_node_.size(), "edges: expected a call of by_destination() first, got none.");
  require(static_cast<int64_t>(in_split.size()) == num_computed(),
          "in_split: expected one entry per computed slot, got another number.");
  require(static_cast<int64_t>(out_ptr.size()) == num_slots() + 1,
          "out_ptr: expected one entry per slot and one more, got another number.");
  require(static_cast<int64_t>(out_split.size()) == num_slots() && out_sparse.size() == out_split.size(),
          "out_split: expected one entry per slot, got another number.");
  require(static_cast<int64_t>(out_dst.size()) == num_live_edges_ && out_edge.size() == out_dst.size(),
          "out_dst: expected one entry per live edge, got another number.");
  std::vector<int64_t> block_edges(slot_node_.size());
  for (int64_t c = 0; c < num_computed(); ++c) {
    for (int64_t edge = in.begin[c]; edge < in_split[c]; ++edge) ++block_edges[in.source[edge]];
  }
  // Where the next edge of each slot goes, for each of the three parts.
  std::vector<int64_t> next_sparse(slot_node_.size()), next_block(slot_node_.size()), next_other(slot_node_.size());
  out_ptr[0] = 0;
  for (int64_t s = 0; s < num_slots(); ++s) {
    next_sparse[s] = out_ptr[s];
    next_block[s] = out_sparse[s] = out_ptr[s] + linear_edges_[s] - block_edges[s];
    next_other[s] = out_split[s] = out_ptr[s] + linear_edges_[s];
    out_ptr[s + 1] = out_split[s] + other_edges_[s];
  }
  const std::span sources(in.source);
  const auto add = [=](int64_t slot, int64_t begin, int64_t end, std::span<int64_t> places) {
    for (int64_t edge = begin; edge < end; ++edge) {
      prefetch(sources, edge + kAhead, places);
      if (edge + 8 < static_cast<int64_t>(sources.size())) prefetch(out_edge, places[sources[edge + 8]]);
      const int64_t place = places[sources[edge]]++;
      out_dst[place] = static_cast<int32_t>(slot);
      out_edge[place] = edge;
    }
  };
  for (int64_t c = 0; c < num_computed(); ++c) {
    add(c + num_inputs_, in.begin[c], in_split[c], next_block);
    add(c + num_inputs_, in_split[c], in.end[c], linear_[c] ? next_sparse : next_other);
  }
}

}  // namespace freewire::planner

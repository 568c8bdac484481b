// SPDX-License-Identifier: MIT
// Groups of nodes with nearly the same sources, which are worth computing as if each read all sources of its group.
//
// From nodes of one level: groups and the union of their sources, with at most kPadding times as many products as the
// group has edges. Nodes are tried in the order of their first and last sources against one open group (relaxed
// supernodes; Ashcraft and Grimes 1989, The influence of relaxed supernode partitions on the multifrontal method). A
// node with parallel edges is in no group, because each of its edges needs an entry of its own in the padded weights.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "planner/in_edges.h"

namespace freewire::planner {

constexpr size_t kPaddedNodes = 8, kPaddedSources = 16;
constexpr int64_t kPadding10 = 13;          // products per ten edges, at most
constexpr int64_t kPaddedNodeSources = 12;  // a node with fewer is not tried

class PaddedGroups {
 public:
  struct Group {
    std::vector<int32_t> nodes, sources;  // in canonical order
  };

  explicit PaddedGroups(const InEdges& in) : in_(in) {}

  // nodes: some nodes of one level. The result is valid until the next call.
  const std::vector<Group>& find(std::span<const int32_t> nodes);

 private:
  bool join(int32_t node);
  void close();

  const InEdges& in_;
  std::vector<Group> found_;
  Group open_;
  int64_t open_edges_ = 0;
  std::vector<int64_t> last_group_;  // [S] the last group that each slot is a source of
  int64_t number_ = 0;               // of the open group, from 1 on
};

}  // namespace freewire::planner

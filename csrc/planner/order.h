// SPDX-License-Identifier: MIT
// Levels and the canonical order of edges.
//
// Enters: edges as the caller has them. Leaves: each node's level (edges on the longest path that ends there) and the
// edges by their destination's (level, number), then by their source's, then in the caller's order; or which nodes a
// cycle holds back. No recursion, no sort: time is linear in nodes and edges whatever the graph. Memory beside the
// results: 20 to 28 bytes a node and none an edge, for what is worked on lies where the results will.
#pragma once

#include <cstdint>
#include <span>

namespace freewire::planner {

constexpr int64_t kMaxNodes = int64_t{1} << 31;
constexpr int64_t kMaxEdges = int64_t{1} << 33;  // an edge and a node number share 64 bits

struct Ordered {
  std::span<int64_t> level, in_degree, out_degree;  // [N]; the level is -1 where a cycle holds the node back
  std::span<int64_t> src, dst;                      // [E] in canonical order; nothing of use where there is a cycle
  std::span<int64_t> position;                      // [E] where the caller's i-th edge went; likewise
};

// src, dst: [E], from 0 to N - 1. The results may not overlap them. Returns the number of nodes on cycles or behind
// one. The caller's arrays are read twice; should another thread change them meanwhile, the results are wrong or it
// throws, but it stays inside of every array.
int64_t order(std::span<const int64_t> src, std::span<const int64_t> dst, const Ordered& results);

}  // namespace freewire::planner

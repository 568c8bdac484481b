// SPDX-License-Identifier: MIT
// Levels and the canonical order of edges.
//
// From the caller's edges: each node's level (the number of edges on the longest path that ends there), and the edges
// ordered by their destination's (level, number), then by their source's, then as the caller has them; or which nodes
// are on a cycle or behind one. No recursion and no sort: time is linear in nodes and edges for every graph. Memory
// besides the results: 20 to 28 bytes per node and none per edge, because intermediate values are kept in the results.
#pragma once

#include <cstdint>
#include <span>

namespace freewire::planner {

constexpr int64_t kMaxNodes = int64_t{1} << 31;
constexpr int64_t kMaxEdges = int64_t{1} << 33;  // an edge and a node number share 64 bits

struct Ordered {
  std::span<int64_t> level, in_degree, out_degree;  // [N]; the level is -1 for a node on a cycle or behind one
  std::span<int64_t> src, dst;                      // [E] in canonical order; undefined if there is a cycle
  std::span<int64_t> position;  // [E] column of the caller's i-th edge; undefined if there is a cycle
};

// src, dst: [E], from 0 to N - 1. The results may not overlap them. Returns the number of nodes on cycles or behind
// one. The caller's arrays are read twice; should another thread change them meanwhile, the results are wrong or it
// throws, but it never leaves an array.
int64_t order(std::span<const int64_t> src, std::span<const int64_t> dst, const Ordered& results);

}  // namespace freewire::planner

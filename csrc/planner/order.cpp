// SPDX-License-Identifier: MIT
// Levels and the canonical order of edges; see order.h.
#include "planner/order.h"

#include <algorithm>
#include <vector>

#include "planner/check.h"
#include "planner/levels.h"
#include "planner/prefetch.h"

namespace freewire::planner {

namespace {

// A destination and the caller's number of an edge in one word: one random write instead of two.
constexpr int kNodeBits = 31;
constexpr int64_t packed(int64_t node, int64_t edge) {
  return static_cast<int64_t>(static_cast<uint64_t>(edge) << kNodeBits | static_cast<uint64_t>(node));
}
constexpr int64_t node_of(int64_t word) { return word & ((int64_t{1} << kNodeBits) - 1); }
constexpr int64_t edge_of(int64_t word) { return static_cast<int64_t>(static_cast<uint64_t>(word) >> kNodeBits); }

// Counts the edges of each node, and checks the node numbers.
void count(std::span<const int64_t> nodes, std::span<int64_t> degree, const char* message) {
  std::fill(degree.begin(), degree.end(), 0);
  for (const int64_t node : nodes) {
    require(static_cast<uint64_t>(node) < degree.size(), message);
    ++degree[node];
  }
}

// Groups the edges by source, each source's in the caller's order; on return, ends[s] is where those of s end.
void by_source(std::span<const int64_t> src, std::span<const int64_t> dst, std::span<const int64_t> out_degree,
               std::span<int64_t> ends, std::span<int64_t> words) {
  int64_t begin = 0;
  for (size_t node = 0; node < ends.size(); ++node) {
    ends[node] = begin;
    begin += out_degree[node];
  }
  for (size_t e = 0; e < src.size(); ++e) {
    prefetch(src, e + kAhead, ends);
    const auto from = static_cast<uint64_t>(src[e]), to = static_cast<uint64_t>(dst[e]);
    require(from < ends.size() && to < ends.size(),
            "src, dst: expected no change while the planner reads it, got one.");
    const int64_t place = ends[from]++;
    require(place < static_cast<int64_t>(words.size()), "src: expected no change while the planner reads it, got one.");
    words[place] = packed(static_cast<int64_t>(to), static_cast<int64_t>(e));
  }
  begin = 0;
  for (size_t node = 0; node < ends.size(); ++node) {  // else some words were never written
    begin += out_degree[node];
    require(ends[node] == begin, "src: expected no change while the planner reads it, got one.");
  }
}

// Kahn's algorithm with a first-in, first-out queue. A node joins the queue after its last source, so the queue is in
// order of levels, and that source is on the level before the node's own. Returns how many nodes have a level.
int64_t find_levels(std::span<const int64_t> out_degree, std::span<const int64_t> ends, std::span<const int64_t> words,
                    std::span<const int64_t> in_degree, std::span<int64_t> level) {
  std::vector<int64_t> waiting(in_degree.begin(), in_degree.end());
  std::vector<int32_t> queue;
  queue.reserve(level.size());
  std::fill(level.begin(), level.end(), -1);
  for (size_t node = 0; node < level.size(); ++node) {
    if (waiting[node]) continue;
    level[node] = 0;
    queue.push_back(static_cast<int32_t>(node));
  }
  for (size_t first = 0; first < queue.size(); ++first) {
    const int32_t node = queue[first];
    for (int64_t place = ends[node] - out_degree[node]; place < ends[node]; ++place) {
      const int64_t target = node_of(words[place]);
      if (--waiting[target]) continue;
      level[target] = level[node] + 1;
      queue.push_back(static_cast<int32_t>(target));
    }
  }
  return static_cast<int64_t>(queue.size());
}

}  // namespace

int64_t order(std::span<const int64_t> src, std::span<const int64_t> dst, const Ordered& results) {
  const auto& [level, in_degree, out_degree, to_src, to_dst, position] = results;
  const auto num_nodes = static_cast<int64_t>(level.size()), num_edges = static_cast<int64_t>(src.size());
  require(num_nodes <= kMaxNodes, "level: expected at most 2^31 nodes, got more.");
  require(num_edges <= kMaxEdges, "src: expected at most 2^33 edges, got more.");
  require(dst.size() == src.size(), "dst: expected as many entries as src, got another number.");
  require(in_degree.size() == level.size() && out_degree.size() == level.size(),
          "in_degree, out_degree: expected one entry per node, got another number.");
  require(to_src.size() == src.size() && to_dst.size() == src.size() && position.size() == src.size(),
          "results: expected room for each edge, got another number.");
  count(src, out_degree, "src: expected node numbers, got one out of range.");
  count(dst, in_degree, "dst: expected node numbers, got one out of range.");
  std::vector<int64_t> ends(num_nodes);
  const auto words = to_dst;  // the destinations themselves are written last of all
  by_source(src, dst, out_degree, ends, words);
  const int64_t num_stuck = num_nodes - find_levels(out_degree, ends, words, in_degree, level);
  if (num_stuck) return num_stuck;

  const ByLevel by_level(level);
  const std::span<const int32_t> nodes(by_level.nodes);
  std::vector<int64_t> next(num_nodes);  // where the next edge into each node goes
  int64_t begin = 0;
  for (const int32_t node : nodes) {
    next[node] = begin;
    begin += in_degree[node];
  }
  const auto row = [&](int64_t node) {  // the words of a source's edges
    return words.subspan(ends[node] - out_degree[node], out_degree[node]);
  };
  // Taking the sources in their order, each with its edges in the caller's, puts each destination's edges in canonical
  // order. The prefetches run ahead in the order of their dependences: each needs the result of the one before.
  for (size_t k = 0; k < nodes.size(); ++k) {
    prefetch(nodes, k + 16, std::span(ends));
    prefetch(nodes, k + 16, out_degree);
    if (k + 8 < nodes.size()) prefetch(words, ends[nodes[k + 8]] - out_degree[nodes[k + 8]]);
    if (k + 3 < nodes.size()) {
      for (const int64_t word : row(nodes[k + 3])) {
        prefetch(std::span(next), node_of(word));
        prefetch(position, edge_of(word));
      }
    }
    if (k + 1 < nodes.size()) {
      for (const int64_t word : row(nodes[k + 1])) prefetch(to_src, next[node_of(word)]);
    }
    for (const int64_t word : row(nodes[k])) {
      const int64_t to = next[node_of(word)]++;
      require(to < num_edges, "dst: expected no change while the planner reads it, got one.");
      to_src[to] = nodes[k];
      position[edge_of(word)] = to;
    }
  }
  auto place = to_dst.begin();
  for (const int32_t node : nodes) place = std::fill_n(place, in_degree[node], node);
  return 0;
}

}  // namespace freewire::planner

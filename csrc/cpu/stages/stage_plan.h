// SPDX-License-Identifier: MIT
// A stage's wiring as the drives run it: nodes in the order in which they run, each after its sources.
//
// Nodes are numbered by their position in that order. Those without in-edges come first; they read the stage's input.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace freewire::cpu {

struct StagePlan {
  // in_ptr [N + 1], in_src [E]: the sources of each node's in-edges. Throws nothing: see is_valid().
  StagePlan(std::vector<int64_t> in_ptr, std::vector<int64_t> in_src)
      : in_ptr(std::move(in_ptr)), in_src(std::move(in_src)) {
    if (is_valid()) find_readers(), assign_slots();
  }

  // Whether the nodes without in-edges come first, and every source comes before its readers.
  bool is_valid() const {
    if (in_ptr.size() < 2 || in_ptr.front() != 0 || in_ptr.back() != static_cast<int64_t>(in_src.size())) return false;
    for (size_t node = 0; node + 1 < in_ptr.size(); ++node) {
      if (in_ptr[node + 1] < in_ptr[node] || (node && in_ptr[node + 1] == in_ptr[node] && in_ptr[node] > 0)) {
        return false;
      }
    }
    for (int64_t node = 0; node < num_nodes(); ++node) {
      for (int64_t edge = in_ptr[node]; edge < in_ptr[node + 1]; ++edge) {
        if (in_src[edge] < 0 || in_src[edge] >= node) return false;
      }
    }
    return in_ptr[1] == 0;
  }

  int64_t num_nodes() const { return static_cast<int64_t>(in_ptr.size()) - 1; }
  int64_t num_edges() const { return static_cast<int64_t>(in_src.size()); }
  int64_t fan_in(int64_t node) const { return in_ptr[node + 1] - in_ptr[node]; }

  std::vector<int64_t> in_ptr, in_src;
  std::vector<int64_t> out_ptr, out_edge, out_dst;  // each node's out-edges, in the order of their destinations
  std::vector<int64_t> sinks;                       // nodes of out-degree 0, whose mean is the stage's output
  int64_t num_inputs = 0;                           // nodes without in-edges
  std::vector<int64_t> slot;                        // where inference keeps a node's result until its last reader
  int64_t num_slots = 0;

 private:
  void find_readers() {
    out_ptr.assign(num_nodes() + 1, 0);
    for (const int64_t source : in_src) ++out_ptr[source + 1];
    for (int64_t node = 0; node < num_nodes(); ++node) {
      if (out_ptr[node + 1] == 0) sinks.push_back(node);
      out_ptr[node + 1] += out_ptr[node];
      num_inputs += fan_in(node) == 0;
    }
    std::vector<int64_t> next(out_ptr.begin(), out_ptr.end() - 1);
    out_edge.resize(in_src.size());
    out_dst.resize(in_src.size());
    for (int64_t node = 0; node < num_nodes(); ++node) {
      for (int64_t edge = in_ptr[node]; edge < in_ptr[node + 1]; ++edge) {
        const int64_t place = next[in_src[edge]]++;
        out_edge[place] = edge;
        out_dst[place] = node;
      }
    }
  }

  // A node does not share its slot with its sources, whose rows it reads while it is written.
  void assign_slots() {
    std::vector<int64_t> free;
    for (int64_t node = 0; node < num_nodes(); ++node) {
      if (free.empty()) free.push_back(num_slots++);
      slot.push_back(free.back());
      free.pop_back();
      for (int64_t edge = in_ptr[node]; edge < in_ptr[node + 1]; ++edge) {
        const int64_t source = in_src[edge];
        const bool read_again = out_dst[out_ptr[source + 1] - 1] != node;
        const bool counted = std::find(&in_src[in_ptr[node]], &in_src[edge], source) != &in_src[edge];
        if (!read_again && !counted) free.push_back(slot[source]);
      }
    }
  }
};

}  // namespace freewire::cpu

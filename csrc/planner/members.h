// SPDX-License-Identifier: MIT
// The packed plan of a graph in one call, for populations, which plan thousands of small graphs.
//
// The same words as make_plan(graph).pack() of freewire/plan/plan.py, which a test compares. There, the arrays between
// the steps are Python's; a small graph's steps take less time than handing those over.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace freewire::planner {

// A graph without delays, in canonical order. N nodes, E edges.
struct MemberGraph {
  std::span<const int64_t> src, dst;                 // [E]
  std::span<const int64_t> level;                    // [N]
  std::span<const int64_t> inputs, outputs;          // node numbers
  std::span<const uint8_t> activation, aggregation;  // [N] codes of node_math.h
};

// keeps: whether training keeps the pre-activation, by code of the activation.
std::vector<int64_t> packed_member(const MemberGraph& graph, std::span<const bool> keeps, int64_t row_bytes);

}  // namespace freewire::planner

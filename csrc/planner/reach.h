// SPDX-License-Identifier: MIT
// Which nodes paths lead to, and which nodes paths come from.
//
// Enters: edges in canonical order, and marked nodes. Leaves: more marks. One pass over the edges: into a source,
// everything stands before (backwards: behind) what leaves it.
#pragma once

#include <cstdint>
#include <span>

namespace freewire::planner {

// reached: [N], marks to start from, and then also of every node that a path leads to (backward: comes from).
void spread(std::span<const int64_t> src, std::span<const int64_t> dst, bool backward, std::span<bool> reached);

}  // namespace freewire::planner

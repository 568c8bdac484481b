// SPDX-License-Identifier: MIT
// Which nodes can be reached from marked nodes, forward or backward.
//
// One pass over the edges in canonical order suffices: all edges into a node come before the edges that leave it.
#pragma once

#include <cstdint>
#include <span>

namespace freewire::planner {

// reached: [N], the marks to start from; marks are added to every node that a path from a marked node leads to
// (backward: that a path to a marked node comes from).
void spread(std::span<const int64_t> src, std::span<const int64_t> dst, bool backward, std::span<bool> reached);

}  // namespace freewire::planner

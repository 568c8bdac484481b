// SPDX-License-Identifier: MIT
// How much of a plan is dense blocks.
//
// Enters: a plan's edges by destination. Leaves: how many edges lead into a node with a twin: another of its level that
// reads the same sources, in any order.
#pragma once

#include <cstdint>
#include <span>

namespace freewire::planner {

// level_ptr: [L + 1]; in_begin, in_end: [C]; in_src: [E]. Sources are compared by a 64-bit number made of them: two
// nodes of a million are taken for twins by chance once in some ten million such plans.
int64_t count_twin_edges(std::span<const int64_t> level_ptr, int64_t num_inputs, std::span<const int64_t> in_begin,
                         std::span<const int64_t> in_end, std::span<const int32_t> in_src);

}  // namespace freewire::planner

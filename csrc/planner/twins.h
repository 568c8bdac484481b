// SPDX-License-Identifier: MIT
// How much of a plan is dense blocks: how many edges lead into a node with a twin, which is another node of its level
// that reads the same sources, in any order.
#pragma once

#include <cstdint>
#include <span>

namespace freewire::planner {

// level_ptr: [L + 1]; in_begin, in_end: [C]; in_src: [E]. Sources are compared by a 64-bit hash: two nodes of a
// million are mistaken for twins about once in ten million such plans.
int64_t count_twin_edges(std::span<const int64_t> level_ptr, int64_t num_inputs, std::span<const int64_t> in_begin,
                         std::span<const int64_t> in_end, std::span<const int32_t> in_src);

}  // namespace freewire::planner

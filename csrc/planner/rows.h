// SPDX-License-Identifier: MIT
// Rows of the tape for inference, reused once their value has been read for the last time.
//
// A slot takes only rows that were last read on a level before its own, because the nodes of one level may run at the
// same time; it takes the one that was read last, which is the likeliest to be in a cache. Inputs have rows 0 to I - 1
// from the start; an output's row is never reused. Where the nodes run component by component, a row stays in its
// component, so that the rows are right in that order, by level, and with components at the same time.
#pragma once

#include <cstdint>
#include <span>

namespace freewire::planner {

// level_ptr: [L + 1], the first slot of each level. component: [S], or nothing: as in Blocks. out_ptr: [S + 1],
// out_sparse, out_split: [S], out_dst: [M]: as in EdgeLists. is_output, row: [S].
void assign_rows(std::span<const int64_t> level_ptr, int64_t num_inputs, std::span<const int32_t> component,
                 std::span<const int64_t> out_ptr, std::span<const int64_t> out_sparse,
                 std::span<const int64_t> out_split, std::span<const int32_t> out_dst, std::span<const bool> is_output,
                 std::span<int32_t> row);

}  // namespace freewire::planner

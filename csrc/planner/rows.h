// SPDX-License-Identifier: MIT
// Rows of the tape for inference, used again once what they hold has been read.
//
// Enters: a plan's slots and edges by source. Leaves: each slot's row. A slot takes only rows that were last read on a
// level before its own, because the nodes of one level may run at the same time; it takes the one that was read last,
// which is likeliest to be in a cache. Inputs hold rows 0 to I - 1 from the start; an output keeps its row for good.
#pragma once

#include <cstdint>
#include <span>

namespace freewire::planner {

// level_ptr: [L + 1], the first slot of each level. out_ptr: [S + 1], out_split: [S], out_dst: [M]: as in EdgeLists.
// is_output, row: [S].
void assign_rows(std::span<const int64_t> level_ptr, int64_t num_inputs, std::span<const int64_t> out_ptr,
                 std::span<const int64_t> out_split, std::span<const int32_t> out_dst, std::span<const bool> is_output,
                 std::span<int32_t> row);

}  // namespace freewire::planner

// SPDX-License-Identifier: MIT
// Forward of the whole network for one tile of the batch, in the plan's run order: dense blocks, and the nodes between
// them.
//
// One thread runs a tile, or several run the nodes of one stage after the other. Tiles share nothing that is written,
// and nodes of a stage read nothing that it writes, so there are no races: bitwise deterministic.
#pragma once

#include <algorithm>
#include <cstring>

#include "cpu/network/forward_block.h"
#include "cpu/network/forward_nodes.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

template <class G, class T>
void read_inputs(const PlanView& plan, const ForwardArrays<T>& arrays, int64_t begin, T* tape) {
  G::read(arrays.x, plan.num_inputs, begin, arrays.batch, [&](int64_t i) { return tape + i * G::kStride; });
}

// Nodes that are in no block.
template <class G, class T>
FREEWIRE_INLINE void run_sparse(const ForwardTile<G, T>& tile, int64_t first, int64_t last, bool prefetch) {
  const int32_t* const order = tile.plan.run_node;
  int64_t ahead = first;
  for (int64_t at = first; at < last; ++at) {
    while (prefetch && ahead < last && tile.plan.run_edges[ahead] - tile.plan.run_edges[at] < kEdgesAhead) {
      prefetch_sources(tile, order[ahead++]);
    }
    forward_node_inline<G, false, T>(tile, order[at], nullptr);
  }
}

template <class G, class T>
void run_nodes(const PlanView& plan, const ForwardArrays<T>& arrays, int64_t first, int64_t last, bool keep,
               bool prefetch, T* tape) {
  int64_t at = first;
  for (int64_t block = block_from(plan, first); at < last; ++block) {
    const int64_t dense = block < plan.num_blocks ? std::clamp<int64_t>(plan.block_begin[block], at, last) : last;
    run_sparse<G, T>(ForwardTile<G, T>(plan, arrays, keep, tape), at, dense, prefetch);
    if (dense == last) break;
    at = std::min<int64_t>(plan.block_end[block], last);
    forward_block<G, T>(ForwardTile<G, T>(plan, arrays, keep, tape), block, dense, at);
  }
}

template <class G, class T>
void write_outputs(const PlanView& plan, const ForwardArrays<T>& arrays, int64_t begin, bool keep, T* tape) {
  const ForwardTile<G, T> tile(plan, arrays, keep, tape);
  G::write([&](int64_t i) { return tile.row(plan.output_slot[i]); }, plan.num_outputs, begin, arrays.batch, arrays.y);
  // Samples past the end must add nothing to weight gradients. Their gradients are 0, and their values must be 0 too,
  // since they repeat the last sample, which may be infinite.
  const int64_t live = std::clamp<int64_t>(arrays.batch - begin, 0, G::kColumns);
  for (int64_t row = 0; keep && live < G::kColumns && row < plan.tape_rows; ++row) {
    std::memset(tape + row * G::kStride + live, 0, (G::kColumns - live) * sizeof(T));
  }
}

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

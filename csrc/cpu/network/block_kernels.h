// SPDX-License-Identifier: MIT
// The kernels of source blocks; source_blocks.h has what these are.
//
// Of few samples and nodes of linear aggregation: an edge loads one row (of two in the backward, of which it writes
// one) from the second cache, 4 bytes of source slot and one weight. A node costs its row of sums more for each block.
#pragma once

#include "cpu/network/backward_few.h"
#include "cpu/network/forward_nodes.h"
#include "cpu/network/source_blocks.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

template <class G, class T>
void run_source_block(const PlanView& plan, const ForwardArrays<T>& arrays, const SourceBlocks& blocks, int64_t block,
                      int64_t first, int64_t last, bool keep, T* tape) {
  if constexpr (!kNarrow<T>) {
    using V = typename G::V;
    using C = typename G::C;
    static_assert(G::kChunk == G::kVectors, "a short row is one chunk");
    const ForwardTile<G, T> tile(plan, arrays, keep, tape);
    const bool finishes = block + 1 == blocks.count();
    for (int64_t at = first; at < last; ++at) {
      const int64_t node = plan.run_node[at];
      T* row = tile.row(plan.num_inputs + node);
      if (block == 0) {
        const bool summed = static_cast<Aggregation>(plan.aggregation[node]) == Aggregation::kSum;
        const V start(summed && arrays.bias ? arrays.bias[plan.bias_index[node]] : C(0));
        for (int k = 0; k < G::kVectors; ++k) start.store(row + k * G::kLanes);
      }
      if (finishes) {
        forward_node_inline<G, true, T>(tile, node, row, blocks.begin(node, block));
        continue;
      }
      V sum[G::kChunk];
      for (int k = 0; k < G::kVectors; ++k) sum[k] = V::load(row + k * G::kLanes);
      aggregate<G, Aggregation::kSum>(tile.src, arrays.weight, blocks.begin(node, block), blocks.end(node, block), tape,
                                      sum);
      for (int k = 0; k < G::kVectors; ++k) sum[k].store(row + k * G::kLanes);
    }
  }
}

template <class G, class T>
void differentiate_nodes(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t first, int64_t last,
                         const T* tape, const FewScratch<typename G::C>& scratch) {
  const Live<G> live(arrays.batch);
  for (int64_t at = first; at < last; ++at) {
    const int64_t node = plan.run_node[at];
    const auto sum =
        differentiate_node<G, T>(plan, node, tape, live, scratch.grad + (plan.num_inputs + node) * int64_t{G::kStride});
    if (scratch.bias_sums) {
      add_bias<typename G::C>(plan, node, horizontal_sum(sum), scratch.first, scratch.bias_sums);
    }
  }
}

template <class G, class T>
void push_source_block(const PlanView& plan, const BackwardArrays<T>& arrays, const SourceBlocks& blocks, int64_t block,
                       int64_t first, int64_t last, const T* tape, const FewScratch<typename G::C>& scratch) {
  for (int64_t at = last - 1; at >= first; --at) {
    const int64_t node = plan.run_node[at], begin = blocks.begin(node, block), end = blocks.end(node, block);
    const auto* row = scratch.grad + (plan.num_inputs + node) * int64_t{G::kStride};
    if (scratch.weight_sums) {
      push_linear<G, true, T>(plan.in_src, arrays.weight, begin, end, row, tape, scratch.grad, scratch.first,
                              scratch.weight_sums);
    } else {
      push_linear<G, false, T>(plan.in_src, arrays.weight, begin, end, row, tape, scratch.grad, false, nullptr);
    }
  }
}

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

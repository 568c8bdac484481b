// SPDX-License-Identifier: MIT
// Forward of a dense block for one tile: a product of matrices, the nodes' weights [nodes, sources] times the sources'
// rows [sources, columns].
//
// The sums of up to kBlockNodes nodes stay in registers, so a row is loaded once for all of them. A sum has the order
// that forward_node() has, so both give the same bits.
#pragma once

#include <algorithm>

#include "cpu/network/forward_nodes.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

// sums[i] += the sum over the block's sources s of weights[i][s] * row(s), for one strip of kBlockVectors registers.
template <class G, int kNodes, class T, class Row>
FREEWIRE_INLINE void block_products(const typename G::C* const (&weights)[kBlockNodes], int64_t sources, Row&& row,
                                    typename G::C* sums) {
  using V = typename G::V;
  constexpr int kVectors = G::kBlockVectors;
  V total[kNodes][kVectors];
#pragma GCC unroll 6
  for (int i = 0; i < kNodes; ++i) {
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) total[i][k] = V::load(sums + i * G::kColumns + k * G::kLanes);
  }
  for (int64_t s = 0; s < sources; ++s) {
    const T* values = row(s);
    V part[kVectors];
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) part[k] = V::load(values + k * G::kLanes);
#pragma GCC unroll 6
    for (int i = 0; i < kNodes; ++i) {
      const V w(weights[i][s]);
#pragma GCC unroll 4
      for (int k = 0; k < kVectors; ++k) total[i][k] = total[i][k] + w * part[k];
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kNodes; ++i) {
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) total[i][k].store(sums + i * G::kColumns + k * G::kLanes);
  }
}

// The nodes at positions [first, last) of a block, where a row is one number: products of a matrix and a vector.
template <class G, class T>
void forward_block_of_one(const ForwardTile<G, T>& tile, int64_t block, int64_t first, int64_t last) {
  using C = typename G::C;
  const PlanView& plan = tile.plan;
  const int64_t sources = plan.block_src_ptr[block + 1] - plan.block_src_ptr[block];
  // All nodes of a block that is not padded read the rows that its first one reads.
  const int32_t* rows = tile.src + plan.in_begin[plan.run_node[plan.block_begin[block]]];
  const bool adjacent = are_adjacent(rows, sources);
  for (int64_t at = first; at < last; ++at) {
    const int64_t node = plan.run_node[at];
    if (plan.block_panel[block] >= 0) {
      forward_node<G, T>(tile, node, nullptr);
      continue;
    }
    const C* weight = tile.arrays.weight + plan.in_begin[node];
    C sum = adjacent ? indexed_dot<true>(rows, weight, sources, tile.tape)
                     : indexed_dot<false>(rows, weight, sources, tile.tape);
    const bool summed = static_cast<Aggregation>(plan.aggregation[node]) == Aggregation::kSum;
    if (summed && tile.arrays.bias) sum += tile.arrays.bias[plan.bias_index[node]];
    forward_node<G, T>(tile, node, &sum);
  }
}

// The nodes at positions [first, last) of a block.
template <class G, class T>
void forward_block(const ForwardTile<G, T>& tile, int64_t block, int64_t first, int64_t last) {
  using C = typename G::C;
  if constexpr (G::kColumns == 1) return forward_block_of_one<G, T>(tile, block, first, last);
  const PlanView& plan = tile.plan;
  const int32_t* slots = plan.block_src + plan.block_src_ptr[block];
  const int64_t sources = plan.block_src_ptr[block + 1] - plan.block_src_ptr[block];
  const bool padded = plan.block_panel[block] >= 0;
  if (padded) {
    // A weight of 0 leaves a sum as it is, unless the value is infinite or a NaN.
    bool finite = true;
    for (int64_t s = 0; s < sources && finite; ++s) finite = row_is_finite<G>(tile.row(slots[s]));
    for (int64_t at = first; !finite && at < last; ++at) forward_node<G, T>(tile, plan.run_node[at], nullptr);
    if (!finite) return;
  }
  in_block_runs(first, last, [&](auto count, int64_t at) {
    constexpr int kNodes = decltype(count)::value;
    alignas(64) C sums[kNodes * G::kColumns];
    const C* weights[kBlockNodes];
    for (int i = 0; i < kNodes; ++i) {
      const int64_t node = plan.run_node[at + i];
      weights[i] = padded ? tile.arrays.panel + plan.block_panel[block] + (at + i - plan.block_begin[block]) * sources
                          : tile.arrays.weight + plan.in_begin[node];
      const bool summed = static_cast<Aggregation>(plan.aggregation[node]) == Aggregation::kSum;
      const typename G::V start(summed && tile.arrays.bias ? tile.arrays.bias[plan.bias_index[node]] : C(0));
      for (int c = 0; c < G::kColumns; c += G::kLanes) start.store(sums + i * G::kColumns + c);
    }
    for (int c = 0; c < G::kColumns; c += G::kBlockVectors * G::kLanes) {
      if (tile.moved) {
        block_products<G, kNodes, T>(weights, sources, [&](int64_t s) { return tile.row(slots[s]) + c; }, sums + c);
      } else {
        const T* column = tile.tape + c;
        block_products<G, kNodes, T>(
            weights, sources, [&](int64_t s) { return column + int64_t{slots[s]} * G::kStride; }, sums + c);
      }
    }
    for (int i = 0; i < kNodes; ++i) forward_node<G, T>(tile, plan.run_node[at + i], sums + i * G::kColumns);
  });
}

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

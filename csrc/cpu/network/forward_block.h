// SPDX-License-Identifier: MIT
// Forward of a dense block for one tile: a product of matrices, the nodes' weights [nodes, sources] times the sources'
// rows [sources, columns].
//
// The sums of up to kBlockNodes nodes stay in registers, so a row is loaded once for all of them. A sum adds up its
// sources in their order, as a node outside of blocks does in rows of 64 bytes or more, so there both give the same
// bits.
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

// The same for one node of a padded block, where some value is infinite or a NaN: 0 times it is skipped. Every other
// number gets the same bits as from block_products(), whatever its neighbours in the tile are.
template <class G, class T, class Row>
void padded_products(const PlanView& plan, int64_t node, const typename G::C* weights, int64_t sources, Row&& row,
                     typename G::C* sums) {
  using V = typename G::V;
  const V zero(typename G::C(0));
  const int32_t* column = plan.panel_column + plan.in_begin[node];
  const int32_t* last = plan.panel_column + plan.in_split[node];
  for (int64_t s = 0; s < sources; ++s) {
    const bool reads = column < last && *column == s;
    if (reads) ++column;
    const T* values = row(s);
    for (int c = 0; c < G::kColumns; c += G::kLanes) {
      const V value = V::load(values + c), before = V::load(sums + c);
      const V after = in_register(before + V(weights[s]) * value);  // rounded once, and only then chosen
      (reads ? after : select(value * zero == zero, after, before)).store(sums + c);
    }
  }
}

// The nodes at positions [first, last) of a block, where a row is one number: products of a matrix and a vector. Padded
// blocks run edge by edge.
template <class G, class T>
void forward_block_of_one(const ForwardTile<G, T>& tile, int64_t block, int64_t first, int64_t last) {
  using C = typename G::C;
  const PlanView& plan = tile.plan;
  const int64_t sources = plan.block_src_ptr[block + 1] - plan.block_src_ptr[block];
  if (plan.block_panel[block] >= 0) {
    for (int64_t at = first; at < last; ++at) forward_block_node<G, T>(tile, plan.run_node[at], nullptr);
    return;
  }
  // All nodes read the rows that the first one reads.
  const int32_t* rows = tile.src + plan.in_begin[plan.run_node[plan.block_begin[block]]];
  const bool adjacent = are_adjacent(rows, sources);
  for (int64_t at = first; at < last; ++at) {
    const int64_t node = plan.run_node[at];
    const C* weight = tile.arrays.weight + plan.in_begin[node];
    C sum = adjacent ? indexed_dot<true>(rows, weight, sources, tile.tape)
                     : indexed_dot<false>(rows, weight, sources, tile.tape);
    const bool summed = static_cast<Aggregation>(plan.aggregation[node]) == Aggregation::kSum;
    if (summed && tile.arrays.bias) sum += tile.arrays.bias[plan.bias_index[node]];
    forward_block_node<G, T>(tile, node, &sum);
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
  // A weight of 0 leaves a sum as it is, unless the value is infinite or a NaN.
  bool finite = true;
  for (int64_t s = 0; padded && finite && s < sources; ++s) finite = row_is_finite<G>(tile.row(slots[s]));
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
    for (int i = 0; !finite && i < kNodes; ++i) {
      padded_products<G, T>(
          plan, plan.run_node[at + i], weights[i], sources, [&](int64_t s) { return tile.row(slots[s]); },
          sums + i * G::kColumns);
    }
    for (int c = 0; finite && c < G::kColumns; c += G::kBlockVectors * G::kLanes) {
      if (tile.moved) {
        block_products<G, kNodes, T>(weights, sources, [&](int64_t s) { return tile.row(slots[s]) + c; }, sums + c);
      } else {
        const T* column = tile.tape + c;
        block_products<G, kNodes, T>(
            weights, sources, [&](int64_t s) { return column + int64_t{slots[s]} * G::kStride; }, sums + c);
      }
    }
    for (int i = 0; i < kNodes; ++i) forward_block_node<G, T>(tile, plan.run_node[at + i], sums + i * G::kColumns);
  });
}

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

// SPDX-License-Identifier: MIT
// The gradient of a dense block's sources for one tile: a product of matrices, the transposed weights [sources, nodes]
// times the nodes' rows of gradients [nodes, columns].
#pragma once

#include <algorithm>

#include "cpu/network/kernels.h"
#include "cpu/network/tile.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

// Nodes whose rows are used again and again before the next ones: 64 rows of 256 bytes stay in the first cache.
constexpr int64_t kPushedNodes = 64;

// grad(slots[j]) += the sum over i of weights[i][j] * delta[i], for one strip of kBlockVectors registers.
template <class G, int kSources, class C>
FREEWIRE_INLINE void push_products(const C* const* weights, const C* const* delta, int64_t nodes, int64_t at,
                                   const int32_t* slots, C* grad, int c) {
  using V = typename G::V;
  constexpr int kVectors = G::kBlockVectors;
  V total[kSources][kVectors];
#pragma GCC unroll 6
  for (int j = 0; j < kSources; ++j) {
    const C* row = grad + int64_t{slots[at + j]} * G::kStride + c;
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) total[j][k] = V::load(row + k * G::kLanes);
  }
  for (int64_t i = 0; i < nodes; ++i) {
    V part[kVectors];
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) part[k] = V::load(delta[i] + c + k * G::kLanes);
    const C* weight = weights[i] + at;
#pragma GCC unroll 6
    for (int j = 0; j < kSources; ++j) {
      const V w(weight[j]);
#pragma GCC unroll 4
      for (int k = 0; k < kVectors; ++k) total[j][k] = total[j][k] + w * part[k];
    }
  }
#pragma GCC unroll 6
  for (int j = 0; j < kSources; ++j) {
    C* row = grad + int64_t{slots[at + j]} * G::kStride + c;
#pragma GCC unroll 4
    for (int k = 0; k < kVectors; ++k) total[j][k].store(row + k * G::kLanes);
  }
}

// The same for one node of a padded block, where some gradient is infinite or a NaN: 0 times it is skipped. Every other
// number gets the same bits, whatever its neighbours in the tile are.
template <class G, class C>
void push_padded(const PlanView& plan, int64_t node, const C* weights, const int32_t* slots, int64_t sources,
                 const C* delta, C* grad) {
  using V = typename G::V;
  const V zero(C(0));
  const int32_t* column = plan.panel_column + plan.in_begin[node];
  const int32_t* last = plan.panel_column + plan.in_split[node];
  for (int64_t s = 0; s < sources; ++s) {
    const bool reads = column < last && *column == s;
    if (reads) ++column;
    C* row = grad + int64_t{slots[s]} * G::kStride;
    for (int c = 0; c < G::kColumns; c += G::kLanes) {
      const V from = V::load(delta + c), before = V::load(row + c);
      const V after = in_register(before + V(weights[s]) * from);  // rounded once, and only then chosen
      (reads ? after : select(from * zero == zero, after, before)).store(row + c);
    }
  }
}

template <class G, class T>
void push_block(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t block, typename G::C* grad) {
  using C = typename G::C;
  const int32_t* slots = plan.block_src + plan.block_src_ptr[block];
  const int64_t sources = plan.block_src_ptr[block + 1] - plan.block_src_ptr[block];
  const int64_t begin = plan.block_begin[block], end = plan.block_end[block], panel = plan.block_panel[block];
  const auto row_of = [&](int64_t at) { return grad + (plan.num_inputs + plan.run_node[at]) * int64_t{G::kStride}; };
  bool finite = true;
  for (int64_t at = begin; panel >= 0 && finite && at < end; ++at) finite = row_is_finite<G>(row_of(at));
  for (int64_t first = begin; first < end; first += kPushedNodes) {
    const int64_t nodes = std::min(end - first, kPushedNodes);
    const C *weights[kPushedNodes], *delta[kPushedNodes];
    for (int64_t i = 0; i < nodes; ++i) {
      weights[i] = panel >= 0 ? arrays.panel + panel + (first + i - begin) * sources
                              : arrays.weight + plan.in_begin[plan.run_node[first + i]];
      delta[i] = row_of(first + i);
    }
    if (!finite) {
      for (int64_t i = 0; i < nodes; ++i) {
        push_padded<G, C>(plan, plan.run_node[first + i], weights[i], slots, sources, delta[i], grad);
      }
      continue;
    }
    in_block_runs(0, sources, [&](auto count, int64_t at) {
      for (int c = 0; c < G::kColumns; c += G::kBlockVectors * G::kLanes) {
        push_products<G, decltype(count)::value, C>(weights, delta, nodes, at, slots, grad, c);
      }
    });
  }
}

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

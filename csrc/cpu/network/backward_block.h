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

// The same edge by edge, where a gradient is infinite or a NaN, and the padded weights of 0 would spread it.
template <class G, class C>
void push_edges(const PlanView& plan, const C* weight, int64_t block, C* grad) {
  using V = typename G::V;
  for (int64_t at = plan.block_begin[block]; at < plan.block_end[block]; ++at) {
    const int64_t node = plan.run_node[at];
    const C* delta = grad + (plan.num_inputs + node) * G::kStride;
    for (int64_t e = plan.in_begin[node]; e < plan.in_split[node]; ++e) {
      C* row = grad + int64_t{plan.in_src[e]} * G::kStride;
      for (int c = 0; c < G::kColumns; c += G::kLanes) {
        (V::load(row + c) + V(weight[e]) * V::load(delta + c)).store(row + c);
      }
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
  if (panel >= 0) {
    bool finite = true;
    for (int64_t at = begin; at < end && finite; ++at) finite = row_is_finite<G>(row_of(at));
    if (!finite) return push_edges<G, C>(plan, arrays.weight, block, grad);
  }
  for (int64_t first = begin; first < end; first += kPushedNodes) {
    const int64_t nodes = std::min(end - first, kPushedNodes);
    const C *weights[kPushedNodes], *delta[kPushedNodes];
    for (int64_t i = 0; i < nodes; ++i) {
      weights[i] = panel >= 0 ? arrays.panel + panel + (first + i - begin) * sources
                              : arrays.weight + plan.in_begin[plan.run_node[first + i]];
      delta[i] = row_of(first + i);
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

// SPDX-License-Identifier: MIT
// What both regimes do with one slot of the backward, at one column.
//
// A source gathers from its readers, so every element has one writer: no atomics, bitwise repeatable. An edge into a
// node that is not linear (max, product, ...) has a gradient of its own, its share, which the node leaves in global
// memory for the source to gather.
#pragma once

#include "cuda/network/forward_node.h"

namespace freewire::cuda {

// Where the share of a live in-edge of a node that is not linear stands.
inline __device__ int64_t share_row(const PlanView& plan, int64_t node, int64_t edge) {
  return plan.share_begin[node] + edge - plan.in_begin[node];
}

// The gradient of each term of one node, given that of its aggregate.
template <Aggregation A, class T, class Term, class Share>
__device__ void share_out(int64_t count, T delta, Term&& term, Share&& share) {
  if constexpr (A == Aggregation::kProduct) {
    // The terms before each edge, then from the end those after it: nothing is divided.
    T running = 1;
#pragma unroll 1
    for (int64_t k = 0; k < count; ++k) {
      share(k) = running;
      running *= term(k);
    }
    running = delta;
#pragma unroll 1
    for (int64_t k = count - 1; k >= 0; --k) {
      share(k) *= running;
      running *= term(k);
    }
  } else {
    const T best = combine_terms<A>(count, term);
    bool open = true;  // the first edge whose term is the aggregate, or the first NaN, takes the whole gradient
#pragma unroll 1
    for (int64_t k = 0; k < count; ++k) {
      const T value = term(k);
      const bool wins = open && (value == best || value != value);
      share(k) = wins ? delta : T(0);
      open = open && !wins;
    }
  }
}

// The same for a node of the plan, from the tape.
template <class T>
__device__ void share_out(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t pitch, int64_t node,
                          Compute<T> delta, int64_t sample) {
  using C = Compute<T>;
  const int64_t begin = plan.in_begin[node], count = plan.in_end[node] - begin;
  if (count == 0) return;
  const auto term = [&](int64_t k) {
    return widened(arrays.weight[begin + k]) * widened(arrays.tape[plan.in_src[begin + k] * pitch + sample]);
  };
  const auto share = [&](int64_t k) -> C& { return arrays.shares[(plan.share_begin[node] + k) * pitch + sample]; };
  with_nonlinear(static_cast<Aggregation>(plan.aggregation[node]),
                 [&](auto code) { share_out<decltype(code)::value>(count, delta, term, share); });
}

// What a slot's readers that are not linear send it.
template <class T>
__device__ Compute<T> gather_shares(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t pitch, int64_t slot,
                                    int64_t sample) {
  Compute<T> total = 0;
#pragma unroll 1
  for (int64_t k = plan.out_split[slot]; k < plan.out_ptr[slot + 1]; ++k) {
    const int64_t edge = plan.out_edge[k], row = share_row(plan, plan.out_dst[k] - plan.num_inputs, edge);
    total += widened(arrays.weight[edge]) * arrays.shares[row * pitch + sample];
  }
  return total;
}

// Gradients of values at kCount columns to those of pre-activations; 0 from column `live` on, past the batch's end.
template <class T, int kCount>
__device__ void through_activation(Activation activation, const T (&told_by)[kCount], T (&grad)[kCount], int64_t live) {
  with_activation(activation, [&](auto code) {
    constexpr Activation kCode = decltype(code)::value;
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
      if constexpr (kCode == Activation::kRelu) {
        if (told_by[c] <= T(0)) grad[c] = 0;  // no product: 0 x inf
      } else {
        grad[c] *= derivative<kCode>(told_by[c]);
      }
      if (c >= live) grad[c] = 0;
    }
  });
}

}  // namespace freewire::cuda

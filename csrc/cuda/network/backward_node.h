// SPDX-License-Identifier: MIT
// The backward of one slot at one column, for both regimes.
//
// A source gathers from its readers, so every element has a single writer: no races, no atomics, bitwise deterministic.
// An edge into a node that is not linear (max, product, ...) has a gradient of its own, its share, which the node
// writes to global memory for the source to gather.
#pragma once

#include "cuda/network/forward_node.h"

namespace freewire::cuda {

// The row of the share of a live in-edge of a node that is not linear.
inline __device__ int64_t share_row(const PlanView& plan, int64_t node, int64_t edge) {
  return plan.share_begin[node] + edge - plan.in_begin[node];
}

// Computes the gradient of each term of one node from delta, the gradient of its aggregate.
template <Aggregation A, class T, class Term, class Share>
__device__ void share_out(int64_t count, T delta, Term&& term, Share&& share) {
  if constexpr (A == Aggregation::kProduct) {
    // The product of the terms before each edge, then from the end that of the terms after it and delta. There is no
    // division, and the order is that of autograd, so that infinities and NaNs are too.
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

// The same for a node of the plan, with values from the tape.
template <class T>
__device__ void share_out(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t pitch, int64_t node,
                          Compute<T> delta, int64_t sample) {
  using C = Compute<T>;
  const int64_t begin = plan.in_begin[node], count = plan.in_end[node] - begin;
  if (count == 0) return;
  const bool live = sample < arrays.batch;  // past the batch's end shares must be 0, even of an infinite weight
  const auto term = [&](int64_t k) {
    const C value = widened(arrays.tape[plan.in_src[begin + k] * pitch + sample]);
    return live ? widened(arrays.weight[begin + k]) * value : C(0);
  };
  const auto share = [&](int64_t k) -> C& { return arrays.shares[(plan.share_begin[node] + k) * pitch + sample]; };
  with_nonlinear(static_cast<Aggregation>(plan.aggregation[node]),
                 [&](auto code) { share_out<decltype(code)::value>(count, delta, term, share); });
}

// The part of a slot's gradient that comes from readers which are not linear.
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

// Turns gradients of values at kCount columns into gradients of pre-activations, with 0 from column `live` on, where
// the batch ends. value is the row from which the derivative is computed.
template <class T, int kCount>
__device__ void through_activation(Activation activation, const T (&value)[kCount], T (&grad)[kCount], int64_t live) {
  with_activation(activation, [&](auto code) {
#pragma unroll
    for (int c = 0; c < kCount; ++c) {
      grad[c] = c < live ? freewire::through_activation<decltype(code)::value>(grad[c], value[c]) : T(0);
    }
  });
}

}  // namespace freewire::cuda

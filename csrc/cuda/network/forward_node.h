// SPDX-License-Identifier: MIT
// The forward of one node at one column, for both regimes: aggregations that are not linear, and activations.
#pragma once

#include "cuda/network/kernels.h"
#include "cuda/network/rows.h"
#include "node_math.h"

namespace freewire::cuda {

// Combines terms 0 to count - 1 in order, since the first edge wins a tie. Such nodes are rare, and not worth the
// registers that an unrolled loop would take from the whole kernel.
template <Aggregation A, class Term>
__device__ auto combine_terms(int64_t count, Term&& term) {
  auto total = term(int64_t{0});
#pragma unroll 1
  for (int64_t k = 1; k < count; ++k) total = combine<A>(total, term(k));
  return total;
}

// The aggregate of a node that is not linear.
template <class T, class Term>
__device__ T aggregate(Aggregation aggregation, int64_t count, Term&& term) {
  T total = 0;
  if (count == 0) return total;
  with_nonlinear(aggregation, [&](auto code) { total = combine_terms<decltype(code)::value>(count, term); });
  return total;
}

// Turns pre-activations at kCount columns into values, with 0 from column `live` on, where the batch ends.
template <class T, int kCount>
__device__ void activate_all(Activation activation, T (&z)[kCount], int64_t live) {
  with_activation(activation, [&](auto code) {
#pragma unroll
    for (int c = 0; c < kCount; ++c) z[c] = c < live ? activate<decltype(code)::value>(z[c]) : T(0);
  });
}

}  // namespace freewire::cuda

// SPDX-License-Identifier: MIT
// What both regimes do with one node of the forward, at one column.
//
// Enters: the sum of its weighted sources, or for aggregations that are no sum a way to each term. Leaves: its value.
#pragma once

#include "cuda/kernels.h"
#include "cuda/rows.h"
#include "node_math.h"

namespace freewire::cuda {

// Terms 0 to count - 1 combined in order, since the first edge wins a tie; rare, and not worth the registers that an
// unrolled loop would take from the whole kernel.
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
  if (count == 0) return T(0);
  switch (aggregation) {
    case Aggregation::kSum:
    case Aggregation::kMean:
      return T(0);
    case Aggregation::kProduct:
      return combine_terms<Aggregation::kProduct>(count, term);
    case Aggregation::kMax:
      return combine_terms<Aggregation::kMax>(count, term);
    case Aggregation::kMin:
      return combine_terms<Aggregation::kMin>(count, term);
    case Aggregation::kMaxabs:
      return combine_terms<Aggregation::kMaxabs>(count, term);
  }
  return T(0);
}

// Pre-activations at kCount columns to values; 0 from column `live` on, which is past the batch's end.
template <class T, int kCount>
__device__ void activate_all(Activation activation, T (&z)[kCount], int64_t live) {
  with_activation(activation, [&](auto code) {
#pragma unroll
    for (int c = 0; c < kCount; ++c) z[c] = c < live ? activate<decltype(code)::value>(z[c]) : T(0);
  });
}

}  // namespace freewire::cuda

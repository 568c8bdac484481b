// SPDX-License-Identifier: MIT
// Forward of one node for one warp; resident.cu and streamed.cu are loops around it.
//
// Enters: the rows of earlier nodes, and the columns this warp covers. Leaves: the node's row, in the working rows and,
// where kept, on the tape. A lane reads one element of a row an edge; slot and weight are one broadcast a warp. One
// writer an element, one order of summation: bitwise repeatable.
#pragma once

#include "cuda/kernels.h"
#include "cuda/rows.h"
#include "node_math.h"

namespace freewire::cuda {

template <class T>
__device__ T term(const PlanView& plan, const T* weight, const Rows<T>& values, int64_t edge, int64_t column) {
  return weight[edge] * values.at(plan.in_src[edge], column);
}

// In edge order, since the first edge wins a tie; the groups of a warp all do the same.
template <Aggregation A, class T>
__device__ T combine_terms(const PlanView& plan, const T* weight, const Rows<T>& values, int64_t begin, int64_t end,
                           int64_t column) {
  T total = term(plan, weight, values, begin, column);
#pragma unroll 1  // rare, and not worth the registers that the whole kernel would then hold
  for (int64_t e = begin + 1; e < end; ++e) total = combine<A>(total, term(plan, weight, values, e, column));
  return total;
}

// The node's aggregate at a column; whole warps only.
template <int kColumns, class T>
__device__ T aggregate(const PlanView& plan, const T* weight, const Rows<T>& values, int64_t node, int64_t column) {
  const int64_t begin = plan.in_begin[node], end = plan.in_end[node];
  if (begin == end) return T(0);
  const auto code = static_cast<Aggregation>(plan.aggregation[node]);
  switch (code) {
    case Aggregation::kSum:
    case Aggregation::kMean: {
      T total = 0;
      for (int64_t e = begin + Lanes<kColumns>::group(); e < end; e += Lanes<kColumns>::kGroups) {
        total += term(plan, weight, values, e, column);
      }
      total = Lanes<kColumns>::sum(total);
      return code == Aggregation::kMean ? total * (T(1) / T(end - begin)) : total;
    }
    case Aggregation::kProduct:
      return combine_terms<Aggregation::kProduct>(plan, weight, values, begin, end, column);
    case Aggregation::kMax:
      return combine_terms<Aggregation::kMax>(plan, weight, values, begin, end, column);
    case Aggregation::kMin:
      return combine_terms<Aggregation::kMin>(plan, weight, values, begin, end, column);
    case Aggregation::kMaxabs:
      return combine_terms<Aggregation::kMaxabs>(plan, weight, values, begin, end, column);
  }
  return T(0);
}

// column: of this lane in values' rows; sample: the same in the batch.
template <int kColumns, class T>
__device__ void forward_node(const PlanView& plan, const ForwardArrays<T>& arrays, int64_t slot, const Rows<T>& values,
                             const Rows<T>& tape, int64_t column, int64_t sample) {
  const int64_t node = slot - plan.num_inputs;
  const T bias = arrays.bias ? arrays.bias[plan.bias_index[node]] : T(0);
  const T z = aggregate<kColumns>(plan, arrays.weight, values, node, column) + bias;
  if (Lanes<kColumns>::group() != 0) return;
  const bool live = sample < arrays.batch;
  T value = 0;
  if (live) {
    with_activation(static_cast<Activation>(plan.activation[node]),
                    [&](auto activation) { value = activate<decltype(activation)::value>(z); });
  }
  values.at(slot, column) = value;
  if (!tape.data) return;
  if (tape.data != values.data) tape.at(slot, sample) = value;
  if (plan.kept_row[node] >= 0) tape.at(plan.kept_row[node], sample) = live ? z : T(0);
}

}  // namespace freewire::cuda

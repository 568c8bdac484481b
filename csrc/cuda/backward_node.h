// SPDX-License-Identifier: MIT
// Backward of one slot for one warp; resident.cu and streamed.cu are loops around it.
//
// Enters: the gradient rows of later slots, the tape, and the columns this warp covers. Leaves: the slot's own gradient
// row and, for a computed node, its row of delta and the shares of its in-edges. A source gathers from its readers, so
// every element has one writer: no atomics, bitwise repeatable. An edge into a node that is not linear (max, product,
// ...) has a gradient of its own, its share, which the node leaves in global memory for the source to gather.
#pragma once

#include "cuda/forward_node.h"

namespace freewire::cuda {

// Where the share of a live in-edge of a node that is not linear stands.
inline __device__ int64_t share_row(const PlanView& plan, int64_t node, int64_t edge) {
  return plan.share_begin[node] + edge - plan.in_begin[node];
}

// The gradient of each term of one node, given that of its aggregate. One lane a column.
template <Aggregation A, class T>
__device__ void share_out(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t node, const Rows<T>& tape,
                          const Rows<T>& shares, T delta, int64_t sample) {
  const int64_t begin = plan.in_begin[node], end = plan.in_end[node];
  if constexpr (A == Aggregation::kProduct) {
    // The terms before each edge, then from the end those after it: nothing is divided.
    T running = 1;
#pragma unroll 1
    for (int64_t e = begin; e < end; ++e) {
      shares.at(share_row(plan, node, e), sample) = running;
      running *= term(plan, arrays.weight, tape, e, sample);
    }
    running = delta;
#pragma unroll 1
    for (int64_t e = end - 1; e >= begin; --e) {
      shares.at(share_row(plan, node, e), sample) *= running;
      running *= term(plan, arrays.weight, tape, e, sample);
    }
  } else {
    const T best = combine_terms<A>(plan, arrays.weight, tape, begin, end, sample);
    bool open = true;  // the first edge whose term is the aggregate, or the first NaN, takes the whole gradient
#pragma unroll 1
    for (int64_t e = begin; e < end; ++e) {
      const T value = term(plan, arrays.weight, tape, e, sample);
      const bool wins = open && (value == best || value != value);
      shares.at(share_row(plan, node, e), sample) = wins ? delta : T(0);
      open = open && !wins;
    }
  }
}

template <class T>
__device__ void share_out(Aggregation code, const PlanView& plan, const BackwardArrays<T>& arrays, int64_t node,
                          const Rows<T>& tape, const Rows<T>& shares, T delta, int64_t sample) {
  switch (code) {
    case Aggregation::kSum:
    case Aggregation::kMean:
      return;
    case Aggregation::kProduct:
      return share_out<Aggregation::kProduct>(plan, arrays, node, tape, shares, delta, sample);
    case Aggregation::kMax:
      return share_out<Aggregation::kMax>(plan, arrays, node, tape, shares, delta, sample);
    case Aggregation::kMin:
      return share_out<Aggregation::kMin>(plan, arrays, node, tape, shares, delta, sample);
    case Aggregation::kMaxabs:
      return share_out<Aggregation::kMaxabs>(plan, arrays, node, tape, shares, delta, sample);
  }
}

// The gradient that a slot's readers send it; whole warps only.
template <int kColumns, class T>
__device__ T gather(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t slot, const Rows<T>& grad,
                    const Rows<T>& shares, int64_t column, int64_t sample) {
  const int64_t readers = plan.out_ptr[slot], split = plan.out_split[slot], end = plan.out_ptr[slot + 1];
  T total = 0;
  for (int64_t k = readers + Lanes<kColumns>::group(); k < split; k += Lanes<kColumns>::kGroups) {
    total += arrays.weight[plan.out_edge[k]] * grad.at(plan.out_dst[k], column);
  }
  for (int64_t k = split + Lanes<kColumns>::group(); k < end; k += Lanes<kColumns>::kGroups) {
    const int64_t edge = plan.out_edge[k], reader = plan.out_dst[k] - plan.num_inputs;
    total += arrays.weight[edge] * shares.at(share_row(plan, reader, edge), sample);
  }
  return Lanes<kColumns>::sum(total);
}

// grad's rows start as the gradient of y at the outputs and 0 elsewhere.
template <int kColumns, class T>
__device__ void backward_slot(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t slot, const Rows<T>& grad,
                              int64_t pitch, int64_t column, int64_t sample) {
  const Rows<T> shares{arrays.shares, pitch};
  const T gathered = gather<kColumns>(plan, arrays, slot, grad, shares, column, sample);
  if (Lanes<kColumns>::group() != 0) return;
  T own = grad.at(slot, column) + gathered;
  const int64_t node = slot - plan.num_inputs;
  if (node >= 0) {
    const Rows<T> tape{const_cast<T*>(arrays.tape), pitch}, delta{arrays.delta, pitch};
    const T told_by = tape.at(plan.kept_row[node] >= 0 ? plan.kept_row[node] : slot, sample);
    const auto activation = static_cast<Activation>(plan.activation[node]);
    if (activation == Activation::kRelu) {
      own = told_by <= T(0) ? T(0) : own;  // no product: 0 x inf
    } else {
      with_activation(activation, [&](auto code) { own *= derivative<decltype(code)::value>(told_by); });
    }
    if (sample >= arrays.batch) own = 0;
    delta.at(node, sample) = own;
    const auto aggregation = static_cast<Aggregation>(plan.aggregation[node]);
    const int64_t fan_in = plan.in_end[node] - plan.in_begin[node];
    if (aggregation == Aggregation::kMean && fan_in > 0) own *= T(1) / T(fan_in);
    if (!is_linear(aggregation) && fan_in > 0) {
      share_out(aggregation, plan, arrays, node, tape, shares, own, sample);
    }
  }
  grad.at(slot, column) = own;
}

}  // namespace freewire::cuda

// SPDX-License-Identifier: MIT
// Parts of every backward: the batch's end, activations, and aggregations that are not linear.
#pragma once

#include "cpu/network/kernels.h"
#include "cpu/network/tile.h"
#include "cpu/simd/vector_math.h"
#include "node_math.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

// Which samples of a tile are in the batch. Past its end, values on the tape are 0, and gradients of outputs repeat the
// last sample's: a slot's gradient is cleared there before anything is computed from it.
template <class G>
class Live {
 public:
  using V = typename G::V;
  using C = typename G::C;
  explicit Live(int64_t samples) : cuts_(samples < G::kColumns) {
    for (int64_t c = 0; c < G::kColumns && cuts_; ++c) mark_[c] = c < samples ? C(1) : C(0);
  }
  // Whether the batch ends within the tile.
  FREEWIRE_INLINE bool cuts() const { return __builtin_expect(cuts_, 0); }
  // In such a tile: value, with 0 past the batch's end; its first column is c.
  FREEWIRE_INLINE V only(V value, int c) const { return select(V::load(mark_ + c) > V(C(0)), value, V(C(0))); }

 private:
  bool cuts_;
  C mark_[G::kColumns];
};

// Turns a row of gradients of values into gradients of pre-activations; value is the row from which the derivative is
// computed.
template <class V, class T>
void differentiate_row(Activation code, const T* value, int columns, typename V::Scalar* grad) {
  with_activation(code, [&](auto activation) {
    for (int c = 0; c < columns; c += V::kLanes) {
      through_activation<decltype(activation)::value>(V::load(grad + c), V::load(value + c)).store(grad + c);
    }
  });
}

// What a node's gradient is multiplied by on its way to every in-edge, and the fan-in by which a bias gradient makes up
// for it.
template <class C>
FREEWIRE_INLINE C gradient_scale(const PlanView& plan, int64_t node) {
  const C fan_in = C(plan.in_end[node] - plan.in_begin[node]);
  return static_cast<Aggregation>(plan.aggregation[node]) == Aggregation::kMean && fan_in > 0 ? C(1) / fan_in : C(1);
}
template <class C>
FREEWIRE_INLINE void add_bias(const PlanView& plan, int64_t node, C passed_on, bool first, C* sums) {
  const C fan_in = C(plan.in_end[node] - plan.in_begin[node]);
  const bool mean = static_cast<Aggregation>(plan.aggregation[node]) == Aggregation::kMean && fan_in > 0;
  const C sum = mean ? passed_on * fan_in : passed_on;
  sums[node] = first ? sum : sums[node] + sum;
}

// Memory of push(). Of the sums of weight gradients, position[e] is that of edge e; if it is null, e itself is.
template <class C>
struct PushScratch {
  C *grad, *products, *sums;
  const int64_t* position;
};

// Adds to the sources' rows the gradients of a node's in-edges, for an aggregation that is not linear.
template <class G, Aggregation A, class T>
void push(const PlanView& plan, const Compute<T>* weight, int64_t node, const T* tape, const Live<G>& live, bool first,
          const PushScratch<typename G::C>& scratch) {
  using V = typename G::V;
  using C = typename G::C;
  const int64_t begin = plan.in_begin[node], end = plan.in_end[node];
  const C* delta = scratch.grad + (plan.num_inputs + node) * G::kStride;
  const auto term = [&](int64_t e, int c) {
    return V(weight[e]) * V::load(tape + int64_t{plan.in_src[e]} * G::kStride + c);
  };
  // First sweep: the product of the terms before each edge, or the aggregate itself.
  V state[G::kVectors];
  for (int k = 0; k < G::kVectors; ++k) {
    const int c = k * G::kLanes;
    V running = A == Aggregation::kProduct ? V(C(1)) : term(begin, c);
    for (int64_t e = begin; e < end; ++e) {
      if constexpr (A == Aggregation::kProduct) running.store(scratch.products + (e - begin) * G::kColumns + c);
      running = combine<A>(running, term(e, c));
    }
    state[k] = running;
  }
  // Second sweep: the gradient of each edge. For a product it runs backwards, with the node's gradient times the terms
  // after the edge: in autograd's order, so that infinities and NaNs are autograd's too. Otherwise the first edge whose
  // term equals the aggregate, or is a NaN, takes the whole gradient of its column.
  typename V::Mask open[G::kVectors];
  for (int k = 0; k < G::kVectors; ++k) {
    if constexpr (A == Aggregation::kProduct) state[k] = V::load(delta + k * G::kLanes);
    open[k] = V(C(0)) == V(C(0));
  }
  const auto second_sweep = [&](auto cuts) {
    for (int64_t i = 0; i < end - begin; ++i) {
      const int64_t e = A == Aggregation::kProduct ? end - 1 - i : begin + i;
      const V w(weight[e]);
      const T* value = tape + int64_t{plan.in_src[e]} * G::kStride;
      C* grad = scratch.grad + int64_t{plan.in_src[e]} * G::kStride;
      V dot(C(0));
      for (int k = 0; k < G::kVectors; ++k) {
        const int c = k * G::kLanes;
        const V a = V::load(value + c), t = w * a;
        V share;
        if constexpr (A == Aggregation::kProduct) {
          share = state[k] * V::load(scratch.products + (e - begin) * G::kColumns + c);
          if constexpr (cuts) share = live.only(share, c);
          state[k] = state[k] * t;
        } else {
          const auto wins = open[k] & ((t == state[k]) | (t != t));
          open[k] = open[k] & ~wins;
          share = select(wins, V::load(delta + c), V(C(0)));
        }
        dot = dot + share * a;
        (V::load(grad + c) + w * share).store(grad + c);
      }
      if (scratch.sums) {
        C& sum = scratch.sums[scratch.position ? scratch.position[e] : e];
        sum = first ? horizontal_sum(dot) : sum + horizontal_sum(dot);
      }
    }
  };
  if constexpr (A == Aggregation::kProduct) {
    if (live.cuts()) return second_sweep(std::true_type{});
  }
  second_sweep(std::false_type{});
}

template <class G, class T>
void push(Aggregation code, const PlanView& plan, const Compute<T>* weight, int64_t node, const T* tape,
          const Live<G>& live, bool first, const PushScratch<typename G::C>& scratch) {
  with_nonlinear(code,
                 [&](auto which) { push<G, decltype(which)::value>(plan, weight, node, tape, live, first, scratch); });
}

// The gradient of a computed node's pre-activation from that of its value, in place: grad becomes the gradient that the
// node passes on to its sources before weights, which for a mean is 1 / fan_in of it. Returns the sum over the columns
// of what was passed on, before the horizontal sum.
template <class G, class T>
FREEWIRE_INLINE typename G::V differentiate_node(const PlanView& plan, int64_t node, const T* tape, const Live<G>& live,
                                                 typename G::C* grad) {
  using V = typename G::V;
  const auto activation = static_cast<Activation>(plan.activation[node]);
  const int64_t value = plan.kept_row[node] >= 0 ? plan.kept_row[node] : plan.num_inputs + node;
  if (live.cuts()) {
    for (int c = 0; c < G::kColumns; c += G::kLanes) live.only(V::load(grad + c), c).store(grad + c);
  }
  if (activation == Activation::kRelu) {  // the most common, without a dispatch
    const T* from = tape + value * G::kStride;
    for (int c = 0; c < G::kColumns; c += G::kLanes) {
      through_activation<Activation::kRelu>(V::load(grad + c), V::load(from + c)).store(grad + c);
    }
  } else if (activation != Activation::kLinear) {
    differentiate_row<V>(activation, tape + value * G::kStride, G::kColumns, grad);
  }
  const V scale(gradient_scale<typename G::C>(plan, node));
  V sum(typename G::C(0));
  for (int c = 0; c < G::kColumns; c += G::kLanes) {
    const V passed = V::load(grad + c) * scale;
    sum = sum + passed;
    passed.store(grad + c);
  }
  return sum;
}

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

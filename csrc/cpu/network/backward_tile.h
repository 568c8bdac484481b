// SPDX-License-Identifier: MIT
// Backward of the whole network for one tile of the batch: from the tile's tape and grad_y to its rows of grad_x and
// its part of the weight and bias gradients.
//
// One thread owns the tile, and slots run backwards. A source gathers from its readers: an edge loads one row of
// gradients (64 to 256 bytes), 4 bytes of destination slot and one weight. The row serves both the gradient of the
// source and, by its dot product with the source's value in registers, that of the weight. The dot products of a few
// edges are transposed and reduced together. A node whose aggregation is not linear has a different gradient for each
// in-edge, so it pushes them to its sources instead, before any of those is read. A thread writes only its own tile's
// rows and its group's sums, without atomics and in a fixed order: race-free and bitwise deterministic.
#pragma once

#include "cpu/network/kernels.h"
#include "cpu/network/tile.h"
#include "cpu/simd/vector_math.h"
#include "node_math.h"

namespace freewire::cpu {

// Which samples of a tile are in the batch. Past its end, values on the tape and gradients of outputs are 0, but an
// infinite weight would turn a gradient there into a NaN, and that into one of the weights before it.
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

// Turns a row of kColumns gradients of values into gradients of pre-activations; value is the row from which the
// derivative is computed.
template <class G, class T>
void differentiate_row(Activation code, const T* value, typename G::C* grad) {
  using V = typename G::V;
  with_activation(code, [&](auto activation) {
    for (int c = 0; c < G::kColumns; c += G::kLanes) {
      through_activation<decltype(activation)::value>(V::load(grad + c), V::load(value + c)).store(grad + c);
    }
  });
}

// Adds to the sources' rows the gradients of a node's in-edges, for an aggregation that is not linear.
template <class G, Aggregation A, class T>
void push(const PlanView& plan, const Compute<T>* weight, int64_t node, const T* tape, const Live<G>& live, bool first,
          const BackwardScratch<Compute<T>>& scratch) {
  using V = typename G::V;
  using C = typename G::C;
  const int64_t begin = plan.in_begin[node], end = plan.in_end[node];
  const C* delta = scratch.grad + (plan.num_inputs + node) * G::kColumns;
  const auto term = [&](int64_t e, int c) {
    return V(weight[e]) * V::load(tape + int64_t{plan.in_src[e]} * G::kColumns + c);
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
      const T* value = tape + int64_t{plan.in_src[e]} * G::kColumns;
      C* grad = scratch.grad + int64_t{plan.in_src[e]} * G::kColumns;
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
      if (scratch.out_sums) {
        C& sum = scratch.out_sums[plan.out_position[e]];
        sum = first ? horizontal_sum(dot) : sum + horizontal_sum(dot);
      }
    }
  };
  if (A == Aggregation::kProduct && live.cuts()) {
    second_sweep(std::true_type{});
  } else {
    second_sweep(std::false_type{});
  }
}

template <class G, class T>
void push(Aggregation code, const PlanView& plan, const Compute<T>* weight, int64_t node, const T* tape,
          const Live<G>& live, bool first, const BackwardScratch<Compute<T>>& scratch) {
  with_nonlinear(code,
                 [&](auto which) { push<G, decltype(which)::value>(plan, weight, node, tape, live, first, scratch); });
}

// One chunk of a slot's gather over its readers [begin, end). With kDots it also computes each edge's dot product with
// the slot's value.
template <class G, bool kDots, class T>
FREEWIRE_INLINE void gather(const int32_t* dst, const typename G::C* weight, int64_t begin, int64_t end,
                            const typename G::C* grad, const T* value, bool first, typename G::C* sums,
                            typename G::V (&total)[G::kChunk]) {
  using V = typename G::V;
  using C = typename G::C;
  constexpr int kGroup = kSumGroup<C>;
  V own[G::kChunk];
#pragma GCC unroll 8
  for (int k = 0; k < G::kChunk; ++k) own[k] = V::load(value + k * G::kLanes);
  const auto edge = [&](int64_t e) __attribute__((always_inline)) {
    const C* row = grad + int64_t{dst[e]} * G::kColumns;
    const V w(weight[e]);
    V dot(C(0));
#pragma GCC unroll 8
    for (int k = 0; k < G::kChunk; ++k) {
      const V g = V::load(row + k * G::kLanes);
      total[k] = total[k] + w * g;
      if constexpr (kDots) dot = k == 0 ? g * own[k] : dot + g * own[k];
    }
    return dot;
  };
  int64_t e = begin;
  if constexpr (kDots) {
    for (; e + kGroup <= end; e += kGroup) {
      V parts[kGroup];
#pragma GCC unroll 4
      for (int i = 0; i < kGroup; ++i) parts[i] = edge(e + i);
      const V dots = block_sums(parts);
      C lanes[G::kLanes];
      dots.store(lanes);
#pragma GCC unroll 4
      for (int i = 0; i < kGroup; ++i) sums[e + i] = first ? lanes[i] : sums[e + i] + lanes[i];
    }
  }
  for (; e < end; ++e) {
    const V dot = edge(e);
    if constexpr (kDots) sums[e] = first ? horizontal_sum(dot) : sums[e] + horizontal_sum(dot);
  }
}

template <class T, int kVectorBytes, int kRowBytes>
void backward_tile(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t tile, bool first, const T* tape,
                   const BackwardScratch<Compute<T>>& scratch) {
  using G = Tile<T, kVectorBytes, kRowBytes>;
  using V = typename G::V;
  using C = typename G::C;
  const int64_t begin = tile * G::kColumns;
  const Live<G> live(arrays.batch - begin);
  const V zero(C(0));

  for (int64_t i = 0; i < plan.num_presets; ++i) {
    C* row = scratch.grad + int64_t{plan.preset_slot[i]} * G::kColumns;
    for (int c = 0; c < G::kColumns; c += G::kLanes) zero.store(row + c);
  }
  for (int64_t i = 0; i < plan.num_outputs; ++i) {
    C* row = scratch.grad + int64_t{plan.output_slot[i]} * G::kColumns;
    for (int c = 0; c < G::kColumns && begin + c < arrays.batch; ++c) {
      row[c] = widened(arrays.grad_y[(begin + c) * plan.num_outputs + i]);
    }
  }

  int64_t preset = plan.num_presets - 1;
  for (int64_t slot = plan.num_slots - 1; slot >= 0; --slot) {
    const int64_t node = slot - plan.num_inputs;
    const bool starts_from_row = preset >= 0 && plan.preset_slot[preset] == slot;
    if (starts_from_row) --preset;
    const T* value = tape + slot * G::kColumns;
    C* row = scratch.grad + slot * G::kColumns;
    const auto activation = node < 0 ? Activation::kLinear : static_cast<Activation>(plan.activation[node]);
    const bool in_registers = activation == Activation::kLinear || activation == Activation::kRelu;
    const auto aggregation = node < 0 ? Aggregation::kSum : static_cast<Aggregation>(plan.aggregation[node]);
    const C fan_in = node < 0 ? C(1) : C(plan.in_end[node] - plan.in_begin[node]);
    const V scale(aggregation == Aggregation::kMean && fan_in > 0 ? C(1) / fan_in : C(1));
    V bias_sum = zero;

    for (int chunk = 0; chunk < G::kColumns; chunk += G::kChunk * G::kLanes) {
      V grad[G::kChunk];
#pragma GCC unroll 8
      for (int k = 0; k < G::kChunk; ++k) grad[k] = starts_from_row ? V::load(row + chunk + k * G::kLanes) : zero;
      const int64_t readers = plan.out_ptr[slot], split = plan.out_split[slot];
      if (scratch.out_sums) {
        gather<G, true>(plan.out_dst, arrays.out_weight, readers, split, scratch.grad + chunk, value + chunk,
                        first && chunk == 0, scratch.out_sums, grad);
      } else {
        gather<G, false>(plan.out_dst, arrays.out_weight, readers, split, scratch.grad + chunk, value + chunk, false,
                         static_cast<C*>(nullptr), grad);
      }
      if (live.cuts()) {
#pragma GCC unroll 8
        for (int k = 0; k < G::kChunk; ++k) grad[k] = live.only(grad[k], chunk + k * G::kLanes);
      }
      if (in_registers) {
#pragma GCC unroll 8
        for (int k = 0; k < G::kChunk; ++k) {
          if (activation == Activation::kRelu) {
            grad[k] = through_activation<Activation::kRelu>(grad[k], V::load(value + chunk + k * G::kLanes));
          }
          bias_sum = bias_sum + grad[k];
          grad[k] = grad[k] * scale;
        }
      }
#pragma GCC unroll 8
      for (int k = 0; k < G::kChunk; ++k) grad[k].store(row + chunk + k * G::kLanes);
    }
    if (node < 0) continue;
    if (!in_registers) {
      const int64_t derivative_row = plan.kept_row[node] >= 0 ? plan.kept_row[node] : slot;
      differentiate_row<G>(activation, tape + derivative_row * G::kColumns, row);
      for (int c = 0; c < G::kColumns; c += G::kLanes) {
        const V grad = V::load(row + c);
        bias_sum = bias_sum + grad;
        (grad * scale).store(row + c);
      }
    }
    if (scratch.bias_sums) {
      C& sum = scratch.bias_sums[node];
      sum = first ? horizontal_sum(bias_sum) : sum + horizontal_sum(bias_sum);
    }
    if (!is_linear(aggregation) && fan_in > 0) {
      push<G>(aggregation, plan, arrays.weight, node, tape, live, first, scratch);
    }
  }
  if (arrays.grad_x) {
    const auto input = [&](int64_t i) { return scratch.grad + i * G::kColumns; };
    G::write(input, plan.num_inputs, begin, arrays.batch, arrays.grad_x);
  }
}

}  // namespace freewire::cpu

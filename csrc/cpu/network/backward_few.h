// SPDX-License-Identifier: MIT
// Backward of the whole network for a batch of so few samples that one short row holds it.
//
// Weights are then most of what is read, so each node pushes its gradient to its sources: weights, their gradients and
// the lists of sources are read and written in canonical order, once. An edge reads two rows and writes one.
#pragma once

#include <algorithm>

#include "cpu/network/backward_nodes.h"
#include "cpu/simd/gather.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

// Pushes delta, the gradient that a linear node passes on, along its in-edges [begin, end).
template <class G, bool kDots, class T>
FREEWIRE_INLINE void push_linear(const int32_t* src, const typename G::C* weight, int64_t begin, int64_t end,
                                 const typename G::C* delta, const T* tape, typename G::C* grad, bool first,
                                 typename G::C* sums) {
  using V = typename G::V;
  using C = typename G::C;
  constexpr int kGroup = kSumGroup<C>;
  V own[G::kVectors];
#pragma GCC unroll 4
  for (int k = 0; k < G::kVectors; ++k) own[k] = V::load(delta + k * G::kLanes);
  const auto edge = [&](int64_t e) __attribute__((always_inline)) {
    const int64_t at = int64_t{src[e]} * G::kStride;
    const V w(weight[e]);
    V dot(C(0));
#pragma GCC unroll 4
    for (int k = 0; k < G::kVectors; ++k) {
      C* row = grad + at + k * G::kLanes;
      (V::load(row) + w * own[k]).store(row);
      if constexpr (kDots) {
        const V value = V::load(tape + at + k * G::kLanes);
        dot = k == 0 ? own[k] * value : dot + own[k] * value;
      }
    }
    return dot;
  };
  int64_t e = begin;
  if constexpr (kDots && G::kColumns > 1) {
    for (; e + kGroup <= end; e += kGroup) {
      V parts[kGroup];
#pragma GCC unroll 4
      for (int i = 0; i < kGroup; ++i) parts[i] = edge(e + i);
      const auto dots = first_lanes<kGroup>(block_sums(parts));
      (first ? dots : Vec<C, kGroup>::load(sums + e) + dots).store(sums + e);
    }
  }
  for (; e < end; ++e) {
    const V dot = edge(e);
    if constexpr (kDots) sums[e] = first ? horizontal_sum(dot) : sums[e] + horizontal_sum(dot);
  }
}

// The same along edges from adjacent slots, where a row is one number.
template <class C, class T>
void push_adjacent(const C* weight, int64_t count, C delta, const T* tape, C* grad, bool first, C* sums) {
  using V = Wide<C>;
  int64_t i = 0;
  for (; i + V::kLanes <= count; i += V::kLanes) {
    (V::load(grad + i) + V::load(weight + i) * V(delta)).store(grad + i);
    if (!sums) continue;
    const V dots = V(delta) * V::load(tape + i);
    (first ? dots : V::load(sums + i) + dots).store(sums + i);
  }
  for (; i < count; ++i) {
    grad[i] += weight[i] * delta;
    if (sums) sums[i] = first ? delta * widened(tape[i]) : sums[i] + delta * widened(tape[i]);
  }
}

template <class G, class T>
void start_few(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t part,
               const FewScratch<typename G::C>& scratch) {
  using C = typename G::C;
  const int64_t size = plan.num_slots * G::kStride;
  C* grad = scratch.grad + part * size;
  std::fill_n(grad, size, C(0));
  for (int64_t i = 0; part == 0 && i < plan.num_outputs; ++i) {
    for (int64_t c = 0; c < arrays.batch; ++c) {
      grad[int64_t{plan.output_slot[i]} * G::kStride + c] = widened(arrays.grad_y[c * plan.num_outputs + i]);
    }
  }
}

// The sum of a slot's rows in all parts, to the row of one part.
template <class G, class C>
FREEWIRE_INLINE void add_parts(const PlanView& plan, int64_t slot, const FewScratch<C>& scratch, C* to) {
  using V = typename G::V;
  const int64_t size = plan.num_slots * G::kStride;
  for (int c = 0; c < G::kColumns; c += G::kLanes) {
    const C* from = scratch.grad + slot * G::kStride + c;
    V sum = V::load(from);
    for (int64_t part = 1; part < scratch.parts; ++part) sum = sum + V::load(from + part * size);
    sum.store(to + c);
  }
}

template <class G, class T>
void run_few(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t part, int64_t first, int64_t last,
             const T* tape, const FewScratch<typename G::C>& scratch) {
  using C = typename G::C;
  const Live<G> live(arrays.batch);
  C* grad = scratch.grad + part * plan.num_slots * G::kStride;
  // Without dense blocks and parts, the order of slots does, which is that of memory.
  const bool in_order = scratch.parts > 1 || plan.num_blocks > 0;
  int64_t block = -1;
  bool adjacent = false;  // whether the sources of that block are
  for (int64_t at = last - 1; at >= first; --at) {
    const int64_t node = in_order ? plan.run_node[at] : at;
    C* row = grad + (plan.num_inputs + node) * G::kStride;
    if (scratch.parts > 1) add_parts<G, C>(plan, plan.num_inputs + node, scratch, row);
    const auto sum = differentiate_node<G, T>(plan, node, tape, live, row);
    if (scratch.bias_sums) add_bias<C>(plan, node, horizontal_sum(sum), scratch.first, scratch.bias_sums);
    const auto aggregation = static_cast<Aggregation>(plan.aggregation[node]);
    int64_t begin = plan.in_begin[node];
    const int64_t end = plan.in_end[node], split = plan.in_split[node];
    if constexpr (G::kColumns == 1) {
      if (begin < split && in_order) {
        const int64_t mine = block_from(plan, at);
        if (mine != block) adjacent = plan.block_panel[mine] < 0 && are_adjacent(plan.in_src + begin, split - begin);
        block = mine;
        if (adjacent) {
          const int64_t source = plan.in_src[begin];
          push_adjacent<C, T>(arrays.weight + begin, split - begin, row[0], tape + source, grad + source, scratch.first,
                              scratch.weight_sums ? scratch.weight_sums + begin : nullptr);
          begin = split;
        }
      }
    }
    if (!is_linear(aggregation)) {
      if (begin < end) {
        push<G>(aggregation, plan, arrays.weight, node, tape, live, scratch.first,
                {grad, scratch.products, scratch.weight_sums, nullptr});
      }
    } else if (scratch.weight_sums) {
      push_linear<G, true, T>(plan.in_src, arrays.weight, begin, end, row, tape, grad, scratch.first,
                              scratch.weight_sums);
    } else {
      push_linear<G, false, T>(plan.in_src, arrays.weight, begin, end, row, tape, grad, false, nullptr);
    }
  }
}

template <class G, class T>
void finish_few(const PlanView& plan, const BackwardArrays<T>& arrays, const FewScratch<typename G::C>& scratch) {
  if (!arrays.grad_x) return;
  for (int64_t i = 0; scratch.parts > 1 && i < plan.num_inputs; ++i) {
    add_parts<G>(plan, i, scratch, scratch.grad + i * G::kStride);
  }
  const auto input = [&](int64_t i) { return scratch.grad + i * G::kStride; };
  G::write(input, plan.num_inputs, 0, arrays.batch, arrays.grad_x);
}

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

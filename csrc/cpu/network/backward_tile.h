// SPDX-License-Identifier: MIT
// Backward of the whole network for one tile of the batch: from the tile's tape and grad_y to its rows of grad_x and
// its part of the weight and bias gradients.
//
// One thread owns the tile, and slots run backwards. A source gathers from its readers: an edge loads one row of
// gradients (64 to 256 bytes), 4 bytes of destination slot and one weight. The row serves both the gradient of the
// source and, by its dot product with the source's value in registers, that of the weight. The dot products of a few
// edges are transposed and reduced together. A node whose aggregation is not linear has a different gradient for each
// in-edge, so it pushes them to its sources instead, before any of those is read; so does a dense block, whose weight
// gradients follow later (block_gradient.h). A thread writes only its own tile's rows and its group's sums, without
// atomics and in a fixed order: race-free and bitwise deterministic.
//
// A slice of a tile gives no sums of its own, since these would be rounded in another way than the tile's: sum_slots()
// computes them from the finished rows of the whole tile.
#pragma once

#include "cpu/network/backward_block.h"
#include "cpu/network/backward_nodes.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

// One chunk of a slot's gather over its readers [begin, end): with kTotal the sum of their gradients times weights,
// with kDots the dot product of each reader's gradient with the slot's value.
template <class G, bool kTotal, bool kDots, class T>
FREEWIRE_INLINE void gather(const int32_t* dst, const typename G::C* weight, int64_t begin, int64_t end,
                            const typename G::C* grad, const T* value, bool first, typename G::C* sums,
                            typename G::V (&total)[G::kDotChunk]) {
  using V = typename G::V;
  using C = typename G::C;
  constexpr int kGroup = kSumGroup<C>;
  V own[G::kDotChunk];
#pragma GCC unroll 8
  for (int k = 0; k < G::kDotChunk; ++k) own[k] = V::load(value + k * G::kLanes);
  const auto edge = [&](int64_t e) __attribute__((always_inline)) {
    const C* row = grad + int64_t{dst[e]} * G::kStride;
    const V w(kTotal ? weight[e] : C(0));
    V dot(C(0));
#pragma GCC unroll 8
    for (int k = 0; k < G::kDotChunk; ++k) {
      const V g = kTotal && kDots ? in_register(V::load(row + k * G::kLanes)) : V::load(row + k * G::kLanes);
      if constexpr (kTotal) total[k] = total[k] + w * g;
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
      const auto dots = first_lanes<kGroup>(block_sums(parts));
      (first ? dots : Vec<C, kGroup>::load(sums + e) + dots).store(sums + e);
    }
  }
  for (; e < end; ++e) {
    const V dot = edge(e);
    if constexpr (kDots) sums[e] = first ? horizontal_sum(dot) : sums[e] + horizontal_sum(dot);
  }
}

// Gradients of outputs into their rows, and 0 into those of the other presets.
template <class G, class T>
void start_gradients(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t begin, typename G::C* grad) {
  using V = typename G::V;
  const V zero(typename G::C(0));
  for (int64_t i = 0; i < plan.num_presets; ++i) {
    for (int c = 0; c < G::kColumns; c += G::kLanes) zero.store(grad + int64_t{plan.preset_slot[i]} * G::kStride + c);
  }
  const auto output = [&](int64_t i) { return grad + int64_t{plan.output_slot[i]} * G::kStride; };
  G::read(arrays.grad_y, plan.num_outputs, begin, arrays.batch, output);
}

// One slot: its gradient, and that of its out-edges' weights. preset: its row holds a part of the gradient.
template <class G, class T>
FREEWIRE_INLINE void backward_slot(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t slot, bool preset,
                                   bool first, const T* tape, const Live<G>& live,
                                   const BackwardScratch<typename G::C>& scratch) {
  using V = typename G::V;
  using C = typename G::C;
  const V zero(C(0));
  const int64_t node = slot - plan.num_inputs;
  const T* value = tape + slot * G::kStride;
  C* row = scratch.grad + slot * G::kStride;
  const auto activation = node < 0 ? Activation::kLinear : static_cast<Activation>(plan.activation[node]);
  const bool in_registers = activation == Activation::kLinear || activation == Activation::kRelu;
  const C scale = node < 0 ? C(1) : gradient_scale<C>(plan, node);
  V bias_sum = zero;

  for (int chunk = 0; chunk < G::kColumns; chunk += G::kDotChunk * G::kLanes) {
    V grad[G::kDotChunk];
#pragma GCC unroll 8
    for (int k = 0; k < G::kDotChunk; ++k) grad[k] = preset ? V::load(row + chunk + k * G::kLanes) : zero;
    const int64_t readers = plan.out_ptr[slot], end = plan.out_sparse[slot];
    if (scratch.out_sums) {
      gather<G, true, true>(plan.out_dst, arrays.out_weight, readers, end, scratch.grad + chunk, value + chunk,
                            first && chunk == 0, scratch.out_sums, grad);
    } else {
      gather<G, true, false>(plan.out_dst, arrays.out_weight, readers, end, scratch.grad + chunk, value + chunk, false,
                             static_cast<C*>(nullptr), grad);
    }
    if (in_registers) {
      if (live.cuts()) {
#pragma GCC unroll 8
        for (int k = 0; k < G::kDotChunk; ++k) grad[k] = live.only(grad[k], chunk + k * G::kLanes);
      }
#pragma GCC unroll 8
      for (int k = 0; k < G::kDotChunk; ++k) {
        if (activation == Activation::kRelu) {
          grad[k] = through_activation<Activation::kRelu>(grad[k], V::load(value + chunk + k * G::kLanes));
        }
        grad[k] = grad[k] * V(scale);
        bias_sum = bias_sum + grad[k];
      }
    }
#pragma GCC unroll 8
    for (int k = 0; k < G::kDotChunk; ++k) grad[k].store(row + chunk + k * G::kLanes);
  }
  if (node < 0) return;
  if (!in_registers) bias_sum = differentiate_node<G, T>(plan, node, tape, live, row);
  if (scratch.bias_sums) add_bias<C>(plan, node, horizontal_sum(bias_sum), first, scratch.bias_sums);
  const auto aggregation = static_cast<Aggregation>(plan.aggregation[node]);
  if (!is_linear(aggregation) && plan.in_end[node] > plan.in_begin[node]) {
    push<G>(aggregation, plan, arrays.weight, node, tape, live, first,
            {scratch.grad, scratch.products, scratch.out_sums, plan.out_position});
  }
}

// Rows of gradients that a slot will read soon, into the second cache.
template <class G>
FREEWIRE_INLINE void prefetch_readers(const PlanView& plan, int64_t slot, const typename G::C* grad) {
  for (int64_t e = plan.out_ptr[slot]; e < plan.out_sparse[slot]; ++e) {
    const auto* row = reinterpret_cast<const char*>(grad + int64_t{plan.out_dst[e]} * G::kStride);
#pragma GCC unroll 4
    for (size_t at = 0; at < G::kColumns * sizeof(typename G::C); at += 64) __builtin_prefetch(row + at, 0, 2);
  }
}

template <class G, class T>
void backward_tile(const PlanView& plan, const BackwardArrays<T>& arrays, int64_t begin, bool first, bool prefetch,
                   const T* tape, const BackwardScratch<Compute<T>>& scratch) {
  const Live<G> live(arrays.batch - begin);
  start_gradients<G, T>(plan, arrays, begin, scratch.grad);
  if (plan.num_blocks == 0) {
    int64_t preset = plan.num_presets - 1, ahead = plan.num_slots - 1;
    for (int64_t slot = plan.num_slots - 1; slot >= 0; --slot) {
      while (prefetch && ahead >= 0 && plan.out_ptr[slot + 1] - plan.out_ptr[ahead + 1] < kEdgesAhead) {
        prefetch_readers<G>(plan, ahead--, scratch.grad);
      }
      const bool starts_from_row = preset >= 0 && plan.preset_slot[preset] == slot;
      if (starts_from_row) --preset;
      backward_slot<G, T>(plan, arrays, slot, starts_from_row, first, tape, live, scratch);
    }
  } else {
    const auto slot_at = [&](int64_t slot) {
      const bool preset = std::binary_search(plan.preset_slot, plan.preset_slot + plan.num_presets, slot);
      backward_slot<G, T>(plan, arrays, slot, preset, first, tape, live, scratch);
    };
    int64_t block = plan.num_blocks - 1;
    for (int64_t at = plan.num_computed() - 1; at >= 0; --at) {
      slot_at(plan.num_inputs + plan.run_node[at]);
      if (block >= 0 && plan.block_begin[block] == at) push_block<G, T>(plan, arrays, block--, scratch.grad);
    }
    for (int64_t slot = plan.num_inputs - 1; slot >= 0; --slot) slot_at(slot);
  }
  if (arrays.grad_x) {
    const auto input = [&](int64_t i) { return scratch.grad + i * G::kStride; };
    G::write(input, plan.num_inputs, begin, arrays.batch, arrays.grad_x);
  }
}

// The sums that backward_tile() computes beside the gradients, of the slots [begin, end); all nodes are linear.
template <class G, class T>
void sum_slots(const PlanView& plan, int64_t begin, int64_t end, bool first, const T* tape,
               const BackwardScratch<Compute<T>>& scratch) {
  using V = typename G::V;
  using C = typename G::C;
  for (int64_t slot = begin; slot < end; ++slot) {
    for (int chunk = 0; scratch.out_sums && chunk < G::kColumns; chunk += G::kDotChunk * G::kLanes) {
      V none[G::kDotChunk];
      gather<G, false, true>(plan.out_dst, static_cast<const C*>(nullptr), plan.out_ptr[slot], plan.out_sparse[slot],
                             scratch.grad + chunk, tape + slot * G::kStride + chunk, first && chunk == 0,
                             scratch.out_sums, none);
    }
    const int64_t node = slot - plan.num_inputs;
    if (node < 0 || !scratch.bias_sums) continue;
    V sum(C(0));
    for (int c = 0; c < G::kColumns; c += G::kLanes) sum = sum + V::load(scratch.grad + slot * G::kStride + c);
    add_bias<C>(plan, node, horizontal_sum(sum), first, scratch.bias_sums);
  }
}

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

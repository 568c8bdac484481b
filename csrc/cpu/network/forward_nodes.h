// SPDX-License-Identifier: MIT
// Forward of one tile of the batch, node by node: from x and the parameters to the tile's rows of y and its tape.
//
// A node's sum stays in registers while its in-edges are read, so an edge loads one row (16 to 256 bytes, from the
// cache that holds the tape), 4 bytes of source slot and one weight. forward_block.h has the nodes of dense blocks.
// Every sum has one fixed order, which the width of a row of 64 bytes or more does not change. In shorter rows an edge
// is one register, and the sums of kPartial edges run side by side, since each would wait for the one before it.
#pragma once

#include <cstring>

#include "cpu/network/kernels.h"
#include "cpu/network/tile.h"
#include "cpu/simd/gather.h"
#include "cpu/simd/vector_math.h"
#include "node_math.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

// to = act(from) for a row. One copy serves rows of all lengths, and it is not unrolled, since the functions are long.
template <class V, class T>
void activate_row(Activation code, const typename V::Scalar* from, int columns, T* to) {
  with_activation(code, [&](auto activation) {
    for (int c = 0; c < columns; c += V::kLanes) activate<decltype(activation)::value>(V::load(from + c)).store(to + c);
  });
}

// One chunk of a node's aggregate. G is the tile's geometry; tape points at the chunk's first column.
template <class G, Aggregation A, class T>
FREEWIRE_INLINE void aggregate(const int32_t* src, const Compute<T>* weight, int64_t begin, int64_t end, const T* tape,
                               typename G::V (&total)[G::kChunk]) {
  using V = typename G::V;
  int64_t e = begin;
  if constexpr (!is_linear(A)) {
    const V w(weight[e]);  // the caller has checked that there is an edge
    const T* row = tape + int64_t{src[e]} * G::kStride;
#pragma GCC unroll 8
    for (int k = 0; k < G::kChunk; ++k) total[k] = w * V::load(row + k * G::kLanes);
    ++e;
  }
  constexpr int kPartial = 4;
  if constexpr (is_linear(A) && G::kColumns == 1) {
    total[0] = total[0] + V(indexed_dot<false>(src + begin, weight + begin, end - begin, tape));
    return;
  }
  if constexpr (is_linear(A) && G::kColumns * sizeof(Compute<T>) < 64) {
    V parts[kPartial][G::kChunk] = {};
    for (; e + kPartial <= end; e += kPartial) {
#pragma GCC unroll 4
      for (int i = 0; i < kPartial; ++i) {
        const V w(weight[e + i]);
        const T* row = tape + int64_t{src[e + i]} * G::kStride;
#pragma GCC unroll 2
        for (int k = 0; k < G::kChunk; ++k) parts[i][k] = parts[i][k] + w * V::load(row + k * G::kLanes);
      }
    }
#pragma GCC unroll 2
    for (int k = 0; k < G::kChunk; ++k)
      total[k] = total[k] + ((parts[0][k] + parts[1][k]) + (parts[2][k] + parts[3][k]));
  }
#pragma GCC unroll 2
  for (; e < end; ++e) {
    const V w(weight[e]);
    const T* row = tape + int64_t{src[e]} * G::kStride;
#pragma GCC unroll 8
    for (int k = 0; k < G::kChunk; ++k) {
      const V term = w * V::load(row + k * G::kLanes);
      if constexpr (is_linear(A)) {
        total[k] = total[k] + term;
      } else {
        total[k] = combine<A>(total[k], term);
      }
    }
  }
}

template <class G, class T>
FREEWIRE_INLINE void aggregate(Aggregation code, const int32_t* src, const Compute<T>* weight, int64_t begin,
                               int64_t end, const T* tape, typename G::V (&total)[G::kChunk]) {
  if (is_linear(code)) return aggregate<G, Aggregation::kSum>(src, weight, begin, end, tape, total);
  with_nonlinear(code, [&](auto which) { aggregate<G, decltype(which)::value>(src, weight, begin, end, tape, total); });
}

// What the nodes of a tile share.
template <class G, class T>
struct ForwardTile {
  using C = typename G::C;
  ForwardTile(const PlanView& plan, const ForwardArrays<T>& arrays, bool keep, T* tape)
      : plan(plan),
        arrays(arrays),
        keep(keep),
        moved(!keep && plan.reuses_rows()),
        src(moved ? plan.row_src : plan.in_src),
        tape(tape) {}

  T* row(int64_t slot) const { return tape + (moved ? plan.inference_row[slot] : slot) * int64_t{G::kStride}; }

  const PlanView& plan;
  const ForwardArrays<T>& arrays;
  const bool keep, moved;  // moved: rows are reused; inputs keep their own
  const int32_t* const src;
  T* const tape;
};

// A node's value. If partial is null, from all its in-edges; otherwise from a row with the sum over those in its dense
// block, and the others. kLinear: the node's aggregation is, as in every block.
template <class G, bool kLinear, class T>
FREEWIRE_INLINE void forward_node_inline(const ForwardTile<G, T>& tile, int64_t node, const typename G::C* partial) {
  using V = typename G::V;
  using C = typename G::C;
  const PlanView& plan = tile.plan;
  const int64_t last = plan.in_end[node], fan_in = last - plan.in_begin[node];
  const int64_t first = partial ? plan.in_split[node] : plan.in_begin[node];
  const auto activation = static_cast<Activation>(plan.activation[node]);
  const bool in_registers = activation == Activation::kRelu || activation == Activation::kLinear;
  const auto aggregation = static_cast<Aggregation>(plan.aggregation[node]);
  const bool summed = aggregation == Aggregation::kSum;
  const V bias(tile.arrays.bias ? tile.arrays.bias[plan.bias_index[node]] : C(0));
  const V scale(aggregation == Aggregation::kMean && fan_in > 0 ? C(1) / C(fan_in) : C(1));
  T* row = tile.row(plan.num_inputs + node);
  T* kept = tile.keep && plan.kept_row[node] >= 0 ? tile.tape + plan.kept_row[node] * int64_t{G::kStride} : nullptr;
  // Where the pre-activation is written before the activation reads it: in the row where it is kept, else in the
  // value's own row. Rows of 16 bits would round it, so then it is written outside the tape.
  alignas(64) C aside[kNarrow<T> ? G::kColumns : 1];
  C* before;
  if constexpr (kNarrow<T>) {
    before = aside;
  } else {
    before = kept ? kept : row;
  }

  for (int chunk = 0; chunk < G::kColumns; chunk += G::kChunk * G::kLanes) {
    V z[G::kChunk];
#pragma GCC unroll 8
    for (int k = 0; k < G::kChunk; ++k) {
      z[k] = partial ? V::load(partial + chunk + k * G::kLanes) : summed ? bias : V(C(0));
    }
    if constexpr (kLinear) {
      aggregate<G, Aggregation::kSum>(tile.src, tile.arrays.weight, first, last, tile.tape + chunk, z);
    } else if (summed || first < last) {
      aggregate<G>(aggregation, tile.src, tile.arrays.weight, first, last, tile.tape + chunk, z);
    }
    if (!summed) {
#pragma GCC unroll 8
      for (int k = 0; k < G::kChunk; ++k) z[k] = z[k] * scale + bias;
    }
    if (activation == Activation::kRelu) {
#pragma GCC unroll 8
      for (int k = 0; k < G::kChunk; ++k) z[k] = activate<Activation::kRelu>(z[k]);
    }
    if (in_registers) {
#pragma GCC unroll 8
      for (int k = 0; k < G::kChunk; ++k) z[k].store(row + chunk + k * G::kLanes);
      continue;
    }
#pragma GCC unroll 8
    for (int k = 0; k < G::kChunk; ++k) z[k].store(before + chunk + k * G::kLanes);
    if (kNarrow<T> && kept) {
#pragma GCC unroll 8
      for (int k = 0; k < G::kChunk; ++k) z[k].store(kept + chunk + k * G::kLanes);
    }
  }
  if (!in_registers) activate_row<V>(activation, before, G::kColumns, row);
}

template <class G, class T>
void forward_block_node(const ForwardTile<G, T>& tile, int64_t node, const typename G::C* partial) {
  forward_node_inline<G, true, T>(tile, node, partial);
}

// Rows that a node will read soon, into the second cache: a tape past it is read at random.
template <class G, class T>
FREEWIRE_INLINE void prefetch_sources(const ForwardTile<G, T>& tile, int64_t node) {
  for (int64_t e = tile.plan.in_begin[node]; e < tile.plan.in_end[node]; ++e) {
    const auto* row = reinterpret_cast<const char*>(tile.tape + int64_t{tile.src[e]} * G::kStride);
#pragma GCC unroll 4
    for (size_t at = 0; at < G::kColumns * sizeof(T); at += 64) __builtin_prefetch(row + at, 0, 2);
  }
}

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

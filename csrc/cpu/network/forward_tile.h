// SPDX-License-Identifier: MIT
// Forward of the whole network for one tile of the batch: from x and the parameters to the tile's rows of y and its
// tape.
//
// One thread owns the tile. Nodes run in slot order, and a node's sum stays in registers while its in-edges are read,
// so an edge loads one row (32 to 256 bytes, from the cache that holds the tape), 4 bytes of source slot and one
// weight. Tiles share nothing that is written, so there are no races, and every sum has one fixed order: bitwise
// deterministic.
#pragma once

#include <cstring>

#include "cpu/network/kernels.h"
#include "cpu/network/tile.h"
#include "cpu/simd/vector_math.h"
#include "node_math.h"

namespace freewire::cpu {

// to = act(from) for a row of kColumns. Not unrolled, since the functions are long.
template <class G, class T>
void activate_row(Activation code, const typename G::C* from, T* to) {
  using V = typename G::V;
  with_activation(code, [&](auto activation) {
    for (int c = 0; c < G::kColumns; c += G::kLanes)
      activate<decltype(activation)::value>(V::load(from + c)).store(to + c);
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
    const T* row = tape + int64_t{src[e]} * G::kColumns;
#pragma GCC unroll 8
    for (int k = 0; k < G::kChunk; ++k) total[k] = w * V::load(row + k * G::kLanes);
    ++e;
  }
  for (; e < end; ++e) {
    const V w(weight[e]);
    const T* row = tape + int64_t{src[e]} * G::kColumns;
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

template <class T, int kVectorBytes, int kRowBytes>
void forward_tile(const PlanView& plan, const ForwardArrays<T>& arrays, int64_t tile, bool keep, T* tape) {
  using G = Tile<T, kVectorBytes, kRowBytes>;
  using V = typename G::V;
  using C = typename G::C;
  const int64_t begin = tile * G::kColumns;
  G::read(arrays.x, plan.num_inputs, begin, arrays.batch, tape);

  const bool moved = !keep && plan.reuses_rows();  // then rows are reused; inputs keep their own
  const int32_t* src = moved ? plan.row_src : plan.in_src;
  const auto row_of = [&](int64_t slot) {
    return tape + (moved ? plan.inference_row[slot] : slot) * int64_t{G::kColumns};
  };
  for (int64_t node = 0; node < plan.num_computed(); ++node) {
    const int64_t first = plan.in_begin[node], last = plan.in_end[node];
    const auto activation = static_cast<Activation>(plan.activation[node]);
    const bool in_registers = activation == Activation::kRelu || activation == Activation::kLinear;
    const auto aggregation = static_cast<Aggregation>(plan.aggregation[node]);
    const bool summed = aggregation == Aggregation::kSum;
    const V bias(arrays.bias ? arrays.bias[plan.bias_index[node]] : C(0));
    const V scale(aggregation == Aggregation::kMean && last > first ? C(1) / C(last - first) : C(1));
    T* row = row_of(plan.num_inputs + node);
    T* kept = keep && plan.kept_row[node] >= 0 ? tape + plan.kept_row[node] * int64_t{G::kColumns} : nullptr;
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
      for (int k = 0; k < G::kChunk; ++k) z[k] = summed ? bias : V(C(0));
      if (summed || first < last) {
        aggregate<G>(aggregation, src, arrays.weight, first, last, tape + chunk, z);
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
    if (!in_registers) activate_row<G>(activation, before, row);
  }
  const auto output = [&](int64_t i) { return row_of(plan.output_slot[i]); };
  G::write(output, plan.num_outputs, begin, arrays.batch, arrays.y);
  // Samples past the end must add nothing to weight gradients. Their gradients are 0, and their values must be 0 too,
  // since they repeat the last sample, which may be infinite.
  for (int64_t row = 0; keep && begin + G::kColumns > arrays.batch && row < plan.tape_rows; ++row) {
    std::memset(tape + row * G::kColumns + arrays.batch - begin, 0, (begin + G::kColumns - arrays.batch) * sizeof(T));
  }
}

}  // namespace freewire::cpu

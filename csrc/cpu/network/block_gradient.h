// SPDX-License-Identifier: MIT
// Weight gradients of a dense block: a product of matrices, the nodes' gradients [nodes, samples] times the sources'
// values [samples, sources], over all tiles of a round.
//
// The values are node-major on the tape, so a strip of kStripColumns sources is transposed first, into a panel
// [samples, kStripColumns]. A sum over samples then is a lane, without any horizontal sum. Each gradient is one sum
// over samples in order, whichever nodes a thread has.
#pragma once

#include <algorithm>

#include "cpu/network/kernels.h"
#include "cpu/network/tile.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

template <class T, int kVectorBytes>
struct BlockGradients {
  using C = Compute<T>;
  static constexpr int kLanes = kVectorBytes / sizeof(C);
  static constexpr int kVectors = kBlockRegisters<kVectorBytes>;
  static constexpr int64_t kWidth = kStripColumns;
  static_assert(kWidth % (kLanes * kVectors) == 0, "a strip is a whole number of passes");
  using V = Vec<C, kLanes>;

  // The nodes at positions [begin, end).
  static void run(const PlanView& plan, int64_t block, int64_t begin, int64_t end, const BlockGradient<T>& call) {
    const int32_t* slots = plan.block_src + plan.block_src_ptr[block];
    const int64_t sources = plan.block_src_ptr[block + 1] - plan.block_src_ptr[block];
    for (int64_t strip = 0; strip < sources; strip += kWidth) {
      const int64_t width = std::min(kWidth, sources - strip);
      transpose_strip(plan, slots + strip, width, call);
      in_block_runs(begin, end, [&](auto count, int64_t at) {
        constexpr int kNodes = decltype(count)::value;
        alignas(64) C sums[kNodes][kWidth];
        for (int64_t c = 0; c < width; c += kLanes * kVectors) products<kNodes>(plan, at, c, call, sums);
        for (int i = 0; i < kNodes; ++i) {
          add(plan, plan.run_node[at + i], plan.block_panel[block] >= 0, strip, width, call, sums[i]);
        }
      });
    }
  }

 private:
  // panel[sample][s] = the value of slots[s], and 0 for s >= width.
  static void transpose_strip(const PlanView& plan, const int32_t* slots, int64_t width, const BlockGradient<T>& call) {
    for (int64_t tile = 0; tile < call.tiles; ++tile) {
      const T* tape = call.tape + tile * plan.tape_rows * call.columns;
      C* panel = call.panel + tile * call.columns * kWidth;
      for (int64_t s = 0; s < kWidth; s += kLanes) {
        for (int64_t c = 0; c < call.columns; c += kLanes) {
          V rows[kLanes];
#pragma GCC unroll 16
          for (int k = 0; k < kLanes; ++k) {
            rows[k] = s + k < width ? V::load(tape + slots[s + k] * call.columns + c) : V(C(0));
          }
          transpose(rows);
#pragma GCC unroll 16
          for (int k = 0; k < kLanes; ++k) rows[k].store(panel + (c + k) * kWidth + s);
        }
      }
    }
  }

  template <int kNodes>
  static FREEWIRE_INLINE void products(const PlanView& plan, int64_t at, int64_t first, const BlockGradient<T>& call,
                                       C (&sums)[kNodes][kWidth]) {
    V total[kNodes][kVectors];
#pragma GCC unroll 6
    for (int i = 0; i < kNodes; ++i) {
#pragma GCC unroll 4
      for (int k = 0; k < kVectors; ++k) total[i][k] = V(C(0));
    }
    for (int64_t tile = 0; tile < call.tiles; ++tile) {
      const C* delta[kNodes];
#pragma GCC unroll 6
      for (int i = 0; i < kNodes; ++i) {
        delta[i] = call.grad + (tile * plan.num_slots + plan.num_inputs + plan.run_node[at + i]) * call.columns;
      }
      const C* panel = call.panel + tile * call.columns * kWidth + first;
      for (int64_t c = 0; c < call.columns; ++c) {
        V part[kVectors];
#pragma GCC unroll 4
        for (int k = 0; k < kVectors; ++k) part[k] = V::load(panel + c * kWidth + k * kLanes);
#pragma GCC unroll 6
        for (int i = 0; i < kNodes; ++i) {
          const V d(delta[i][c]);
#pragma GCC unroll 4
          for (int k = 0; k < kVectors; ++k) total[i][k] = total[i][k] + d * part[k];
        }
      }
    }
#pragma GCC unroll 6
    for (int i = 0; i < kNodes; ++i) {
#pragma GCC unroll 4
      for (int k = 0; k < kVectors; ++k) total[i][k].store(sums[i] + first + k * kLanes);
    }
  }

  // A node's sums of one strip to its edges' gradients; a padded node has edges from some of the sources.
  static void add(const PlanView& plan, int64_t node, bool padded, int64_t strip, int64_t width,
                  const BlockGradient<T>& call, const C* sums) {
    const auto put = [&](int64_t e, C sum) { call.weight_sums[e] = call.first ? sum : call.weight_sums[e] + sum; };
    const int64_t begin = plan.in_begin[node];
    if (!padded) {
      for (int64_t s = 0; s < width; ++s) put(begin + strip + s, sums[s]);
      return;
    }
    const int32_t *columns = plan.panel_column + begin, *last = plan.panel_column + plan.in_split[node];
    for (const int32_t* column = std::lower_bound(columns, last, strip); column < last && *column < strip + width;
         ++column) {
      put(begin + (column - columns), sums[*column - strip]);
    }
  }
};

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

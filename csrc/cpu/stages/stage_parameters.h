// SPDX-License-Identifier: MIT
// The parameters of a stage's nodes, as a call receives them and as the kernels read them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/blocks/gated_sum_drive.h"
#include "cpu/blocks/window.h"
#include "cpu/buffer.h"
#include "cpu/network/kernels.h"
#include "cpu/stages/product.h"
#include "cpu/stages/stage_plan.h"

namespace freewire::cpu {

// The shape of a stage: N nodes, E edges. Nodes without in-edges read the stage's input, of in_channels and as large as
// `in`; all results are as large as `out`, and padded.
struct StageShape {
  StageShape(const Maps& in, int64_t stride, int64_t out_channels)
      : in(in),
        out{in.batch, in.height ? (in.height - 1) / stride + 1 : 0, in.width ? (in.width - 1) / stride + 1 : 0,
            out_channels},
        stride(stride) {}
  Maps in, out;
  int64_t stride;
  bool empty() const { return in.batch == 0 || out.height == 0 || out.width == 0; }
  Maps padded(const Maps& maps) const { return {maps.batch, maps.height, maps.width, padded_channels(maps.channels)}; }
  Maps padded_out() const { return padded(out); }
  // Multiplications of a node for one image.
  int64_t products() const { return out.height * out.row() * std::max(in.channels, out.channels); }
};

// Rows of a block of some pixels: at least one, and no more than there are.
inline int64_t rows_of_block(const StageShape& shape, int64_t pixels) {
  return std::clamp<int64_t>(pixels / std::max<int64_t>(1, shape.out.width), 1, std::max<int64_t>(1, shape.out.height));
}

// The least that is worth a thread: weights that are packed, and multiplications. Ten microseconds of either, at the
// rates of docs/performance.md.
constexpr int64_t kPackedAtOnce = 32768, kProductsAtOnce = 1000000;
// How many items of some size make up as much.
inline int64_t grain_of(int64_t size, int64_t least) {
  return (least + std::max<int64_t>(1, size) - 1) / std::max<int64_t>(1, size);
}

// A node's own weights: depthwise [channels, 3, 3] and pointwise [out_channels, channels].
template <class T>
struct StageWeights {
  std::vector<const T*> depthwise, pointwise;  // [N]
};

// Kernels [9, channels] of depthwise convolutions as the kernels read them, the channels padded with zeros.
template <class T, class Product = WideProduct<T>>
void read_taps(const T* weight, int64_t channels, Compute<T>* taps) {
  const int64_t padded = padded_channels(channels);
  std::fill_n(taps, 9 * padded, Compute<T>(0));
  for (int64_t c = 0; c < channels; ++c) {
    const int64_t place = Product::place(c, padded);
    for (int64_t tap = 0; tap < 9; ++tap) taps[tap * padded + place] = widened(weight[c * 9 + tap]);
  }
}

// All nodes' parameters for inference: convolutions with the batch norm after them folded in.
template <class T, class Product = WideProduct<T>>
class PackedStage {
 public:
  using C = Compute<T>;
  using Operand = typename Product::Operand;

  // scale, shift [N, out_channels]: what follows a node's convolutions, y = scale * x + shift; both may be
  // null.
  template <class ParallelFor>
  PackedStage(const StagePlan& plan, const StageShape& shape, const StageWeights<T>& weights, const C* scale,
              const C* shift, const ParallelFor& parallel_for)
      : inputs_(plan.num_inputs),
        in_(shape.in.channels),
        out_(shape.out.channels),
        numbers_(total(plan, length(in_), length(out_))),
        pointwise_(total(plan, pointwise_length(in_), pointwise_length(out_))) {
    parallel_for(0, plan.num_nodes(), grain_of(out_ * out_, kPackedAtOnce), [&](int64_t first, int64_t last) {
      for (int64_t node = first; node < last; ++node) {
        C* const own = numbers_.data() + begin(node, length(in_), length(out_));
        read_taps<T, Product>(weights.depthwise[node], depth(node), own);
        Product::pack(weights.pointwise[node], scale ? scale + node * out_ : nullptr, depth(node), out_,
                      pointwise_.data() + begin(node, pointwise_length(in_), pointwise_length(out_)));
        C* const to = own + 9 * padded_channels(depth(node));
        std::fill_n(to, padded_channels(out_), C(0));
        if (shift) std::copy_n(shift + node * out_, out_, to);
      }
    });
  }

  int64_t depth(int64_t node) const { return node < inputs_ ? in_ : out_; }
  const C* taps(int64_t node) const { return numbers_.data() + begin(node, length(in_), length(out_)); }
  const C* bias(int64_t node) const { return taps(node) + 9 * padded_channels(depth(node)); }
  const Operand* pointwise(int64_t node) const {
    return pointwise_.data() + begin(node, pointwise_length(in_), pointwise_length(out_));
  }

 private:
  int64_t length(int64_t depth) const { return 9 * padded_channels(depth) + padded_channels(out_); }
  int64_t pointwise_length(int64_t depth) const { return Product::packed_length(depth, out_); }
  // Where a node's begin, if the nodes without in-edges have `first` each and the others `other`.
  int64_t begin(int64_t node, int64_t first, int64_t other) const {
    const int64_t inputs = std::min(node, inputs_);
    return inputs * first + (node - inputs) * other;
  }
  int64_t total(const StagePlan& plan, int64_t first, int64_t other) const {
    return begin(plan.num_nodes(), first, other);
  }

  int64_t inputs_, in_, out_;
  Buffer<C> numbers_;
  Buffer<Operand> pointwise_;
};

}  // namespace freewire::cpu

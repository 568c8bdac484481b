// SPDX-License-Identifier: MIT
// Runs feature maps through a whole stage of separable convolutions, without a backward: one parallel region over
// images, or where images are few, one for each node over rows.
//
// A thread takes an image through all nodes before it takes the next one, so that what a node reads is still in the
// cache that it was written to; there is no barrier. A node runs in blocks of rows: the gated sum of its inputs, in a
// window of rows; from there the depthwise convolution; and from its rows the product of matrices that is the 1x1
// convolution. Results are kept until their last reader. The entries of a result are sums in one order, whatever the
// threads and the blocks are: bitwise deterministic.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "cpu/blocks/gated_sum_drive.h"
#include "cpu/blocks/window.h"
#include "cpu/stages/rows.h"
#include "cpu/stages/stage_parameters.h"

namespace freewire::cpu {

template <class T>
struct StageCall {
  const T* x;                // [batch, height, width, in_channels]
  const Compute<T>* weight;  // [E] of the edges
  StageWeights<T> weights;   // of the nodes
  const Compute<T>* scale;   // [N, out_channels], or null
  const Compute<T>* shift;   // [N, out_channels]
  bool relu;                 // before every node
  T* y;                      // [batch, out height, out width, out_channels]
};

// Pixels that are taken from the depthwise convolution to the product at a time.
constexpr int64_t kBlockPixels = 140;
// Images that a thread takes through a node one after the other where its weights are what is read most.
constexpr int64_t kImagesAtOnce = 4;

template <class T, class Product>
class StageInference {
 public:
  using C = Compute<T>;

  template <class ParallelFor>
  StageInference(const StagePlan& plan, const StageShape& shape, const StageCall<T>& call,
                 const ParallelFor& parallel_for)
      : plan_(plan),
        shape_(shape),
        call_(call),
        out_(shape.padded_out()),
        rows_(rows_of_block(shape, kBlockPixels)),
        gates_(plan.num_edges()),
        packed_(plan, shape, call.weights, call.scale, call.shift, parallel_for) {
    for (int64_t edge = 0; edge < plan.num_edges(); ++edge) gates_[edge] = sigmoid(call.weight[edge]);
  }

  template <class ParallelFor>
  void run(const ParallelFor& parallel_for) const {
    const int64_t threads = parallel_for.threads(), batch = shape_.in.batch;
    const bool small = batch * shape_.products() < threads * kProductsAtOnce;
    if (small || batch % threads == 0 || batch >= 4 * threads) return run_images(parallel_for);
    run_rows(threads, parallel_for);
  }

 private:
  int64_t image() const { return out_.height * out_.row(); }
  // Several images share what is read of the weights, but their results no longer fit in the second-level cache, and
  // every edge and node costs a result more from the third.
  int64_t images_at_once(int64_t of_thread) const {
    const int64_t weights = plan_.num_nodes() * shape_.out.channels * shape_.out.channels;
    const int64_t results = (plan_.num_edges() + plan_.num_nodes()) * image();
    if (weights < results) return 1;
    const int64_t groups = (of_thread + kImagesAtOnce - 1) / kImagesAtOnce;
    return (of_thread + groups - 1) / groups;
  }

  // The memory of one thread.
  struct Scratch {
    Scratch(const StageInference& stage, bool inputs)
        : maps(stage.shape_.padded(inputs ? stage.shape_.in : stage.shape_.out)),
          window(maps, inputs ? (stage.rows_ - 1) * stage.shape_.stride + 3 : stage.rows_ + 2),
          block(Product::block_length(stage.rows_ * stage.out_.width, maps.channels)) {}
    Maps maps;
    typename Product::Rows window;
    Buffer<typename Product::Operand> block;
  };

  template <class ParallelFor>
  void run_images(const ParallelFor& parallel_for) const {
    const int64_t threads = parallel_for.threads();
    const int64_t at_once = images_at_once((shape_.in.batch + threads - 1) / threads);
    const int64_t groups = (shape_.in.batch + at_once - 1) / at_once;
    const int64_t grain = grain_of(at_once * plan_.num_nodes() * shape_.products(), kProductsAtOnce);
    parallel_for(0, groups, grain, [&](int64_t first, int64_t last) {
      Buffer<T> slots(at_once * plan_.num_slots * image());
      Scratch inputs(*this, true), others(*this, false);
      [[maybe_unused]] const typename Product::Turn turn;
      for (int64_t group = first; group < last; ++group) {
        const int64_t begin = group * at_once, end = std::min(begin + at_once, shape_.in.batch);
        const auto each_image = [&](const auto& body) {
          for (int64_t n = begin; n < end; ++n) body(n, slots.data() + (n - begin) * plan_.num_slots * image());
        };
        each_image([&](int64_t n, T* own) { run_inputs(n, 0, out_.height, own, inputs); });
        for (int64_t node = plan_.num_inputs; node < plan_.num_nodes(); ++node) {
          each_image([&](int64_t, T* own) { run_node(node, 0, out_.height, own, others); });
        }
        each_image([&](int64_t n, T* own) { write(n, 0, out_.height, own); });
      }
    });
  }

  template <class ParallelFor>
  void run_rows(int64_t threads, const ParallelFor& parallel_for) const {
    const int64_t batch = shape_.in.batch, bands = std::min(out_.height, (threads + batch - 1) / batch * 2);
    Buffer<T> slots(batch * plan_.num_slots * image());
    const auto each_band = [&](const auto& body) {
      parallel_for(0, batch * bands, 1, [&](int64_t first, int64_t last) {
        [[maybe_unused]] const typename Product::Turn turn;
        for (int64_t band = first; band < last; ++band) {
          const int64_t n = band / bands, part = band % bands;
          body(n, out_.height * part / bands, out_.height * (part + 1) / bands,
               slots.data() + n * plan_.num_slots * image());
        }
      });
    };
    each_band([&](int64_t n, int64_t begin, int64_t end, T* own) {
      Scratch scratch(*this, true);
      run_inputs(n, begin, end, own, scratch);
    });
    for (int64_t node = plan_.num_inputs; node < plan_.num_nodes(); ++node) {
      each_band([&](int64_t, int64_t begin, int64_t end, T* own) {
        Scratch scratch(*this, false);
        run_node(node, begin, end, own, scratch);
      });
    }
    each_band([&](int64_t n, int64_t begin, int64_t end, T* own) { write(n, begin, end, own); });
  }

  // Rows [begin, end) of the nodes without in-edges, for one image whose slots are given.
  void run_inputs(int64_t n, int64_t begin, int64_t end, T* slots, Scratch& scratch) const {
    const auto fill = [&](int64_t r) {
      Product::pad(call_.x + shape_.in.at(n, r), shape_.in, call_.relu, scratch.window, r);
    };
    run_blocks(0, plan_.num_inputs, shape_.stride, begin, end, slots, scratch, fill);
  }

  void run_node(int64_t node, int64_t begin, int64_t end, T* slots, Scratch& scratch) const {
    const int64_t first = plan_.in_ptr[node], count = plan_.fan_in(node);
    std::vector<const T*> xs(count);
    const GatedSum<T> sum{xs.data(), gates_.data() + first, count, call_.relu};
    const auto fill = [&](int64_t r) {
      for (int64_t i = 0; i < count; ++i)
        xs[i] = slots + plan_.slot[plan_.in_src[first + i]] * image() + r * out_.row();
      Product::sum(sum, out_, scratch.window, r);
    };
    run_blocks(node, node + 1, 1, begin, end, slots, scratch, fill);
  }

  // Nodes [first, last), which read the same window; fill(row) computes one of its rows.
  template <class Fill>
  void run_blocks(int64_t first, int64_t last, int64_t stride, int64_t begin, int64_t end, T* slots, Scratch& scratch,
                  const Fill& fill) const {
    const int64_t channels = scratch.maps.channels;
    each_block(begin, end, rows_, stride, scratch.window, scratch.maps.height, fill, [&](int64_t row, int64_t rows) {
      for (int64_t node = first; node < last; ++node) {
        Product::convolve(scratch.window, packed_.taps(node), row, rows, stride, out_.width, channels,
                          scratch.block.data());
        Product::multiply(scratch.block.data(), packed_.pointwise(node), packed_.bias(node), rows * out_.width,
                          packed_.depth(node), shape_.out.channels,
                          slots + plan_.slot[node] * image() + row * out_.row());
      }
    });
  }

  // The mean of the sinks.
  void write(int64_t n, int64_t begin, int64_t end, const T* slots) const {
    const auto count = static_cast<int64_t>(plan_.sinks.size());
    const std::vector<C> gates(count, C(1) / C(count));
    std::vector<const T*> xs(count);
    const GatedSum<T> sum{xs.data(), gates.data(), count, false};
    Buffer<T> mean(count > 1 ? out_.row() : 0);
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t i = 0; i < count; ++i) xs[i] = slots + plan_.slot[plan_.sinks[i]] * image() + r * out_.row();
      if (count > 1) kernels<T>().gated_sum.forward(sum, 0, out_.row(), mean.data());
      kernels<T>().stage.unpad(count > 1 ? mean.data() : xs[0], out_.width, shape_.out.channels,
                               call_.y + shape_.out.at(n, r));
    }
  }

  const StagePlan& plan_;
  const StageShape& shape_;
  const StageCall<T>& call_;
  Maps out_;
  int64_t rows_;  // of a block
  std::vector<C> gates_;
  PackedStage<T, Product> packed_;
};

template <class T, class ParallelFor>
void run_stage(const StagePlan& plan, const StageShape& shape, const StageCall<T>& call,
               const ParallelFor& parallel_for) {
  if (shape.empty()) return;
  if constexpr (std::is_same_v<T, BFloat16>) {
    if (paired_kernels()) return StageInference<T, PairedProduct>(plan, shape, call, parallel_for).run(parallel_for);
  }
  StageInference<T, WideProduct<T>>(plan, shape, call, parallel_for).run(parallel_for);
}

}  // namespace freewire::cpu

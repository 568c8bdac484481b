// SPDX-License-Identifier: MIT
// A stage of separable convolutions in training: its forward, which keeps one feature map per node for the backward,
// the result of the node's convolutions before its batch norm.
//
// A batch norm needs the statistics of the whole batch, so there is a barrier after every node, and the parallel region
// of a node goes over bands of rows. They are divided by the shape alone, and statistics and gradients are added in the
// bands' order, so the number of threads changes no bit. Inside a region everything is computed in Compute<T>.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/blocks/gated_depthwise_drive.h"
#include "cpu/stages/rows.h"
#include "cpu/stages/stage_parameters.h"

namespace freewire::cpu {

// What both directions read. Arrays of maps have padded channels, except x.
template <class T>
struct StageTraining {
  const T* x;                // [batch, height, width, in_channels]
  const Compute<T>* weight;  // [E]
  StageWeights<T> weights;
  const Compute<T>*gamma, *beta;  // [N, out_channels]
  std::vector<double> epsilon;    // [N]
  bool relu;
  bool batch_statistics;  // the norms use those of the batch, or given ones
};

// What the forward computes and the backward reads.
template <class T>
struct StageTape {
  std::vector<T*> results;     // of each node [batch, height, width, padded]
  Compute<T>*mean, *variance;  // [N, out_channels]
};

// Pixels that are taken from one kernel to the next at a time.
constexpr int64_t kTrainingPixels = 140;

// The norms of all nodes, a row of padded channels for each.
template <class C>
class Norms {
 public:
  Norms(const StagePlan& plan, int64_t channels)
      : padded_(padded_channels(channels)), numbers_(4 * plan.num_nodes() * padded_, C(0)), nodes_(plan.num_nodes()) {}

  template <class T>
  void set(int64_t node, const StageTraining<T>& call, const StageTape<T>& tape, int64_t channels) {
    for (int64_t c = 0; c < channels; ++c) {
      const int64_t at = node * channels + c;
      const C inverse = C(1) / std::sqrt(tape.variance[at] + static_cast<C>(call.epsilon[node]));
      row(0, node)[c] = tape.mean[at];
      row(1, node)[c] = inverse;
      row(2, node)[c] = call.gamma[at] * inverse;
      row(3, node)[c] = call.beta[at] - tape.mean[at] * (call.gamma[at] * inverse);
    }
  }
  Norm<C> of(int64_t node) const { return {row(0, node), row(1, node), row(2, node), row(3, node)}; }

 private:
  const C* row(int64_t which, int64_t node) const { return numbers_.data() + (which * nodes_ + node) * padded_; }
  C* row(int64_t which, int64_t node) { return numbers_.data() + (which * nodes_ + node) * padded_; }
  int64_t padded_;
  std::vector<C> numbers_;
  int64_t nodes_;
};

// A gated sum of normalised results: sum of scales[i] * xs[i] + shift.
template <class T>
struct AffineInputs {
  using C = Compute<T>;
  // The inputs of a node.
  AffineInputs(const StagePlan& plan, const StageShape& shape, const StageTape<T>& tape, const Norms<C>& norms,
               const std::vector<C>& gates, int64_t node)
      : AffineInputs(shape.padded_out().channels) {
    for (int64_t edge = plan.in_ptr[node]; edge < plan.in_ptr[node + 1]; ++edge) {
      add(tape.results[plan.in_src[edge]], norms.of(plan.in_src[edge]), gates[edge]);
    }
  }
  // The mean of the sinks.
  AffineInputs(const StagePlan& plan, const StageShape& shape, const StageTape<T>& tape, const Norms<C>& norms)
      : AffineInputs(shape.padded_out().channels) {
    for (const int64_t sink : plan.sinks) {
      add(tape.results[sink], norms.of(sink), C(1) / static_cast<C>(plan.sinks.size()));
    }
  }

  // The sum of some pixels, from one on.
  void sum(int64_t at, int64_t pixels, bool relu, C* y) const {
    std::vector<const T*> from;
    for (const T* x : xs) from.push_back(x + at);
    kernels<T>().norm.affine_sum(from.data(), static_cast<int64_t>(xs.size()), scales.data(), shift.data(), relu,
                                 pixels, padded, y);
  }

  std::vector<const T*> xs;
  std::vector<C> scales, shift;
  int64_t padded;

 private:
  explicit AffineInputs(int64_t padded) : shift(padded, C(0)), padded(padded) {}
  void add(const T* x, const Norm<C>& norm, C gate) {
    xs.push_back(x);
    for (int64_t c = 0; c < padded; ++c) {
      scales.push_back(gate * norm.scale[c]);
      shift[c] += gate * norm.shift[c];
    }
  }
};

template <class T>
std::vector<Compute<T>> gates_of(const StagePlan& plan, const StageTraining<T>& call) {
  std::vector<Compute<T>> gates;
  for (int64_t edge = 0; edge < plan.num_edges(); ++edge) gates.push_back(sigmoid(call.weight[edge]));
  return gates;
}

template <class T>
class StageForward {
 public:
  using C = Compute<T>;

  template <class ParallelFor>
  StageForward(const StagePlan& plan, const StageShape& shape, const StageTraining<T>& call, StageTape<T>& tape,
               const ParallelFor& parallel_for)
      : plan_(plan),
        shape_(shape),
        call_(call),
        tape_(tape),
        out_(shape.padded_out()),
        rows_(rows_of_block(shape, kTrainingPixels)),
        gates_(gates_of(plan, call)),
        norms_(plan, shape.out.channels),
        packed_(plan, shape, call.weights, nullptr, nullptr, parallel_for) {}

  template <class ParallelFor>
  void run(T* y, const ParallelFor& parallel_for) {
    run_inputs(parallel_for);
    for (int64_t node = plan_.num_inputs; node < plan_.num_nodes(); ++node) run_node(node, parallel_for);
    write(y, parallel_for);
  }

 private:
  // The sums of a band's pixels of one node, [2, padded]: the mean, and squared differences from it.
  using Statistics = Buffer<C>;

  template <class ParallelFor>
  void run_inputs(const ParallelFor& parallel_for) {
    const Maps in = shape_.padded(shape_.in);
    Statistics statistics(plan_.num_inputs * bands() * 2 * out_.channels);
    for_each_band(out_, parallel_for, [&](const auto& each_band) {
      Window<C> window(in, (rows_ - 1) * shape_.stride + 3);
      Buffer<C> block(rows_ * out_.width * in.channels);
      each_band([&](int64_t band, int64_t image, int64_t begin, int64_t end) {
        const auto fill = [&](int64_t r) {
          kernels<T>().norm.widen(call_.x + shape_.in.at(image, r), in.width, shape_.in.channels, call_.relu,
                                  window.inside(r));
        };
        run_blocks(0, plan_.num_inputs, shape_.stride, band, image, begin, end, in, window, block, statistics, fill);
      });
    });
    for (int64_t node = 0; node < plan_.num_inputs; ++node) finish(node, node, statistics);
  }

  template <class ParallelFor>
  void run_node(int64_t node, const ParallelFor& parallel_for) {
    Statistics statistics(bands() * 2 * out_.channels);
    const AffineInputs<T> inputs(plan_, shape_, tape_, norms_, gates_, node);
    for_each_band(out_, parallel_for, [&](const auto& each_band) {
      Window<C> window(out_, rows_ + 2);
      Buffer<C> block(rows_ * out_.row());
      each_band([&](int64_t band, int64_t image, int64_t begin, int64_t end) {
        const auto fill = [&](int64_t r) { inputs.sum(out_.at(image, r), out_.width, call_.relu, window.inside(r)); };
        run_blocks(node, node + 1, 1, band, image, begin, end, out_, window, block, statistics, fill);
      });
    });
    finish(node, 0, statistics);
  }

  // Rows [begin, end) of the nodes [first, last), which read the same window; fill(row) computes one of its rows.
  template <class Fill>
  void run_blocks(int64_t first, int64_t last, int64_t stride, int64_t band, int64_t image, int64_t begin, int64_t end,
                  const Maps& from, Window<C>& window, Buffer<C>& block, Statistics& statistics, const Fill& fill) {
    C* const band_sums = statistics.data() + band * (last - first) * 2 * out_.channels;
    std::fill_n(band_sums, (last - first) * 2 * out_.channels, C(0));
    each_block(begin, end, rows_, stride, window, from.height, fill, [&](int64_t row, int64_t rows) {
      for (int64_t node = first; node < last; ++node) {
        convolve_rows(window, packed_.taps(node), row, rows, stride, out_.width, from.channels, block.data());
        T* const y = tape_.results[node] + out_.at(image, row);
        kernels<T>().stage.multiply(block.data(), from.channels, packed_.pointwise(node), nullptr, rows * out_.width,
                                    packed_.depth(node), shape_.out.channels, y);
        if (!call_.batch_statistics) continue;
        C* const mean = band_sums + (node - first) * 2 * out_.channels;
        kernels<T>().norm.add_statistics(y, rows * out_.width, out_.channels, (row - begin) * out_.width, mean,
                                         mean + out_.channels);
      }
    });
  }

  // The statistics of a node, the index-th of those in the array, from those of the bands.
  void finish(int64_t node, int64_t index, const Statistics& statistics) {
    const int64_t channels = shape_.out.channels, of_image = bands_of_image(out_);
    const int64_t nodes = node < plan_.num_inputs ? plan_.num_inputs : 1;
    for (int64_t c = 0; call_.batch_statistics && c < channels; ++c) {
      double count = 0, mean = 0, squares = 0;
      for (int64_t band = 0; band < bands(); ++band) {
        const C* const sums = statistics.data() + (band * nodes + index) * 2 * out_.channels + c;
        const int64_t part = band % of_image;
        const auto pixels =
            static_cast<double>((out_.height * (part + 1) / of_image - out_.height * part / of_image) * out_.width);
        const double apart = sums[0] - mean;
        squares += sums[out_.channels] + apart * apart * count * pixels / (count + pixels);
        mean += apart * pixels / (count + pixels);
        count += pixels;
      }
      tape_.mean[node * channels + c] = static_cast<C>(mean);
      tape_.variance[node * channels + c] = static_cast<C>(squares / count);
    }
    norms_.set(node, call_, tape_, channels);
  }

  template <class ParallelFor>
  void write(T* y, const ParallelFor& parallel_for) const {
    const AffineInputs<T> sinks(plan_, shape_, tape_, norms_);
    for_each_band(out_, parallel_for, [&](const auto& each_band) {
      Buffer<C> mean(out_.row());
      each_band([&](int64_t, int64_t image, int64_t begin, int64_t end) {
        for (int64_t r = begin; r < end; ++r) {
          sinks.sum(out_.at(image, r), out_.width, false, mean.data());
          kernels<T>().norm.narrow(mean.data(), out_.width, shape_.out.channels, y + shape_.out.at(image, r));
        }
      });
    });
  }

  int64_t bands() const { return out_.batch * bands_of_image(out_); }

  const StagePlan& plan_;
  const StageShape& shape_;
  const StageTraining<T>& call_;
  StageTape<T>& tape_;
  Maps out_;
  int64_t rows_;
  std::vector<C> gates_;
  Norms<C> norms_;
  PackedStage<T> packed_;
};

template <class T, class ParallelFor>
void run_stage_forward(const StagePlan& plan, const StageShape& shape, const StageTraining<T>& call, StageTape<T> tape,
                       T* y, const ParallelFor& parallel_for) {
  if (shape.empty()) return;
  StageForward<T>(plan, shape, call, tape, parallel_for).run(y, parallel_for);
}

}  // namespace freewire::cpu

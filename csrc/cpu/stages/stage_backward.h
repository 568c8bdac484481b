// SPDX-License-Identifier: MIT
// The backward of a stage in training: nodes from last to first, two parallel regions for each.
//
// The first gathers the gradient of a node's result from the nodes that read it, and the sums over the batch that its
// batch norm's gradient needs. The second goes back through the norm and the convolutions, to the gradient of the sum
// that the node has read, whose inputs gather it in turn; the sum and the depthwise convolution are recomputed. Rows
// pass from one kernel to the next in the cache. Weight gradients are added up by a fixed number of groups of bands, so
// the number of threads changes no bit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "cpu/stages/stage_gradients.h"
#include "cpu/stages/stage_training.h"

namespace freewire::cpu {

template <class T>
class StageBackward {
 public:
  using C = Compute<T>;

  template <class ParallelFor>
  StageBackward(const StagePlan& plan, const StageShape& shape, const StageTraining<T>& call, const StageTape<T>& tape,
                const StageGradients<T>& grads, const Memory& memory, const ParallelFor& parallel_for)
      : plan_(plan),
        shape_(shape),
        call_(call),
        tape_(tape),
        grads_(grads),
        in_(shape.padded(shape.in)),
        out_(shape.padded_out()),
        rows_(rows_of_block(shape, kTrainingPixels)),
        bands_(out_.batch * bands_of_image(out_)),
        groups_(gradient_groups(shape.out.channels * std::max(in_.channels, out_.channels), bands_)),
        gates_(gates_of(plan, call)),
        norms_(plan, shape.out.channels),
        packed_(plan, shape, call.weights, parallel_for),
        factors_(3 * plan.num_nodes() * out_.channels, C(0)),
        results_(memory_of<C>(memory, plan.num_inputs * out_.numel())),
        sinks_(memory_of<T>(memory, out_.numel())),
        inputs_(plan, out_.numel(), memory),
        kernels_(memory_of<C>(memory,
                              std::max(Kernels::needed(groups_, 1, shape.out.channels, out_.channels),
                                       Kernels::needed(groups_, plan.num_inputs, shape.out.channels, in_.channels)))) {
    for (int64_t node = 0; node < plan.num_nodes(); ++node) norms_.set(node, call, tape, shape.out.channels);
  }

  template <class ParallelFor>
  void run(const T* grad_y, const ParallelFor& parallel_for) {
    for_each_band(out_, parallel_for, [&](const auto& each_band) {
      each_band([&](int64_t, int64_t image, int64_t begin, int64_t end) {
        kernels<T>().stage.pad(grad_y + shape_.out.at(image, begin), (end - begin) * out_.width, shape_.out.channels,
                               false, sinks_ + out_.at(image, begin));
      });
    });
    for (int64_t node = plan_.num_nodes() - 1; node >= plan_.num_inputs; --node) {
      gather(node, results_, parallel_for);
      run_node(node, parallel_for);
    }
    for (int64_t node = plan_.num_inputs - 1; node >= 0; --node) {
      gather(node, results_ + node * out_.numel(), parallel_for);
    }
    run_inputs(parallel_for);
  }

 private:
  using Kernels = KernelGradients<T>;

  // The weights of the 1x1 convolutions for the gradients of what they read, and the kernels of the 3x3 ones.
  struct Packed {
    template <class ParallelFor>
    Packed(const StagePlan& plan, const StageShape& shape, const StageWeights<T>& weights,
           const ParallelFor& parallel_for)
        : products(plan.num_nodes()), taps(plan.num_nodes()), turned(plan.num_nodes()) {
      parallel_for(0, plan.num_nodes(), 1, [&](int64_t first, int64_t last) {
        for (int64_t node = first; node < last; ++node) {
          const int64_t depth = node < plan.num_inputs ? shape.in.channels : shape.out.channels;
          const int64_t padded = padded_channels(depth);
          products[node].resize(shape.out.channels * padded);
          kernels<T>().stage.pack(weights.pointwise[node], true, nullptr, shape.out.channels, depth,
                                  products[node].data());
          taps[node].resize(9 * padded);
          read_taps(weights.depthwise[node], depth, taps[node].data());
          turned[node].resize(9 * padded);
          for (int64_t tap = 0; tap < 9; ++tap) {
            std::copy_n(taps[node].data() + (8 - tap) * padded, padded, turned[node].data() + tap * padded);
          }
        }
      });
    }
    std::vector<std::vector<C>> products, taps, turned;
  };

  // Calls body(group, image, first row, one past the last) for every band of a group, inside with_buffers().
  template <class ParallelFor, class WithBuffers>
  void for_each_group(const ParallelFor& parallel_for, const WithBuffers& with_buffers) const {
    const int64_t of_image = bands_of_image(out_);
    parallel_for(0, groups_, 1, [&](int64_t first, int64_t last) {
      with_buffers([&](const auto& body) {
        for (int64_t group = first; group < last; ++group) {
          for (int64_t band = bands_ * group / groups_; band < bands_ * (group + 1) / groups_; ++band) {
            const int64_t part = band % of_image;
            body(group, band == bands_ * group / groups_, band / of_image, out_.height * part / of_image,
                 out_.height * (part + 1) / of_image);
          }
        }
      });
    });
  }

  C* factors(int64_t node) { return factors_.data() + 3 * node * out_.channels; }

  // The gradient of a node's result, and what its norm's gradient needs.
  template <class ParallelFor>
  void gather(int64_t node, C* grad, const ParallelFor& parallel_for) {
    std::vector<const T*> from;
    std::vector<C> gates;
    for (int64_t i = plan_.out_ptr[node]; i < plan_.out_ptr[node + 1]; ++i) {
      from.push_back(inputs_.of(plan_.out_dst[i]));
      gates.push_back(gates_[plan_.out_edge[i]]);
    }
    const auto edges = static_cast<int64_t>(from.size());
    if (!edges) {
      from.push_back(sinks_);
      gates.push_back(C(1) / static_cast<C>(plan_.sinks.size()));
    }
    const auto count = static_cast<int64_t>(from.size());
    const int64_t length = 2 * out_.channels + count;
    Buffer<C> sums(bands_ * length);
    const T* const x = tape_.results[node];
    for_each_band(out_, parallel_for, [&](const auto& each_band) {
      std::vector<const T*> grads(count);
      const ReaderGradients<T> readers{grads.data(), gates.data(), count};
      each_band([&](int64_t band, int64_t image, int64_t begin, int64_t end) {
        C* const own = sums.data() + band * length;
        std::fill_n(own, length, C(0));
        for (int64_t r = begin; r < end; r += rows_) {
          const int64_t at = out_.at(image, r);
          place(from, at, grads);
          kernels<T>().norm.gather(readers, x + at, norms_.of(node), std::min(rows_, end - r) * out_.width,
                                   out_.channels, grad + at, own, own + 2 * out_.channels);
        }
      });
    });
    const double pixels = static_cast<double>(out_.batch * out_.height * out_.width);
    const Norm<C> norm = norms_.of(node);
    for (int64_t c = 0; c < shape_.out.channels; ++c) {
      const double total = total_of(sums.data(), bands_, length, c);
      const double product = total_of(sums.data(), bands_, length, out_.channels + c);
      grads_.beta[node * shape_.out.channels + c] = static_cast<C>(total);
      grads_.gamma[node * shape_.out.channels + c] = static_cast<C>(product);
      const double of_x = call_.batch_statistics ? -norm.scale[c] * product * norm.inverse[c] / pixels : 0;
      const double constant = call_.batch_statistics ? -norm.scale[c] * total / pixels - of_x * norm.mean[c] : 0;
      factors(node)[c] = norm.scale[c];
      factors(node)[out_.channels + c] = static_cast<C>(of_x);
      factors(node)[2 * out_.channels + c] = static_cast<C>(constant);
    }
    for (int64_t i = 0; i < edges; ++i) {
      const double dot = total_of(sums.data(), bands_, length, 2 * out_.channels + i);
      grads_.weight[plan_.out_edge[plan_.out_ptr[node] + i]] = static_cast<C>(dot * gates[i] * (1 - gates[i]));
    }
  }

  // From the gradient of a node's result to that of the sum that it reads.
  template <class ParallelFor>
  void run_node(int64_t node, const ParallelFor& parallel_for) {
    Kernels parts(groups_, 1, shape_.out.channels, out_.channels, kernels_);
    const AffineInputs<T> sources(plan_, shape_, tape_, norms_, gates_, node);
    T* const grad_sum = inputs_.of(node);
    for_each_group(parallel_for, [&](const auto& each_band) {
      Window<C> sums(out_, rows_ + 3), grads(out_, rows_ + 3);
      Buffer<C> behind(rows_ * out_.row()), block(rows_ * out_.row()), one_row(out_.row());
      each_band([&](int64_t group, bool first, int64_t image, int64_t begin, int64_t end) {
        if (first) parts.clear_taps(group);
        int64_t next_sum = begin - 1, next = begin;
        const int64_t from = std::max<int64_t>(0, begin - 1), to = std::min(out_.height, end + 1);
        grads.clear(begin - 1);
        for (int64_t row = from; row < to; row += rows_) {
          const int64_t rows = std::min(rows_, to - row);
          for (; next_sum <= std::min(row + rows, end); ++next_sum) {
            if (next_sum < 0 || next_sum >= out_.height) {
              sums.clear(next_sum);
            } else {
              sources.sum(out_.at(image, next_sum), out_.width, call_.relu, sums.inside(next_sum));
            }
          }
          combine(node, results_, out_.at(image, row), rows, behind.data());
          const int64_t own = std::max(row, begin), owned = std::min(row + rows, end) - own;
          if (owned > 0) {
            add_products(node, sums, behind.data() + (own - row) * out_.row(), own, owned, 1, out_.channels,
                         first && own == begin, block.data(), parts.product(group, 0));
          }
          multiply(node, behind.data(), rows, out_.channels, block.data());
          for (int64_t r = 0; r < rows; ++r) {
            std::copy_n(block.data() + r * out_.row(), out_.row(), grads.inside(row + r));
          }
          if (row + rows == out_.height) grads.clear(out_.height);
          for (; next < end && (next + 1 < row + rows || row + rows == out_.height); ++next) {
            C* const readers[3] = {next + 1 < out_.height ? grads.inside(next + 1) : nullptr, grads.inside(next),
                                   next > 0 ? grads.inside(next - 1) : nullptr};
            const auto& use = kernels<C>().depthwise;
            use.add_kernel_gradient(sums.bordered(next), readers, out_.width, out_.channels, parts.taps(group, 0));
            use.forward(Around<C>(grads, next, 1).rows, packed_.turned[node].data(), out_.width, out_.channels,
                        one_row.data());
            if (call_.relu) use.relu_gradient(sums.inside(next), out_.row(), one_row.data());
            kernels<T>().norm.store(one_row.data(), out_.row(), grad_sum + out_.at(image, next));
          }
        }
      });
    });
    parts.write(node, grads_, shape_.out.channels, parallel_for);
  }

  // The same for all nodes without in-edges, to the gradient of x.
  template <class ParallelFor>
  void run_inputs(const ParallelFor& parallel_for) {
    const int64_t nodes = plan_.num_inputs, stride = shape_.stride;
    // Rows of the results above a band that read rows of x which the band's own rows read first.
    const int64_t above = stride == 1 ? 2 : stride == 2 ? 1 : 0;
    Kernels parts(groups_, nodes, shape_.out.channels, in_.channels, kernels_);
    for_each_group(parallel_for, [&](const auto& each_band) {
      const int64_t rows_of_x = (rows_ - 1) * stride + 3;
      Window<C> xs(in_, rows_of_x), grads(in_, rows_of_x);
      Buffer<C> behind(rows_ * out_.row()), block(rows_ * out_.width * in_.channels);
      each_band([&](int64_t group, bool first, int64_t image, int64_t begin, int64_t end) {
        if (first) parts.clear_taps(group);
        const auto write = [&](int64_t r) {
          if (!grads_.x) return;
          if ((r + 1) % stride >= 3) return clear_gradient(image, r);
          if (call_.relu) kernels<C>().depthwise.relu_gradient(xs.inside(r), in_.row(), grads.inside(r));
          kernels<T>().norm.narrow(grads.inside(r), in_.width, shape_.in.channels, grads_.x + shape_.in.at(image, r));
        };
        const auto fill = [&](int64_t r) {
          kernels<T>().norm.widen(call_.x + shape_.in.at(image, r), in_.width, shape_.in.channels, call_.relu,
                                  xs.inside(r));
        };
        int64_t next = begin ? begin * stride - 1 : 0;  // the first row of grad_x that is not written
        int64_t cleared = std::max<int64_t>(0, begin - above) * stride - 1;
        const auto each = [&](bool own) {
          return [&, own](int64_t row, int64_t rows) {
            for (; cleared <= (row + rows - 1) * stride + 1; ++cleared) grads.clear(cleared);
            for (int64_t node = 0; node < nodes; ++node) {
              combine(node, results_ + node * out_.numel(), out_.at(image, row), rows, behind.data());
              if (own) {
                add_products(node, xs, behind.data(), row, rows, stride, in_.channels, first && row == begin,
                             block.data(), parts.product(group, node));
              }
              multiply(node, behind.data(), rows, shape_.in.channels, block.data());
              for (int64_t r = 0; r < rows; ++r) {
                const Around<C> around(xs, row + r, stride), grad_around(grads, row + r, stride);
                kernels<T>().norm.scatter(block.data() + r * out_.width * in_.channels, around.rows,
                                          packed_.taps[node].data(), out_.width, stride, in_.channels, grad_around.rows,
                                          own ? parts.taps(group, node) : nullptr);
              }
            }
            const bool last = row + rows == out_.height;
            const int64_t done = last ? std::min(in_.height, (row + rows - 1) * stride + 2) : (row + rows) * stride - 1;
            for (; own && next < done; ++next) write(next);
          };
        };
        each_block(std::max<int64_t>(0, begin - above), begin, rows_, stride, xs, in_.height, fill, each(false));
        each_block(begin, end, rows_, stride, xs, in_.height, fill, each(true));
        for (; grads_.x && end == out_.height && next < in_.height; ++next) clear_gradient(image, next);
      });
    });
    parts.write(0, grads_, shape_.in.channels, parallel_for);
  }

  // For a row of x that no convolution reads.
  void clear_gradient(int64_t image, int64_t r) const {
    std::fill_n(grads_.x + shape_.in.at(image, r), shape_.in.row(), narrowed<T>(0));
  }

  // The gradient of a node's convolutions, before its norm, of some rows.
  void combine(int64_t node, const C* grad, int64_t at, int64_t rows, C* to) {
    // Statistics that are given do not depend on x, and zero times an infinity would be NaN.
    const T* const x = call_.batch_statistics ? tape_.results[node] + at : nullptr;
    kernels<T>().norm.combine(grad + at, x, factors(node), rows * out_.width, out_.channels, to);
  }

  // Adds to the gradient of the 1x1 convolution's weights, or writes it.
  void add_products(int64_t node, Window<C>& read, const C* behind, int64_t row, int64_t rows, int64_t stride,
                    int64_t channels, bool write, C* block, C* sums) const {
    convolve_rows(read, packed_.taps[node].data(), row, rows, stride, out_.width, channels, block);
    kernels<C>().stage.add_product({behind, 1, out_.channels}, block, shape_.out.channels, rows * out_.width, channels,
                                   write, sums);
  }

  // The gradient of what the 1x1 convolution reads.
  void multiply(int64_t node, const C* behind, int64_t rows, int64_t channels, C* to) const {
    kernels<C>().stage.multiply(behind, out_.channels, packed_.products[node].data(), nullptr, rows * out_.width,
                                shape_.out.channels, channels, to);
  }

  const StagePlan& plan_;
  const StageShape& shape_;
  const StageTraining<T>& call_;
  const StageTape<T>& tape_;
  const StageGradients<T>& grads_;
  Maps in_, out_;
  int64_t rows_, bands_, groups_;
  std::vector<C> gates_;
  Norms<C> norms_;
  Packed packed_;
  std::vector<C> factors_;  // [N, 3, padded]
  C* results_;              // the gradients of the results of all nodes without in-edges, and of one other at a time
  T* sinks_;                // the gradient of the output
  InputGradients<T> inputs_;
  C* kernels_;
};

template <class T, class ParallelFor>
void run_stage_backward(const StagePlan& plan, const StageShape& shape, const StageTraining<T>& call,
                        const StageTape<T>& tape, const T* grad_y, const StageGradients<T>& grads, const Memory& memory,
                        const ParallelFor& parallel_for) {
  StageBackward<T>(plan, shape, call, tape, grads, memory, parallel_for).run(grad_y, parallel_for);
}

}  // namespace freewire::cpu

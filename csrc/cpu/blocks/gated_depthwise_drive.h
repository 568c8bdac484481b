// SPDX-License-Identifier: MIT
// Runs whole feature maps through a gated sum and the depthwise convolution that reads it: bands of rows, and their
// order.
//
// Arrays are [batch, height, width, channels]; parallel_for is that of cpu/network/forward_drive.h. The rows of the sum
// pass through a window of three that stays in the cache, and the sum is never written to memory; the backward
// recomputes it. A backward pass over a band of rows reads xs and grad_y and writes grad_xs. No torch here, so that
// csrc/testing runs the same code under the sanitizers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/blocks/gated_sum_drive.h"
#include "cpu/blocks/window.h"
#include "cpu/buffer.h"
#include "cpu/network/kernels.h"

namespace freewire::cpu {

// Rows are divided into bands, so that one image keeps several threads busy. The division depends on the shape alone,
// so the number of threads changes no bit. A band also reads one row past each end, so it has at least kLeastRows rows.
constexpr int64_t kBands = 16, kLeastRows = 4;
inline int64_t bands_of_image(const Maps& maps) {
  const int64_t wanted = (kBands + maps.batch - 1) / maps.batch;
  return std::max<int64_t>(1, std::min(wanted, maps.height / kLeastRows));
}

// For each row of a band [begin, end): calls fill() for the row and its neighbours, then use(row).
template <class T, class Fill, class Use>
void slide(Window<T>& window, const Maps& maps, int64_t begin, int64_t end, const Fill& fill, const Use& use) {
  for (int64_t r = begin - 1; r <= end; ++r) {
    if (r < 0 || r >= maps.height) {
      window.clear(r);
    } else {
      fill(r);
    }
    if (r > begin) use(r - 1);
  }
}

// Calls body(band, image, first row, one past the last) for every band of a thread, inside with_buffers().
template <class ParallelFor, class WithBuffers>
void for_each_band(const Maps& maps, const ParallelFor& parallel_for, const WithBuffers& with_buffers) {
  const int64_t bands = bands_of_image(maps);
  parallel_for(0, maps.batch * bands, 1, [&](int64_t first, int64_t last) {
    with_buffers([&](const auto& body) {
      for (int64_t band = first; band < last; ++band) {
        const int64_t part = band % bands;
        body(band, band / bands, maps.height * part / bands, maps.height * (part + 1) / bands);
      }
    });
  });
}

template <class To, class From>
void place(const std::vector<From>& arrays, int64_t at, std::vector<To>& found) {
  for (size_t i = 0; i < arrays.size(); ++i) found[i] = arrays[i] + at;
}

// kernel [9, channels].
template <class T, class ParallelFor>
void run_gated_depthwise(const GatedSumCall<T>& call, const Maps& maps, const Compute<T>* kernel, T* y,
                         const ParallelFor& parallel_for) {
  if (maps.numel() == 0) return;
  const auto gates = gates_of(call);
  const auto& use = kernels<T>();
  for_each_band(maps, parallel_for, [&](const auto& each_band) {
    Window<T> summed(maps);
    std::vector<const T*> xs(call.xs.size());
    const GatedSum<T> sum{xs.data(), gates.data(), static_cast<int64_t>(xs.size()), call.relu};
    each_band([&](int64_t, int64_t image, int64_t begin, int64_t end) {
      const auto fill = [&](int64_t r) {
        place(call.xs, maps.at(image, r), xs);
        use.gated_sum.forward(sum, 0, maps.row(), summed.inside(r));
      };
      slide(summed, maps, begin, end, fill, [&](int64_t r) {
        const T* const rows[3] = {summed.bordered(r - 1), summed.bordered(r), summed.bordered(r + 1)};
        use.depthwise.forward(rows, kernel, maps.width, maps.channels, y + maps.at(image, r));
      });
    });
  });
}

// The results of the backward; weight [count] and kernel [9, channels] may be null.
template <class T>
struct GatedDepthwiseGradients {
  std::vector<T*> xs;
  Compute<T>* weight;
  Compute<T>* kernel;
};

template <class T, class ParallelFor>
void run_gated_depthwise_backward(const GatedSumCall<T>& call, const Maps& maps, const Compute<T>* kernel,
                                  const T* grad_y, const GatedDepthwiseGradients<T>& grads,
                                  const ParallelFor& parallel_for) {
  using C = Compute<T>;
  const int64_t channels = maps.channels, count = static_cast<int64_t>(call.xs.size());
  const int64_t num_bands = maps.numel() ? maps.batch * bands_of_image(maps) : 0;
  const auto gates = gates_of(call);
  const auto& use = kernels<T>();
  std::vector<C> turned(9 * channels);  // the kernel rotated by 180 degrees, for the gradient of its input
  for (int64_t tap = 0; tap < 9; ++tap)
    std::copy_n(kernel + (8 - tap) * channels, channels, turned.data() + tap * channels);
  Buffer<C> dots(grads.weight ? num_bands * count : 0), taps(grads.kernel ? num_bands * 9 * channels : 0);

  const auto run_bands = [&](const auto& each_band) {
    Window<T> window(maps), summed(maps);  // only one row of summed is used
    Buffer<T> grad_sum(maps.row());
    std::vector<const T*> xs(count);
    std::vector<T*> grad_xs(count);
    std::vector<C> row_dots(count);
    GatedSum<T> sum{xs.data(), gates.data(), count, call.relu}, behind_relu = sum;
    behind_relu.relu = false;
    each_band([&](int64_t band, int64_t image, int64_t begin, int64_t end) {
      C* const band_dots = grads.weight ? dots.data() + band * count : nullptr;
      C* const band_taps = grads.kernel ? taps.data() + band * 9 * channels : nullptr;
      if (band_dots) std::fill_n(band_dots, count, C(0));
      if (band_taps) std::fill_n(band_taps, 9 * channels, C(0));
      const auto fill = [&](int64_t r) { std::copy_n(grad_y + maps.at(image, r), maps.row(), window.inside(r)); };
      slide(window, maps, begin, end, fill, [&](int64_t r) {
        place(call.xs, maps.at(image, r), xs);
        place(grads.xs, maps.at(image, r), grad_xs);
        if (band_taps || call.relu) use.gated_sum.forward(sum, 0, maps.row(), summed.inside(0));
        if (band_taps) {
          const T* const readers[3] = {r + 1 < maps.height ? window.inside(r + 1) : nullptr, window.inside(r),
                                       r > 0 ? window.inside(r - 1) : nullptr};
          use.depthwise.add_kernel_gradient(summed.bordered(0), readers, maps.width, channels, band_taps);
        }
        const T* const rows[3] = {window.bordered(r - 1), window.bordered(r), window.bordered(r + 1)};
        use.depthwise.forward(rows, turned.data(), maps.width, channels, grad_sum.data());
        if (call.relu) use.depthwise.relu_gradient(summed.inside(0), maps.row(), grad_sum.data());
        use.gated_sum.backward(behind_relu, grad_sum.data(), 0, maps.row(), grad_xs.data(),
                               band_dots ? row_dots.data() : nullptr);
        for (int64_t i = 0; band_dots && i < count; ++i) band_dots[i] += row_dots[i];
      });
    });
  };
  if (num_bands) for_each_band(maps, parallel_for, run_bands);
  for (int64_t i = 0; grads.kernel && i < 9 * channels; ++i) {
    grads.kernel[i] = static_cast<C>(total_of(taps.data(), num_bands, 9 * channels, i));
  }
  if (grads.weight) weight_gradient(gates, dots.data(), num_bands, grads.weight);
}

}  // namespace freewire::cpu

// SPDX-License-Identifier: MIT
// Runs whole arrays through the kernels of a gated sum: gates, spans over threads, and the order in which sums are
// added.
//
// parallel_for is that of cpu/network/forward_drive.h. No torch here, so that csrc/testing runs the same code on
// std::thread under the sanitizers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "cpu/buffer.h"
#include "cpu/network/kernels.h"

namespace freewire::cpu {

// The arguments of a gated sum.
template <class T>
struct GatedSumCall {
  std::vector<const T*> xs;  // at least one
  const Compute<T>* weight;  // [number of xs], or null for the mean
  int64_t length;            // elements of each array
  bool relu;
};

template <class C>
C sigmoid(C w) {
  return C(1) / (C(1) + std::exp(-w));
}

template <class T>
std::vector<Compute<T>> gates_of(const GatedSumCall<T>& call) {
  using C = Compute<T>;
  std::vector<C> gates(call.xs.size(), C(1) / C(call.xs.size()));
  if (call.weight) {
    for (size_t i = 0; i < gates.size(); ++i) gates[i] = sigmoid(call.weight[i]);
  }
  return gates;
}

// The sum of entry i over all parts [count, length], in order; in double, since there are many parts.
template <class C>
double total_of(const C* parts, int64_t count, int64_t length, int64_t i) {
  double total = 0;
  for (int64_t part = 0; part < count; ++part) total += parts[part * length + i];
  return total;
}

// The gradient of the weight from dots [parts, gates], each part's dot products of x_i with the gradient of the sum.
template <class C>
void weight_gradient(const std::vector<C>& gates, const C* dots, int64_t parts, C* grad_weight) {
  const auto count = static_cast<int64_t>(gates.size());
  for (int64_t i = 0; i < count; ++i) {
    grad_weight[i] = static_cast<C>(total_of(dots, parts, count, i) * gates[i] * (1 - gates[i]));
  }
}

template <class T, class ParallelFor>
void run_gated_sum(const GatedSumCall<T>& call, T* y, const ParallelFor& parallel_for) {
  const auto gates = gates_of(call);
  const GatedSum<T> sum{call.xs.data(), gates.data(), static_cast<int64_t>(call.xs.size()), call.relu};
  const auto kernel = kernels<T>().gated_sum.forward;
  parallel_for(0, num_spans(call.length), 1, [&](int64_t first, int64_t last) {
    kernel(sum, first * kSpan, std::min(last * kSpan, call.length), y);
  });
}

// grad_weight: [count], or null.
template <class T, class ParallelFor>
void run_gated_sum_backward(const GatedSumCall<T>& call, const T* grad_y, const std::vector<T*>& grad_xs,
                            Compute<T>* grad_weight, const ParallelFor& parallel_for) {
  using C = Compute<T>;
  const auto gates = gates_of(call);
  const auto count = static_cast<int64_t>(call.xs.size());
  const GatedSum<T> sum{call.xs.data(), gates.data(), count, call.relu};
  const int64_t spans = num_spans(call.length);
  Buffer<C> dots(grad_weight ? spans * count : 0);
  const auto kernel = kernels<T>().gated_sum.backward;
  parallel_for(0, spans, 1, [&](int64_t first, int64_t last) {
    for (int64_t span = first; span < last; ++span) {
      kernel(sum, grad_y, span * kSpan, std::min((span + 1) * kSpan, call.length), grad_xs.data(),
             grad_weight ? dots.data() + span * count : nullptr);
    }
  });
  if (grad_weight) weight_gradient(gates, dots.data(), spans, grad_weight);
}

}  // namespace freewire::cpu

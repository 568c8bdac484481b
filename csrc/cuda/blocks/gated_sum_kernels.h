// SPDX-License-Identifier: MIT
// The raw CUDA kernels of a gated sum, y = sum of gate_i x_i, perhaps through a relu: what they take.
//
// Arrays are flat, aligned to 16 bytes, all of one length: what a tensor's axes mean plays no part. All pointers are to
// device memory, but for the lists of arrays; nothing here allocates, copies or waits.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/network/kernels.h"

namespace freewire::cuda {

template <class T>
struct GatedSumCall {
  std::vector<const T*> xs;  // at least one
  const Compute<T>* weight;  // [count] in device memory, or null: the mean
  int64_t length;            // of each
  bool relu;
};

// What the backward leaves, and the memory it works in.
template <class T>
struct GatedSumGradients {
  std::vector<T*> xs;
  Compute<T>* weight;   // [count], or null
  Compute<T>* partial;  // [partial_sums()], where there is a weight
};

constexpr int64_t kLaunchInputs = 64;  // arrays that one launch takes, a kernel's arguments being few
// Elements that a block of the backward owns, whose products with each x it sums.
template <class T>
constexpr int64_t kGradientElements = 256 * 2 * (16 / int64_t{sizeof(T)});

// Where the arrays are more than a launch takes, their sum passes through memory of this length; else 0.
template <class T>
int64_t carried_sums(const GatedSumCall<T>& call) {
  return static_cast<int64_t>(call.xs.size()) > kLaunchInputs ? call.length : 0;
}
template <class T>
int64_t partial_sums(const GatedSumCall<T>& call) {
  return blocks_of(call.length, kGradientElements<T>) * static_cast<int64_t>(call.xs.size());
}

// carried: [carried_sums()].
template <class T>
void run_gated_sum(const GatedSumCall<T>& call, T* y, Compute<T>* carried, Stream stream);
template <class T>
void run_gated_sum_backward(const GatedSumCall<T>& call, const T* grad_y, const GatedSumGradients<T>& gradients,
                            Compute<T>* carried, Stream stream);

}  // namespace freewire::cuda

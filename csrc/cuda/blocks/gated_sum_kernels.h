// SPDX-License-Identifier: MIT
// The arguments and launchers of the raw CUDA kernels of a gated sum, y = sum of gate_i x_i, optionally through a relu.
//
// Arrays are flat, aligned to 16 bytes and of one length: the meaning of a tensor's axes does not matter. Pointers are
// to device memory, the lists of arrays are on the host; nothing here allocates, copies or waits.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda/common/host.h"
#include "number.h"

namespace freewire::cuda {

template <class T>
struct GatedSumCall {
  std::vector<const T*> xs;  // at least one
  const Compute<T>* weight;  // [count] in device memory, or null for the mean
  int64_t length;            // elements of each array
  bool relu;
};

// The results of the backward, and its workspace.
template <class T>
struct GatedSumGradients {
  std::vector<T*> xs;
  Compute<T>* weight;   // [count], or null
  Compute<T>* partial;  // [partial_sums()] if weight is not null
};

constexpr int64_t kLaunchInputs = 64;  // arrays per launch; the size of kernel arguments is limited
// Elements per block of the backward, over which it sums the products of each x with the gradient.
template <class T>
constexpr int64_t kGradientElements = 256 * 2 * (16 / int64_t{sizeof(T)});

// The length of the memory through which several launches pass their sum; 0 if there is one launch.
template <class T>
int64_t carried_sums(const GatedSumCall<T>& call) {
  return static_cast<int64_t>(call.xs.size()) > kLaunchInputs ? call.length : 0;
}
template <class T>
int64_t partial_sums(const GatedSumCall<T>& call) {
  return blocks_of(call.length, kGradientElements<T>) * static_cast<int64_t>(call.xs.size());
}

// carried has room for [carried_sums()].
template <class T>
void run_gated_sum(const GatedSumCall<T>& call, T* y, Compute<T>* carried, Stream stream);
template <class T>
void run_gated_sum_backward(const GatedSumCall<T>& call, const T* grad_y, const GatedSumGradients<T>& gradients,
                            Compute<T>* carried, Stream stream);

}  // namespace freewire::cuda

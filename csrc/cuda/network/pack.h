// SPDX-License-Identifier: MIT
// Packs a plan and weights for the resident kernels.
#pragma once

#include "cuda/network/kernels.h"

namespace freewire::cuda {

// Writes arrays.edges, arrays.begins, and arrays.nodes (forward) or arrays.slots (backward), for tiles of `columns`
// columns. chunk: edges that a kernel reads at once.
template <class T>
void pack_forward(const PlanView& plan, const ForwardArrays<T>& arrays, int columns, int chunk, Stream stream);
template <class T>
void pack_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, int chunk, Stream stream);

}  // namespace freewire::cuda

// SPDX-License-Identifier: MIT
// The launcher of the gradients of weights and biases (parameter_gradients.cu), which needs all deltas and shares.
// Called by drive.cu.
#pragma once

#include "cuda/network/kernels.h"

namespace freewire::cuda {

template <class T>
void parameter_gradients(const PlanView& plan, const BackwardArrays<T>& arrays, Stream stream);

}  // namespace freewire::cuda

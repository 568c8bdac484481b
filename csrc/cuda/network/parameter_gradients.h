// SPDX-License-Identifier: MIT
// Gradients of weights and biases once every delta and share is known (parameter_gradients.cu), called by drive.cu.
#pragma once

#include "cuda/network/kernels.h"

namespace freewire::cuda {

template <class T>
void parameter_gradients(const PlanView& plan, const BackwardArrays<T>& arrays, Stream stream);

}  // namespace freewire::cuda

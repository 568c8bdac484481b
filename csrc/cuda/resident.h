// SPDX-License-Identifier: MIT
// The launchers of the resident regime (resident.cu) for one width of tile, called by drive.cu.
#pragma once

#include "cuda/kernels.h"

namespace freewire::cuda {

// columns: 2, 4, 8, 16 or 32.
template <class T>
void resident_forward(const PlanView& plan, const ForwardArrays<T>& arrays, int columns, Stream stream);
template <class T>
void resident_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, Stream stream);

}  // namespace freewire::cuda

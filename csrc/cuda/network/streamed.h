// SPDX-License-Identifier: MIT
// The launchers of the streamed regime (streamed.cu), called by drive.cu.
#pragma once

#include "cuda/network/kernels.h"

namespace freewire::cuda {

// rows are in global memory: the tape if one is kept, else [scratch_rows, pitch].
template <class T>
void streamed_forward(const PlanView& plan, const ForwardArrays<T>& arrays, T* rows, Stream stream);
template <class T>
void streamed_backward(const PlanView& plan, const BackwardArrays<T>& arrays, Stream stream);

}  // namespace freewire::cuda

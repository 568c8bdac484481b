// SPDX-License-Identifier: MIT
// The launchers of the gradients of weights and biases (parameter_gradients.cu), which need all deltas and shares.
// Called by drive.cu and sequence.cu.
#pragma once

#include "cuda/network/kernels.h"

namespace freewire::cuda {

template <class T>
void parameter_gradients(const PlanView& plan, const BackwardArrays<T>& arrays, Stream stream);

// The same over the steps of a sequence: each adds to sums in arrays.partial (step_weight_sums() and step_bias_sums()
// of sequence_workspace.h) or in grad_weight, which are rounded once, at the end. first: the first step that does.
template <class T>
void add_step_gradients(const PlanView& plan, const BackwardArrays<T>& arrays, bool first, Stream stream);
// any: some step did; otherwise the gradients are 0.
template <class T>
void finish_step_gradients(const PlanView& plan, const BackwardArrays<T>& arrays, bool any, Stream stream);

}  // namespace freewire::cuda

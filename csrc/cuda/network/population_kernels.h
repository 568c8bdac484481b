// SPDX-License-Identifier: MIT
// The raw CUDA kernels of a population: networks of different wiring with the same numbers of inputs and outputs, in
// one launch forward and at most two backward, however many members there are.
//
// A block runs one member: it reads that member's plan, and then takes tiles of the batch through the whole network,
// one after the other. Everything that differs between members is read on the device, so the host needs only the
// largest of each size (population_workspace.h). All pointers are to device memory; nothing here allocates, copies or
// waits. A member's rows on the tape have population_pitch() columns; samples past the batch's end are 0 there.
#pragma once

#include <cstdint>

#include "cuda/common/host.h"
#include "cuda/network/population_workspace.h"
#include "number.h"
#include "plan_view.h"

namespace freewire::cuda {

// The members of a population; weights and biases are those of the members one after the other.
template <class T>
struct Members {
  const int64_t* words;  // the members' packed plans
  const int64_t* table;  // [members, kTableColumns]; see population.h of csrc/
  const T* weight;       // [sum of E]
  int64_t count, batch;
};

template <class T>
struct PopulationForward {
  Members<T> members;
  const T* x;     // [members, batch, I], or [batch, I] for all members
  bool shared_x;  // the latter
  const T* bias;  // [sum of num_biases], or null
  T* y;           // [members, batch, O]
  T* tape;        // [sum of tape_rows, pitch], or null if nothing is kept
  T* rows;        // as PopulationForwardWorkspace says
};

template <class T>
struct PopulationBackward {
  Members<T> members;
  const T* grad_y;                     // [members, batch, O]
  const T* tape;                       // [sum of tape_rows, pitch]
  T* grad_x;                           // [members, batch, I], or null
  T* grad_weight;                      // [sum of E]
  T* grad_bias;                        // [sum of num_biases], or null; only with `parameters`
  Compute<T>*rows, *shares, *partial;  // as PopulationBackwardWorkspace says; partial is null where it has no elements
  int64_t num_edges, num_biases;       // of all members together; num_biases is 0 without grad_bias
  int64_t share_rows;                  // as PopulationBackwardWorkspace says
  bool parameters;                     // whether their gradients are computed
};

template <class T>
void population_forward(const PopulationForward<T>& arrays, const PopulationTiling& tiling, Stream stream);
template <class T>
void population_backward(const PopulationBackward<T>& arrays, const PopulationTiling& tiling, Stream stream);

}  // namespace freewire::cuda

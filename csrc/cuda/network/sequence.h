// SPDX-License-Identifier: MIT
// A recurrent network over a whole sequence on a GPU; no torch.
//
// The plan is that of one time step, whose last inputs, the states, hold values of the step before. Each step runs the
// kernels of one network, and one more kernel passes states and results on; see sequence.cu. All pointers are to device
// memory; nothing here allocates, copies or waits. sequence_workspace.h has the sizes.
#pragma once

#include <cstdint>

#include "cuda/network/kernels.h"
#include "cuda/network/sequence_workspace.h"

namespace freewire::cuda {

// The arguments of the forward, and the memory it works in. With F = I - V features and R = num_results:
template <class T>
struct SequenceArrays {
  const T* x;       // [steps, batch, F]
  const T* states;  // [batch, V], before the first step
  T* y;             // [steps, batch, R], or null where the forward runs once more
  T* last_states;   // [batch, V], after the last step; likewise
  T* kept;          // tapes [steps, tape_rows, pitch], or states every k-th step [steps / every, pitch, V]; or null
  T* step_x;        // [batch, I]
  T* step_y;        // [batch, O], or null if y has all outputs
  int64_t steps;
  int64_t every;          // steps between two whose states are kept, or 0 to keep tapes
  ForwardArrays<T> step;  // parameters, memory and batch; x, y and tape are those of each step
};

// What the backward reads and writes besides, and the memory it works in.
template <class T>
struct SequenceBackwardArrays {
  const T* kept;             // from run_sequence()
  const T* grad_y;           // [steps, batch, R]
  const T* grad_last;        // [batch, V], of the states after the last step
  T* grad_x;                 // [steps, batch, F], or null
  T* grad_states;            // [batch, V], or null
  Compute<T>* step_grad_y;   // [batch, O]
  Compute<T>* step_grad_x;   // [batch, I]
  int32_t* state_of_output;  // [O]: 1 + the state that an output is in the next step, or 0
  BackwardArrays<T> step;    // parameters, their gradients, memory and batch; the others are those of each step
};

// columns: width of the resident tile, or 0 to stream. packed: as for run_forward() of kernels.h.
template <class T>
void run_sequence(const PlanView& plan, const SequenceArrays<T>& arrays, int columns, Stream stream,
                  bool packed = false);

// forward: x, states, steps and every are those of the forward. If every is not 0, the rest is for running it once more
// in tiles of forward_columns: kept has room for the tapes of min(every, steps) steps; y and last_states are null.
template <class T>
void run_sequence_backward(const PlanView& plan, const SequenceArrays<T>& forward,
                           const SequenceBackwardArrays<T>& arrays, int columns, int forward_columns, Stream stream);

}  // namespace freewire::cuda

// SPDX-License-Identifier: MIT
// The raw CUDA kernels, without torch: their arguments, and how a batch is run through them.
//
// There are two regimes. Resident: a block takes a tile of the batch through the whole network, its rows in shared
// memory, with a block barrier after each level. Streamed, for networks whose rows do not fit there: rows in global
// memory, one launch per level. All pointers are to device memory; nothing here allocates, copies or waits.
// workspace.h chooses the regime and the tile, and has the sizes of the arrays.
//
// A row in global memory has `pitch` columns, the batch rounded up to kPitchColumns. Samples past the batch's end are 0
// in every row that is kept.
#pragma once

#include <cstdint>

#include "cuda/common/host.h"
#include "cuda/network/packed.h"
#include "cuda/network/workspace.h"
#include "plan_view.h"

namespace freewire::cuda {

// T is the type that x, y, parameters, their gradients and the tape are stored in; gradients of nodes and partial sums
// are Compute<T>, so that 16 bits round a value once, and a gradient only where it is returned. A step of a sequence
// (sequence.h) hands on gradients to the step before, so it reads and writes them as Compute<T> too.
template <class T>
struct ForwardArrays {
  const T* x;                      // [batch, I]
  const T* weight;                 // [E]
  const T* bias;                   // [num_biases], or null
  T* y;                            // [batch, O]
  T* tape;                         // [tape_rows, pitch], or null if nothing is kept
  T* rows;                         // [scratch_rows, pitch], streamed regime without a tape only
  Edge<Compute<T>>* edges;         // [forward_edges], resident regime only
  ForwardNode<Compute<T>>* nodes;  // [C], resident regime only
  int32_t* begins;                 // [C] where each node's edges begin, resident regime only
  int64_t batch;

  // Rows that are not kept may be reused: the tile, or global memory, then has scratch_rows of them.
  FREEWIRE_INLINE bool moves(const PlanView& plan) const { return !tape && plan.reuses_rows(); }
};

// What the backward reads and writes, and the memory it works in.
template <class T>
struct BackwardArrays {
  const T* grad_y;                  // [batch, O]
  const T* tape;                    // [tape_rows, pitch]
  const T* weight;                  // [E]
  T* grad_x;                        // [batch, I], or null
  T* grad_weight;                   // [E], or null
  T* grad_bias;                     // [num_biases], or null
  Compute<T>* delta;                // [C, pitch] gradients of pre-activations
  Compute<T>* shares;               // [gather_edges, pitch] gradients of the terms of nodes that are not linear
  Compute<T>* rows;                 // [S, pitch], streamed regime only
  Edge<Compute<T>>* edges;          // [backward_edges], resident regime only
  BackwardSlot<Compute<T>>* slots;  // [S], resident regime only
  int32_t* begins;                  // [S] where each slot's edges begin, resident regime only
  Compute<T>* partial;              // [slices, E + num_biases], or null unless adds_slices()
  int64_t batch;
  const Compute<T>* wide_grad_y = nullptr;  // [batch, O] in the place of grad_y, of a step
  Compute<T>* wide_grad_x = nullptr;        // [batch, I] in the place of grad_x, of a step

  FREEWIRE_INLINE bool wants_x() const {
    if constexpr (kNarrow<T>) {
      if (wide_grad_x) return true;
    }
    return grad_x;
  }
  FREEWIRE_INLINE Compute<T> grad_y_at(int64_t i) const {
    if constexpr (kNarrow<T>) {
      if (wide_grad_y) return wide_grad_y[i];
    }
    return widened(grad_y[i]);
  }
};

// columns: width of the resident tile, or 0 to stream. packed: the edges, nodes or slots, and begins are as an earlier
// call with the same plan, weights and columns left them; a backward's must have had a gradient of x if this one has.
template <class T>
void run_forward(const PlanView& plan, const ForwardArrays<T>& arrays, int columns, Stream stream, bool packed = false);
template <class T>
void run_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, Stream stream);
// run_backward() but for the gradients of parameters.
template <class T>
void run_backward_nodes(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, bool packed, Stream stream);

}  // namespace freewire::cuda

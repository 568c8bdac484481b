// SPDX-License-Identifier: MIT
// The raw CUDA kernels, without torch: what they take, and how a batch is run through them.
//
// Two regimes. Resident: a block takes a tile of the batch through the whole network, its rows in shared memory, a
// block barrier a level. Streamed, for networks whose rows do not fit there: rows in global memory, a launch a level.
// All pointers are to device memory; nothing here allocates, copies or waits.
//
// A row in global memory has `pitch` columns, the batch rounded up to kPitchColumns. Samples past the batch's end are 0
// in every row that is kept.
#pragma once

#include <cstdint>

#include "cuda/common/host.h"
#include "cuda/network/packed.h"
#include "plan_view.h"

namespace freewire::cuda {

constexpr int64_t kPitchColumns = 64;
constexpr int64_t kSliceColumns = 2048;  // samples that one block sums for a weight gradient

constexpr int64_t pitch_of(int64_t batch) { return blocks_of(batch, kPitchColumns) * kPitchColumns; }
constexpr int64_t slices_of(int64_t batch) { return blocks_of(batch, kSliceColumns); }
// Whether parameter gradients are sums of partial ones: of several slices, or in a wider type than they leave in.
template <class T>
constexpr bool adds_slices(int64_t batch) {
  return slices_of(batch) > 1 || kNarrow<T>;
}

// T is what x, y, parameters, their gradients and the tape are stored as; gradients of nodes and partial sums are
// Compute<T>, so that 16 bits round a value once and a gradient only where it leaves.
template <class T>
struct ForwardArrays {
  const T* x;                      // [batch, I]
  const T* weight;                 // [E]
  const T* bias;                   // [num_biases], or null
  T* y;                            // [batch, O]
  T* tape;                         // [tape_rows, pitch], or null where nothing is kept
  T* rows;                         // [num_rows, pitch], streamed regime without a tape only
  Edge<Compute<T>>* edges;         // [forward_edges], resident regime only
  ForwardNode<Compute<T>>* nodes;  // [C], resident regime only
  int32_t* begins;                 // [C] where each node's edges begin, resident regime only
  int64_t batch;

  // Rows that nobody keeps may be used again: the tile's, or those of global memory, then have num_rows.
  FREEWIRE_INLINE bool moves(const PlanView& plan) const { return !tape && plan.reuses_rows(); }
};

// What the backward reads and leaves, and the memory it works in.
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
  Compute<T>* partial;              // [slices, E + num_biases], or null where adds_slices() says that none is needed
  int64_t batch;
};

// Columns of the widest resident tile that fits, of so many rows of numbers of so many bytes: 2 to 32; 0: none does.
int widest_tile(const PlanView& plan, int64_t rows, int64_t itemsize, const Device& device);

// Columns of the tile to run: about the batch over the multiprocessors, as many as fit; 0: none fits, stream.
int tile_columns(const PlanView& plan, int64_t batch, int64_t rows, int64_t itemsize, const Device& device);

// columns: of a resident tile, or 0.
template <class T>
void run_forward(const PlanView& plan, const ForwardArrays<T>& arrays, int columns, Stream stream);
template <class T>
void run_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, Stream stream);

}  // namespace freewire::cuda

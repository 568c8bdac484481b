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

#include "cuda/host.h"
#include "cuda/packed.h"
#include "plan_view.h"

namespace freewire::cuda {

constexpr int64_t kPitchColumns = 64;
constexpr int64_t kSliceColumns = 2048;  // samples that one block sums for a weight gradient

constexpr int64_t blocks_of(int64_t count, int64_t a_block) { return (count + a_block - 1) / a_block; }
constexpr int64_t pitch_of(int64_t batch) { return blocks_of(batch, kPitchColumns) * kPitchColumns; }
constexpr int64_t slices_of(int64_t batch) { return blocks_of(batch, kSliceColumns); }

template <class T>
struct ForwardArrays {
  const T* x;             // [batch, I]
  const T* weight;        // [E]
  const T* bias;          // [num_biases], or null
  T* y;                   // [batch, O]
  T* tape;                // [tape_rows, pitch], or null where nothing is kept
  T* rows;                // [num_slots, pitch], streamed regime without a tape only
  Edge<T>* edges;         // [forward_edges], resident regime only
  ForwardNode<T>* nodes;  // [C], resident regime only
  int32_t* begins;        // [C] where each node's edges begin, resident regime only
  int64_t batch;
};

// What the backward reads and leaves, and the memory it works in.
template <class T>
struct BackwardArrays {
  const T* grad_y;         // [batch, O]
  const T* tape;           // [tape_rows, pitch]
  const T* weight;         // [E]
  T* grad_x;               // [batch, I], or null
  T* grad_weight;          // [E], or null
  T* grad_bias;            // [num_biases], or null
  T* delta;                // [C, pitch] gradients of pre-activations
  T* shares;               // [gather_edges, pitch] gradients of the terms of nodes that are not linear
  T* rows;                 // [S, pitch], streamed regime only
  Edge<T>* edges;          // [backward_edges], resident regime only
  BackwardSlot<T>* slots;  // [S], resident regime only
  int32_t* begins;         // [S] where each slot's edges begin, resident regime only
  T* partial;              // [slices, E + num_biases], or null where slices is 1 or no parameter gradient is wanted
  int64_t batch;
};

// Columns of the widest resident tile that fits: 2 to 32; 0: none does.
int widest_tile(const PlanView& plan, int64_t itemsize, const Device& device);

// Columns of the tile to run: about the batch over the multiprocessors, as many as fit; 0: none fits, stream.
int tile_columns(const PlanView& plan, int64_t batch, int64_t itemsize, const Device& device);

// columns: of a resident tile, or 0.
template <class T>
void run_forward(const PlanView& plan, const ForwardArrays<T>& arrays, int columns, Stream stream);
template <class T>
void run_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, Stream stream);

}  // namespace freewire::cuda

// SPDX-License-Identifier: MIT
// Which regime and which tile a call on a GPU takes, and the sizes of what it allocates besides its results: the
// operators allocate by them, and the planner adds them up for Network.memory. No CUDA headers here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>

#include "allocations.h"
#include "cuda/common/host.h"
#include "cuda/network/packed.h"
#include "number.h"
#include "plan_view.h"

namespace freewire::cuda {

constexpr int64_t kPitchColumns = kTapePadding;
constexpr int64_t kSliceColumns = 2048;  // samples that one block sums for a weight gradient

constexpr int64_t pitch_of(int64_t batch) { return blocks_of(batch, kPitchColumns) * kPitchColumns; }
constexpr int64_t slices_of(int64_t batch) { return blocks_of(batch, kSliceColumns); }
// Whether parameter gradients are sums of partial ones: of several slices, or computed in a wider type than stored.
template <class T>
constexpr bool adds_slices(int64_t batch) {
  return slices_of(batch) > 1 || kNarrow<T>;
}

// ---- which tile fits ----

constexpr int kNarrowestTile = 2, kWidestTile = 32;  // columns

// Shared memory of a resident block: a tile of that many rows and one of zeros, then a Path (walk.h).
constexpr int64_t resident_bytes(const PlanSizes& plan, int64_t rows, int64_t columns, int64_t itemsize) {
  return (rows + 1) * columns * itemsize +
         (plan.num_slots + plan.num_levels + 1) * static_cast<int64_t>(sizeof(int32_t));
}

// Columns, 2 to 32, of the widest resident tile that fits, given its rows and the bytes of a number; 0 if none does.
inline int widest_tile(const PlanSizes& plan, int64_t rows, int64_t itemsize, const Device& device) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();  // packed nodes count edges in 32 bits
  if (forward_edges(plan) > kMost || backward_edges(plan) > kMost) return 0;
  int columns = kWidestTile;
  while (columns >= kNarrowestTile && resident_bytes(plan, rows, columns, itemsize) > device.shared_bytes) columns /= 2;
  return columns < kNarrowestTile ? 0 : columns;
}

// Columns of the tile to run: about the batch over the multiprocessors, if that many fit; 0 to stream, where none fits.
inline int tile_columns(const PlanSizes& plan, int64_t batch, int64_t rows, int64_t itemsize, const Device& device) {
  int columns = widest_tile(plan, rows, itemsize, device);
  // Narrow enough for every multiprocessor to have a tile: a tile's time hardly depends on its width, but idle
  // multiprocessors cost.
  while (columns > kNarrowestTile && batch <= int64_t{columns / 2} * device.multiprocessors) columns /= 2;
  return columns;
}

// Rows of the forward's tile. keep: the call returns a tape. The backward's tile has a row per slot.
constexpr int64_t forward_rows(const PlanSizes& plan, bool keep) { return keep ? plan.num_slots : plan.scratch_rows; }

// ---- what a call allocates; columns are those of the tile, 0 where the call streams ----

template <class T>
struct ForwardWorkspace {
  using C = Compute<T>;
  // keep: the call returns a tape, which then is what a streamed call works in.
  ForwardWorkspace(const PlanSizes& plan, int64_t batch, bool keep, int columns)
      : rows{columns || keep ? 0 : plan.scratch_rows * pitch_of(batch)},
        edges{columns ? forward_edges(plan) : 0},
        nodes{columns ? plan.num_computed() : 0},
        begins{columns ? plan.num_computed() : 0} {}
  int64_t bytes() const { return rows.bytes() + edges.bytes() + nodes.bytes() + begins.bytes(); }

  Elements<T> rows;
  Elements<Edge<C>> edges;
  Elements<ForwardNode<C>> nodes;
  Elements<int32_t> begins;
};

template <class T>
struct BackwardWorkspace {
  using C = Compute<T>;
  BackwardWorkspace(const PlanSizes& plan, int64_t batch, bool need_parameters, int columns)
      : delta{plan.num_computed() * pitch_of(batch)},
        shares{plan.gather_edges * pitch_of(batch)},
        rows{columns ? 0 : plan.num_slots * pitch_of(batch)},
        partial{need_parameters && adds_slices<T>(batch)
                    ? std::max<int64_t>(slices_of(batch), 1) * (plan.num_edges + plan.num_biases)
                    : 0},
        edges{columns ? backward_edges(plan) : 0},
        slots{columns ? plan.num_slots : 0},
        begins{columns ? plan.num_slots : 0} {}
  int64_t bytes() const {
    return delta.bytes() + shares.bytes() + rows.bytes() + partial.bytes() + edges.bytes() + slots.bytes() +
           begins.bytes();
  }

  Elements<C> delta, shares, rows, partial;
  Elements<Edge<C>> edges;
  Elements<BackwardSlot<C>> slots;
  Elements<int32_t> begins;
};

// The most that one call holds at once besides x and the parameters: a forward without gradients, or a training step.
template <class T>
int64_t call_bytes(const PlanSizes& plan, int64_t batch, bool training, const Device& device, Wanted wanted) {
  const Results<T> results(plan, batch, wanted, false);
  const int forward_columns = widest_tile(plan, forward_rows(plan, training), sizeof(T), device);
  const ForwardWorkspace<T> forward(plan, batch, training, forward_columns);
  if (!training) return results.y.bytes() + forward.bytes();
  const int backward_columns = widest_tile(plan, plan.num_slots, sizeof(Compute<T>), device);
  const BackwardWorkspace<T> backward(plan, batch, wanted.parameters, backward_columns);
  return results.training_bytes(forward.bytes(), backward.bytes());
}

}  // namespace freewire::cuda

// SPDX-License-Identifier: MIT
// How a population is divided among the blocks of a GPU, what a block has in shared memory, and the sizes of what a
// call allocates besides its results. No CUDA headers here.
//
// The host knows the members' sizes only by their maxima: `largest` has the largest of each size of any member.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "allocations.h"
#include "cuda/common/host.h"
#include "number.h"
#include "plan_view.h"

namespace freewire::cuda {

// Columns of a tile: 2, 8 or 32. With FREEWIRE_TWO_TILES, as in resident.h, there is no tile of 8.
constexpr int kNarrowTile = 2, kWideTile = 32;
#if defined(FREEWIRE_TWO_TILES)
constexpr int kTileStep = 16;
#else
constexpr int kTileStep = 4;
#endif

// The narrowest tile that is as wide as the batch, or the widest.
constexpr int covering_tile(int64_t batch) {
  int columns = kNarrowTile;
  while (columns < batch && columns < kWideTile) columns *= kTileStep;
  return columns;
}

// Columns of a row on the tape: whole tiles of every width, and no more than kept_elements() has room for. A few
// samples have short rows.
constexpr int64_t population_pitch(int64_t batch) {
  return batch <= kWideTile ? (batch ? covering_tile(batch) : 0) : padded_batch(batch);
}

// ---- what a block has in shared memory ----

// A computed node, an in-edge; a slot, an out-edge. C is the type that is computed in.
template <class C>
struct MemberNode {
  int32_t first, count;  // in-edges, in canonical order
  int32_t kind;          // kind_of() of packed.h
  int32_t row;           // where its value goes
  int32_t kept_row;      // of the tape, for its pre-activation, or -1
  C bias;
};
template <class C>
struct MemberEdge {
  int32_t row;  // which it reads
  C weight;
};
template <class C>
struct MemberSlot {
  int32_t first, count;    // edges to readers that are linear, in the plan's order of out-edges
  int32_t kind;            // kind_of()
  int32_t derivative_row;  // the tape row from which the derivative is computed; -1 for an input
  int32_t output;          // index of the output, or -1
  int32_t bias;            // entry of the member's bias; -1 for an input
  C scale;                 // 1 / fan-in of a mean, else 1
};
template <class C>
struct MemberOutEdge {
  int32_t row;   // the reader's
  int32_t edge;  // canonical number
  C weight;
};

constexpr int64_t kRoundBytes = 16;
constexpr int64_t rounded(int64_t bytes) { return (bytes + kRoundBytes - 1) / kRoundBytes * kRoundBytes; }
constexpr int64_t kViewBytes = rounded(sizeof(PlanView));

// Where things are, in bytes: the plan, rows of a tile, and copies of the starts of the levels, of nodes and of edges.
// Rows that do not fit `limit` bytes are in global memory; copies that do not fit are not made, and what they would
// hold is read from the plan.
template <class Row, class Node, class Edge>
struct MemberLayout {
  constexpr MemberLayout(const PlanSizes& plan, int64_t num_rows, int64_t num_nodes, int64_t num_edges, int columns,
                         int64_t limit, bool rows_allowed)
      : bare(kViewBytes + rounded(num_rows * columns * static_cast<int64_t>(sizeof(Row)))),
        resident(rows_allowed && bare <= limit),
        levels(resident ? bare : kViewBytes),
        nodes(levels + rounded((plan.num_levels + 1) * static_cast<int64_t>(sizeof(int32_t)))),
        edges(nodes + rounded(num_nodes * static_cast<int64_t>(sizeof(Node)))),
        end(edges + rounded(num_edges * static_cast<int64_t>(sizeof(Edge)))),
        copied(end <= limit) {}
  int64_t bare;  // end of the rows
  bool resident;
  int64_t levels, nodes, edges, end;
  bool copied;
};

template <class T>
using ForwardLayout = MemberLayout<T, MemberNode<Compute<T>>, MemberEdge<Compute<T>>>;
template <class T>
constexpr ForwardLayout<T> forward_layout(const PlanSizes& plan, bool keep, int columns, int64_t limit,
                                          bool rows_allowed) {
  return {plan,        keep ? plan.num_slots : plan.scratch_rows, plan.num_computed(), plan.num_edges, columns, limit,
          rows_allowed};
}
template <class T>
using BackwardLayout = MemberLayout<Compute<T>, MemberSlot<Compute<T>>, MemberOutEdge<Compute<T>>>;
template <class T>
constexpr BackwardLayout<T> backward_layout(const PlanSizes& plan, int columns, int64_t limit, bool rows_allowed) {
  return {plan, plan.num_slots, plan.num_slots, plan.num_live_edges, columns, limit, rows_allowed};
}

// ---- how a call is divided ----

// Threads of a block, at most; blocks of as many threads that fit a multiprocessor by their registers, at least, since
// without a bound the compiler spills to make room for more; and blocks per multiprocessor that there should be work
// for.
template <class T>
constexpr int kMemberThreads = sizeof(Compute<T>) == 8 ? 128 : 256;
template <class T>
constexpr int kMemberBlocks = 512 / kMemberThreads<T>;
constexpr int kFewestThreads = 64, kBlocksWanted = 8;
// Splits of the batch, at most: each has sums of weight gradients of its own.
constexpr int kMostSplits = 64;

// requested: columns of a tile, 0 for rows in global memory, or kAnyTile.
constexpr int kAnyTile = -1;

struct PopulationTiling {
  int columns;           // of a tile
  int splits;            // blocks per member: block s takes tiles s, s + splits, ...
  int threads;           // per block
  int64_t shared_bytes;  // per block
  bool rows_allowed;     // whether rows may be in shared memory at all
  bool spills;           // whether the largest member's rows do not fit there
};

// layout(columns, limit, rows_allowed) -> the layout of the largest member. samples: those that tiles cover.
template <class Layout>
PopulationTiling population_tiling(const PlanSizes& largest, int64_t members, int64_t samples, int most_threads,
                                   const Device& device, int requested, const Layout& layout) {
  PopulationTiling tiling{covering_tile(samples), 1, kFewestThreads, 0, requested != 0, false};
  int& columns = tiling.columns;
  // At a fourth of what a block may have, a multiprocessor runs four blocks; each costs 1 KiB besides.
  const int64_t share = std::max(kViewBytes, device.shared_bytes / int64_t{4} - 1024), all = device.shared_bytes;
  const auto bare = [&](int width) { return layout(width, all, true).bare; };
  if (requested > 0) {
    while (columns > requested) columns /= kTileStep;
  } else {
    // Narrow enough for every multiprocessor to have a tile, as for one network (workspace.h).
    while (columns > kNarrowTile && members * blocks_of(samples, columns / kTileStep) <= device.multiprocessors) {
      columns /= kTileStep;
    }
  }
  if (requested == kAnyTile && bare(kNarrowTile) <= all) {
    while (columns > kNarrowTile && bare(columns) > share) columns /= kTileStep;
  }
  const bool roomy = bare(columns) > share && bare(columns) <= all;  // one member's rows alone take more
  tiling.shared_bytes =
      tiling.rows_allowed && roomy ? bare(columns) : std::min(share, layout(columns, share, tiling.rows_allowed).end);
  tiling.spills = !layout(columns, tiling.shared_bytes, tiling.rows_allowed).resident;

  const int64_t tiles = blocks_of(samples, columns), wanted = int64_t{kBlocksWanted} * device.multiprocessors;
  const int64_t splits = std::min({blocks_of(wanted, std::max<int64_t>(members, 1)), tiles, int64_t{kMostSplits}});
  if (splits > 1) tiling.splits = static_cast<int>(blocks_of(tiles, blocks_of(tiles, splits)));
  constexpr int kLanes = 8;  // per node, at least
  while (tiling.threads < largest.level_width * kLanes && tiling.threads < most_threads) tiling.threads *= 2;
  return tiling;
}

// Calls body(std::integral_constant<int, columns>{}) for the width of a tile.
template <class Body>
void with_tile(int columns, Body&& body) {
  switch (columns) {
    case kNarrowTile:
      return body(std::integral_constant<int, kNarrowTile>{});
#if !defined(FREEWIRE_TWO_TILES)
    case kNarrowTile* kTileStep:
      return body(std::integral_constant<int, kNarrowTile * kTileStep>{});
#endif
    default:
      return body(std::integral_constant<int, kWideTile>{});
  }
}

template <class T>
PopulationTiling forward_tiling(const PlanSizes& largest, int64_t members, int64_t batch, bool keep,
                                const Device& device, int requested) {
  // A kept tape is written to the end of its rows, since the backward may take wider tiles.
  return population_tiling(largest, members, keep ? population_pitch(batch) : batch, kMemberThreads<T>, device,
                           requested, [&](int columns, int64_t limit, bool rows_allowed) {
                             return forward_layout<T>(largest, keep, columns, limit, rows_allowed);
                           });
}

template <class T>
PopulationTiling backward_tiling(const PlanSizes& largest, int64_t members, int64_t batch, const Device& device,
                                 int requested) {
  return population_tiling(largest, members, batch, kMemberThreads<T>, device, requested,
                           [&](int columns, int64_t limit, bool rows_allowed) {
                             return backward_layout<T>(largest, columns, limit, rows_allowed);
                           });
}

// ---- what a call allocates ----

template <class T>
struct PopulationForwardWorkspace {
  // tape_rows: of all members together. A kept tape is what rows that do not fit shared memory are in.
  PopulationForwardWorkspace(int64_t tape_rows, int64_t batch, bool keep, const PopulationTiling& tiling)
      : rows{tiling.spills && !keep ? tape_rows * population_pitch(batch) : 0} {}
  int64_t bytes() const { return rows.bytes(); }

  Elements<T> rows;  // [tape_rows, pitch]
};

// Whether the gradients of parameters are sums of partial ones: of several blocks, or of several tiles in a wider type
// than they are stored in.
template <class T>
constexpr bool adds_tiles(int64_t batch, const PopulationTiling& tiling) {
  return tiling.splits > 1 || (kNarrow<T> && batch > tiling.columns);
}

template <class T>
struct PopulationBackwardWorkspace {
  using C = Compute<T>;
  // num_edges, num_biases: of all members together; num_biases is 0 where their gradients are not needed.
  PopulationBackwardWorkspace(const PlanSizes& largest, int64_t members, int64_t tape_rows, int64_t num_edges,
                              int64_t num_biases, int64_t batch, bool need_parameters, const PopulationTiling& tiling)
      : width(int64_t{tiling.splits} * tiling.columns),
        share_rows(members * largest.gather_edges < num_edges ? largest.gather_edges : 0),
        rows{tiling.spills ? tape_rows * width : 0},
        shares{largest.gather_edges ? (share_rows ? members * share_rows : num_edges) * width : 0},
        partial{need_parameters && adds_tiles<T>(batch, tiling) ? tiling.splits * (num_edges + num_biases) : 0} {}
  int64_t bytes() const { return rows.bytes() + shares.bytes() + partial.bytes(); }

  int64_t width;        // columns of rows and shares: those of one tile per split
  int64_t share_rows;   // per member, or 0: as many as it has edges
  Elements<C> rows;     // [tape_rows, width] gradients
  Elements<C> shares;   // [members, share_rows, width], or [num_edges, width]
  Elements<C> partial;  // [splits, num_edges + num_biases]
};

}  // namespace freewire::cuda

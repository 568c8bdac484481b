// SPDX-License-Identifier: MIT
// The resident regime: one block per tile of the batch, its rows in shared memory.
#pragma once

#include <type_traits>

#include "cuda/network/gather.h"
#include "cuda/network/kernels.h"

namespace freewire::cuda {

// packed: as for run_forward() of kernels.h.
template <class T>
void resident_forward(const PlanView& plan, const ForwardArrays<T>& arrays, int columns, bool packed, Stream stream);
template <class T>
void resident_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, bool packed, Stream stream);

// Threads of a block. Doubles take twice the registers.
template <class T>
constexpr int kResidentThreads = sizeof(T) == 8 ? 256 : 512;

// How lanes divide the work, by the average number of edges per node. With few lanes per node more nodes share what a
// node costs besides its edges, and a level takes fewer rounds; with many, a node of many edges takes fewer steps.
constexpr int kSmallTeam = 8, kWholeWarp = 32;
constexpr int kFewEdges = 8, kUsualEdges = 32;
constexpr int64_t kManyEdges = 64;  // from here on a whole warp

// Calls body(Lanes<T, columns, ...>{}). With FREEWIRE_TWO_TILES, which the sanitizers' programs set because they take
// minutes to compile, only the narrowest tile and one wide tile exist.
template <class T, class Body>
void with_lanes(const PlanView& plan, int columns, Body&& body) {
  const auto with_columns = [&](auto width) {
    constexpr int kColumns = decltype(width)::value;
    const int64_t nodes = plan.num_computed();
    if (plan.num_live_edges > kManyEdges * nodes) {
      body(Lanes<T, kColumns, kWholeWarp, kUsualEdges>{});
    } else if (plan.num_live_edges > (kFewEdges + kUsualEdges) / 2 * nodes) {
      body(Lanes<T, kColumns, kSmallTeam, kUsualEdges>{});
    } else {
      body(Lanes<T, kColumns, kSmallTeam, kFewEdges>{});
    }
  };
  switch (columns) {
    case 2:
      return with_columns(std::integral_constant<int, 2>{});
#if !defined(FREEWIRE_TWO_TILES)
    case 4:
      return with_columns(std::integral_constant<int, 4>{});
    case 8:
      return with_columns(std::integral_constant<int, 8>{});
    case 32:
      return with_columns(std::integral_constant<int, 32>{});
#endif
    default:
      return with_columns(std::integral_constant<int, 16>{});
  }
}

}  // namespace freewire::cuda

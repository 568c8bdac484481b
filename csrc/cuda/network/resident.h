// SPDX-License-Identifier: MIT
// The resident regime: a block a tile of the batch, its rows in shared memory.
#pragma once

#include <type_traits>

#include "cuda/network/gather.h"
#include "cuda/network/kernels.h"

namespace freewire::cuda {

template <class T>
void resident_forward(const PlanView& plan, const ForwardArrays<T>& arrays, int columns, Stream stream);
template <class T>
void resident_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, Stream stream);

// Of a block. Doubles take twice the registers.
template <class T>
constexpr int kResidentThreads = sizeof(T) == 8 ? 256 : 512;

// Shared memory of a block: so many rows and one of zeros, then a Path.
inline int64_t resident_bytes(const PlanView& plan, int64_t rows, int64_t columns, int64_t itemsize) {
  return (rows + 1) * columns * itemsize +
         (plan.num_slots + plan.num_levels + 1) * static_cast<int64_t>(sizeof(int32_t));
}

// How lanes share out the work, by the edges a node has on average. Few lanes a node: what a node costs beside its
// edges is shared by more nodes, and a level takes fewer rounds. Many: a node of many edges takes fewer steps.
constexpr int kSmallTeam = 8, kWholeWarp = 32;
constexpr int kFewEdges = 8, kUsualEdges = 32;
constexpr int64_t kManyEdges = 64;  // from here on a whole warp

// Calls body(Lanes<T, columns, ...>{}). FREEWIRE_TWO_TILES, for the sanitizers' programs, which take minutes to
// compile, knows the narrowest tile and a wide one.
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

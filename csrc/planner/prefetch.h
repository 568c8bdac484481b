// SPDX-License-Identifier: MIT
// Prefetches entries that will be read or written in random order, so that many cache misses overlap.
//
// A prefetch is a hint to the processor and cannot fail: entries out of range are skipped. It took a third off the time
// of ordering 10 million edges (docs/design.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace freewire::planner {

constexpr size_t kAhead = 32;  // edges

template <class T>
void prefetch(std::span<T> table, int64_t place) {
  if (static_cast<uint64_t>(place) < table.size()) __builtin_prefetch(&table[place], 1);
}

// Prefetches table[places[at]], if there is such an entry.
template <class Place, class T>
void prefetch(std::span<const Place> places, size_t at, std::span<T> table) {
  if (at < places.size()) prefetch(table, places[at]);
}

}  // namespace freewire::planner

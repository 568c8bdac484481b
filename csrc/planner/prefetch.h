// SPDX-License-Identifier: MIT
// Asking early for what will be read or written in no order, so that many such accesses wait together.
//
// Enters: a list of places and how far its reader is. Leaves: a hint to the processor, which can do no harm: entries
// out of range are passed over. It took a third off the time of ordering 10 million edges (docs/design.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace freewire::planner {

constexpr size_t kAhead = 32;  // edges

template <class T>
void ask_for(std::span<T> table, int64_t place) {
  if (static_cast<uint64_t>(place) < table.size()) __builtin_prefetch(&table[place], 1);
}

// For the entry of the table that places[at] names, where there is one.
template <class Place, class T>
void ask_for(std::span<const Place> places, size_t at, std::span<T> table) {
  if (at < places.size()) ask_for(table, places[at]);
}

}  // namespace freewire::planner

// SPDX-License-Identifier: MIT
// Hashes of the sources of a node, and a table that finds equal hashes in linear time.
//
// Hashes only propose: whoever uses them compares the sources themselves, so a collision costs a block and no result.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <vector>

namespace freewire::planner {

// Hashes a slot number to 64 bits (the finalizer of splitmix64).
constexpr uint64_t mixed(uint32_t slot) {
  uint64_t x = (uint64_t{slot} + 1) * 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

struct SourceHash {
  uint64_t all = 0;  // equal for equal lists
  // The smallest upper and the smallest lower half of a source's hash: equal for two lists with the probability that a
  // source of either is one of both, squared (min-wise hashing; Broder 1997, On the resemblance and containment of
  // documents).
  uint64_t smallest = 0;
};

inline SourceHash hash_sources(std::span<const int32_t> sources) {
  uint64_t sum = 0;
  uint32_t high = UINT32_MAX, low = UINT32_MAX;
  for (const int32_t source : sources) {
    const uint64_t hash = mixed(static_cast<uint32_t>(source));
    sum += hash;
    high = std::min(high, static_cast<uint32_t>(hash >> 32));
    low = std::min(low, static_cast<uint32_t>(hash));
  }
  return {sum, uint64_t{high} << 32 | low};
}

// Open addressing over entries 0 to n - 1 of an array of hashes.
class HashTable {
 public:
  // Empties the table and makes room for count entries.
  void start(size_t count) { table_.assign(std::bit_ceil(2 * count), -1); }

  // The first entry that was added with the hash of this entry, which is added if there is none.
  int32_t first(std::span<const uint64_t> hashes, int32_t entry) {
    const size_t mask = table_.size() - 1;
    size_t place = hashes[entry] & mask;
    while (table_[place] >= 0 && hashes[table_[place]] != hashes[entry]) place = (place + 1) & mask;
    if (table_[place] < 0) table_[place] = entry;
    return table_[place];
  }

 private:
  std::vector<int32_t> table_;
};

}  // namespace freewire::planner

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

// Equal for equal lists.
inline uint64_t hash_sources(std::span<const int32_t> sources) {
  uint64_t sum = 0;
  for (const int32_t source : sources) sum += mixed(static_cast<uint32_t>(source));
  return sum;
}

// Equal for equal lists that are not empty; reads four sources.
inline uint64_t hash_some_sources(std::span<const int32_t> sources) {
  const size_t count = sources.size();
  uint64_t hash = mixed(static_cast<uint32_t>(count));
  for (const size_t at : {size_t{0}, count / 3, count - count / 3 - 1, count - 1}) {
    hash = hash * 0x9E3779B97F4A7C15 + mixed(static_cast<uint32_t>(sources[at]));
  }
  return hash;
}

// The smallest of two cheap hashes of the sources: equal for two lists with about the probability that a source of
// either is one of both, squared (min-wise hashing; Broder 1997, On the resemblance and containment of documents).
inline uint64_t smallest_hashes(std::span<const int32_t> sources) {
  uint32_t first = UINT32_MAX, second = UINT32_MAX;
  for (const int32_t source : sources) {
    const uint32_t number = static_cast<uint32_t>(source) + 1;
    first = std::min(first, number * 0x9E3779B1);
    second = std::min(second, number * 0x85EBCA77);
  }
  return uint64_t{first} << 32 | second;
}

// Open addressing over entries 0 to n - 1 of an array of hashes.
class HashTable {
 public:
  // Empties the table and makes room for count entries.
  void start(size_t count) { table_.assign(std::bit_ceil(2 * count), -1); }

  // The first entry that was added with the hash of this one, which is added if there is none.
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

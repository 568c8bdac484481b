// SPDX-License-Identifier: MIT
// How much of a plan is dense blocks; see twins.h.
#include "planner/twins.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "planner/check.h"

namespace freewire::planner {

namespace {

// Hashes a slot number to 64 bits (the finalizer of splitmix64), so that different sets of slots have different sums.
constexpr uint64_t mixed(uint64_t slot) {
  uint64_t x = (slot + 1) * 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

}  // namespace

int64_t count_twin_edges(std::span<const int64_t> level_ptr, int64_t num_inputs, std::span<const int64_t> in_begin,
                         std::span<const int64_t> in_end, std::span<const int32_t> in_src) {
  const auto num_edges = static_cast<int64_t>(in_src.size()), num_computed = static_cast<int64_t>(in_begin.size());
  require(in_end.size() == in_begin.size(), "in_end: expected as many entries as in_begin, got another number.");
  require(num_inputs >= 0 && level_ptr.size() >= 2 && level_ptr[1] >= num_inputs &&
              level_ptr.back() == num_inputs + num_computed && std::is_sorted(level_ptr.begin() + 1, level_ptr.end()),
          "level_ptr: expected the slots of each level, got others.");
  int64_t twin_edges = 0;
  std::vector<std::pair<uint64_t, int64_t>> keys;  // (hash of the sources, fan-in) of each of a level's nodes
  for (size_t level = 0; level + 1 < level_ptr.size(); ++level) {
    keys.clear();
    const int64_t first = level ? level_ptr[level] : num_inputs;
    for (int64_t c = first - num_inputs; c < level_ptr[level + 1] - num_inputs; ++c) {
      require(0 <= in_begin[c] && in_begin[c] <= in_end[c] && in_end[c] <= num_edges,
              "in_begin: expected edges of in_src, got others.");
      uint64_t sources = 0;
      for (int64_t e = in_begin[c]; e < in_end[c]; ++e) sources += mixed(static_cast<uint32_t>(in_src[e]));
      keys.emplace_back(sources, in_end[c] - in_begin[c]);
    }
    std::sort(keys.begin(), keys.end());
    for (auto run = keys.begin(); run != keys.end();) {
      const auto next = std::find_if(run, keys.end(), [&](const auto& key) { return key != *run; });
      if (next - run > 1) twin_edges += (next - run) * run->second;
      run = next;
    }
  }
  return twin_edges;
}

}  // namespace freewire::planner

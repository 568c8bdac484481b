// SPDX-License-Identifier: MIT
// Which nodes can be reached, forward or backward; see reach.h.
#include "planner/reach.h"

#include "planner/check.h"

namespace freewire::planner {

void spread(std::span<const int64_t> src, std::span<const int64_t> dst, bool backward, std::span<bool> reached) {
  require(src.size() == dst.size(), "dst: expected as many entries as src, got another number.");
  const auto num_edges = static_cast<int64_t>(src.size());
  for (int64_t i = 0; i < num_edges; ++i) {
    const int64_t e = backward ? num_edges - 1 - i : i;
    const auto near = static_cast<uint64_t>(backward ? dst[e] : src[e]);
    const auto far = static_cast<uint64_t>(backward ? src[e] : dst[e]);
    require(near < reached.size() && far < reached.size(), "edges: expected node numbers, got one out of range.");
    if (reached[near]) reached[far] = true;
  }
}

}  // namespace freewire::planner

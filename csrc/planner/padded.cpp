// SPDX-License-Identifier: MIT
// Groups of nodes with nearly the same sources; see padded.h.
#include "planner/padded.h"

#include <algorithm>
#include <utility>

namespace freewire::planner {

const std::vector<PaddedGroups::Group>& PaddedGroups::find(std::span<const int32_t> nodes) {
  found_.clear();
  last_group_.resize(in_.num_slots());
  std::vector<std::pair<uint64_t, int32_t>> order;  // (first source, last source), node
  for (const int32_t node : nodes) {
    const auto sources = in_.sources(node);
    if (std::adjacent_find(sources.begin(), sources.end()) != sources.end()) continue;
    order.emplace_back(uint64_t{static_cast<uint32_t>(sources.front())} << 32 | static_cast<uint32_t>(sources.back()),
                       node);
  }
  std::sort(order.begin(), order.end());
  ++number_;
  for (const auto& [key, node] : order) {
    if (join(node)) continue;
    close();
    join(node);  // cannot fail: the group is empty
  }
  close();
  return found_;
}

// Adds a node to the open group unless that pads too much; then the group must be closed.
bool PaddedGroups::join(int32_t node) {
  const auto sources = in_.sources(node);
  const auto size = static_cast<int64_t>(open_.nodes.size()) + 1;
  const int64_t edges = open_edges_ + static_cast<int64_t>(sources.size());
  // The most sources that the group may have with this node.
  const int64_t most = kPadding10 * edges / (10 * size);
  const size_t before = open_.sources.size();
  for (const int32_t source : sources) {
    if (last_group_[source] == number_) continue;
    if (static_cast<int64_t>(open_.sources.size()) >= most) {
      open_.sources.resize(before);  // their marks stay: the group is closed now
      return false;
    }
    last_group_[source] = number_;
    open_.sources.push_back(source);
  }
  if (static_cast<int64_t>(open_.sources.size()) > most) return false;  // the node reads too few; nothing was added
  open_.nodes.push_back(node);
  open_edges_ = edges;
  return true;
}

void PaddedGroups::close() {
  if (open_.nodes.size() >= kPaddedNodes && open_.sources.size() >= kPaddedSources) {
    std::sort(open_.nodes.begin(), open_.nodes.end());
    // Canonical order is that of slots, but for level 0, where inputs have the order of the features.
    std::sort(open_.sources.begin(), open_.sources.end(), [&](int32_t a, int32_t b) {
      return a < in_.level_ptr[1] && b < in_.level_ptr[1] ? in_.slot_node[a] < in_.slot_node[b] : a < b;
    });
    found_.push_back(open_);
  }
  open_.nodes.clear();
  open_.sources.clear();
  open_edges_ = 0;
  ++number_;
}

}  // namespace freewire::planner

// SPDX-License-Identifier: MIT
// The order in which the CPU runs the nodes; see components.h.
#include "planner/components.h"

#include <numeric>
#include <utility>

namespace freewire::planner {

namespace {

// Disjoint sets of slots, joined by size.
class Sets {
 public:
  explicit Sets(int64_t count) : parent_(count), size_(count, 1) { std::iota(parent_.begin(), parent_.end(), 0); }

  int32_t find(int32_t slot) {
    while (parent_[slot] != slot) slot = parent_[slot] = parent_[parent_[slot]];
    return slot;
  }

  // Joins two different sets, given by their roots, and returns the root of the result.
  int32_t join(int32_t a, int32_t b) {
    if (size_[a] < size_[b]) std::swap(a, b);
    parent_[b] = a;
    size_[a] += size_[b];
    return a;
  }

  int64_t size(int32_t root) const { return size_[root]; }

 private:
  std::vector<int32_t> parent_, size_;
};

// The component of each slot, or nothing if one is too large.
std::vector<int32_t> numbered(const InEdges& in) {
  if (!in.num_computed()) return {};
  Sets sets(in.num_slots());
  for (int64_t node = 0; node < in.num_computed(); ++node) {
    auto root = static_cast<int32_t>(in.num_inputs + node);  // of a set of its own: later slots are not joined yet
    for (const int32_t source : in.sources(node)) {
      const int32_t other = sets.find(source);
      if (other == root) continue;
      root = sets.join(root, other);
      if (sets.size(root) > kComponentSlots) return {};
    }
  }
  std::vector<int32_t> of_slot(in.num_slots()), number(in.num_slots(), -1);
  int32_t count = 0;
  for (int64_t slot = 0; slot < in.num_slots(); ++slot) {
    int32_t& mine = number[sets.find(static_cast<int32_t>(slot))];
    if (mine < 0) mine = count++;
    of_slot[slot] = mine;
  }
  return of_slot;
}

}  // namespace

Components find_components(const InEdges& in) {
  Components found{numbered(in), {0}, std::vector<int32_t>(in.num_computed())};
  if (!found.of_slot.empty()) {
    const auto component = std::span(found.of_slot).subspan(in.num_inputs);
    std::vector<int64_t> next(in.num_slots() + 1);  // where each component's next node goes
    for (const int32_t each : component) ++next[each + 1];
    for (int64_t c = 0, count = 0; c < in.num_slots(); ++c) {
      if (next[c + 1]) found.ptr.push_back(count += next[c + 1]);
      next[c + 1] += next[c];
    }
    if (found.ptr.size() > 2) {
      for (size_t node = 0; node < component.size(); ++node) {
        found.nodes[next[component[node]]++] = static_cast<int32_t>(node);
      }
      return found;
    }
  }
  found.of_slot.clear();
  found.ptr.resize(1);
  std::iota(found.nodes.begin(), found.nodes.end(), 0);
  return found;
}

}  // namespace freewire::planner

// SPDX-License-Identifier: MIT
// Rows of the tape for inference; see rows.h.
#include "planner/rows.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "planner/check.h"

namespace freewire::planner {

namespace {

constexpr int32_t kNone = -1;

// A stack of free rows for each component, as linked lists.
class FreeRows {
 public:
  FreeRows(std::span<const int32_t> component, int64_t num_slots)
      : component_(component), top_(component.empty() ? 1 : num_slots, kNone), below_(num_slots) {}

  void push(int64_t slot, int32_t row) { below_[row] = std::exchange(top_of(slot), row); }

  // The row that was freed last in the slot's component, or kNone.
  int32_t pop(int64_t slot) {
    int32_t& top = top_of(slot);
    return top == kNone ? kNone : std::exchange(top, below_[top]);
  }

 private:
  int32_t& top_of(int64_t slot) { return top_[component_.empty() ? 0 : component_[slot]]; }

  std::span<const int32_t> component_;
  std::vector<int32_t> top_, below_;
};

}  // namespace

void assign_rows(std::span<const int64_t> level_ptr, int64_t num_inputs, std::span<const int32_t> component,
                 std::span<const int64_t> out_ptr, std::span<const int64_t> out_sparse,
                 std::span<const int64_t> out_split, std::span<const int32_t> out_dst, std::span<const bool> is_output,
                 std::span<int32_t> row) {
  const auto num_slots = static_cast<int64_t>(row.size()), num_edges = static_cast<int64_t>(out_dst.size());
  require(num_slots <= int64_t{1} << 31, "row: expected at most 2^31 slots, got more.");
  require(num_inputs >= 0 && num_inputs <= num_slots, "num_inputs: expected at most one per slot, got another number.");
  require(static_cast<int64_t>(out_ptr.size()) == num_slots + 1,
          "out_ptr: expected one entry per slot and one more, got another number.");
  require(out_split.size() == row.size() && out_sparse.size() == row.size(),
          "out_split: expected one entry per slot, got another number.");
  require(component.empty() || component.size() == row.size(),
          "component: expected one entry per slot or none, got another number.");
  for (const int32_t each : component) {
    require(each >= 0 && each < num_slots, "component: expected numbers below that of slots, got others.");
  }
  require(is_output.size() == row.size(), "is_output: expected one entry per slot, got another number.");
  require(
      level_ptr.size() >= 2 && level_ptr.front() == 0 && level_ptr[1] >= num_inputs && level_ptr.back() == num_slots,
      "level_ptr: expected the inputs on level 0 and all slots on some level, got others.");
  require(std::is_sorted(level_ptr.begin(), level_ptr.end()), "level_ptr: expected ascending numbers, got others.");

  // The rows that each slot is the last to read, as linked lists of slots that end with -1. The row of an input that is
  // never read is free from level 1 on.
  std::vector<int32_t> first_done(num_slots, kNone), next_done(num_slots, kNone);
  FreeRows free(component, num_slots);
  for (int64_t s = num_slots - 1; s >= 0; --s) {  // backwards, so that the lists are in order of slots
    if (is_output[s]) continue;
    const int64_t begin = out_ptr[s], sparse = out_sparse[s], split = out_split[s], end = out_ptr[s + 1];
    require(0 <= begin && begin <= sparse && sparse <= split && split <= end && end <= num_edges,
            "out_ptr: expected ascending numbers up to that of edges, got others.");
    int64_t reader = kNone;  // each part of a row of edges is in order of destinations
    if (sparse > begin) reader = out_dst[sparse - 1];
    if (split > sparse) reader = std::max<int64_t>(reader, out_dst[split - 1]);
    if (end > split) reader = std::max<int64_t>(reader, out_dst[end - 1]);
    if (reader == kNone) {
      if (s < num_inputs) free.push(s, static_cast<int32_t>(s));
      continue;
    }
    require(reader > s && reader < num_slots, "out_dst: expected later slots, got others.");
    next_done[s] = first_done[reader];
    first_done[reader] = static_cast<int32_t>(s);
  }

  auto num_rows = static_cast<int32_t>(num_inputs);
  for (int32_t s = 0; s < num_rows; ++s) row[s] = s;
  const auto num_levels = static_cast<int64_t>(level_ptr.size()) - 1;
  for (int64_t level = 0; level < num_levels; ++level) {
    if (level) {
      for (int64_t reader = level_ptr[level - 1]; reader < level_ptr[level]; ++reader) {
        for (int32_t s = first_done[reader]; s != kNone; s = next_done[s]) free.push(s, row[s]);
      }
    }
    for (int64_t s = std::max(level_ptr[level], num_inputs); s < level_ptr[level + 1]; ++s) {
      const int32_t free_row = level ? free.pop(s) : kNone;
      row[s] = free_row == kNone ? num_rows++ : free_row;
    }
  }
}

}  // namespace freewire::planner

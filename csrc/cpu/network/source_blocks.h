// SPDX-License-Identifier: MIT
// Source blocks: where the rows that a stage reads do not fit into the second cache, its edges are run block by block,
// each block those from neighbouring sources, whose rows do fit.
//
// A node's in-edges are in the order of their sources, so those of a block are a run of them; the node's sum is kept in
// its row from block to block. In the backward every row of a source belongs to one block, so threads may push the
// blocks of a stage at the same time. Which stages have blocks, and how many, follows from plan and batch alone, since
// it decides how sums are rounded.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/network/costs.h"
#include "number.h"
#include "plan_view.h"

namespace freewire::cpu {

class SourceBlocks {
 public:
  // row_bytes: of a row of gradients. narrow: whether values are rounded when they are stored, so that no sum can be
  // kept in a row.
  SourceBlocks(const PlanView& plan, int64_t row_bytes, bool narrow) : count_(count(plan, row_bytes, narrow)) {
    if (count_ < 2) return;
    int32_t last = 0;
    for (int64_t slot = 0; slot < plan.num_slots; ++slot) last = std::max(last, plan.source_rank[slot]);
    block_of_.resize(static_cast<size_t>(plan.num_slots));
    for (int64_t slot = 0; slot < plan.num_slots; ++slot) {
      block_of_[slot] = static_cast<uint8_t>(int64_t{plan.source_rank[slot]} * count_ / (int64_t{last} + 1));
    }
    ends_.resize(static_cast<size_t>(plan.num_computed() * (count_ - 1)));
    plan_ = &plan;
  }

  // Whether edges run in blocks.
  bool any() const { return count_ > 1; }
  int64_t count() const { return count_; }

  // Finds the blocks of the nodes [first, last); call it for all nodes before the functions below.
  void find(int64_t first, int64_t last) {
    for (int64_t node = first; node < last; ++node) {
      int64_t e = plan_->in_begin[node];
      for (int64_t block = 0; block + 1 < count_; ++block) {
        while (e < plan_->in_end[node] && block_of_[plan_->in_src[e]] <= block) ++e;
        ends_[node * (count_ - 1) + block] = static_cast<int32_t>(e - plan_->in_begin[node]);
      }
    }
  }
  // The edges of one block into a node.
  int64_t begin(int64_t node, int64_t block) const {
    return plan_->in_begin[node] + (block == 0 ? 0 : ends_[node * (count_ - 1) + block - 1]);
  }
  int64_t end(int64_t node, int64_t block) const {
    return block + 1 == count_ ? plan_->in_end[node] : plan_->in_begin[node] + ends_[node * (count_ - 1) + block];
  }

  // Of a plan, without finding them; 1 where edges do not run in blocks.
  static int64_t count(const PlanSizes& plan, int64_t row_bytes, bool narrow) {
    if (narrow || plan.num_stages == 0 || plan.num_blocks > 0 || plan.gather_edges > 0) return 1;
    const int64_t rows = std::max(plan.num_states, plan.num_slots - plan.num_states);
    if (!kAlways && rows * row_bytes < kBlockedBytes) return 1;
    const int64_t fan_in = plan.num_live_edges / std::max<int64_t>(plan.num_computed(), 1);
    const int64_t wanted = std::min((rows * row_bytes + kBlockBytes - 1) / kBlockBytes, fan_in / kBlockFanIn);
    return std::clamp<int64_t>(wanted, 1, kMostBlocks);
  }
  static int64_t bytes(const PlanSizes& plan, int64_t row_bytes, bool narrow) {
    const int64_t blocks = count(plan, row_bytes, narrow);
    return blocks < 2 ? 0 : plan.num_slots + plan.num_computed() * (blocks - 1) * static_cast<int64_t>(sizeof(int32_t));
  }

 private:
  int64_t count_;
  const PlanView* plan_ = nullptr;
  std::vector<uint8_t> block_of_;  // of each slot
  std::vector<int32_t> ends_;      // [C, blocks - 1] in-edges of each node in a block and those before it
};

}  // namespace freewire::cpu

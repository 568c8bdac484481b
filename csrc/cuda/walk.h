// SPDX-License-Identifier: MIT
// A block's way through the levels of a network, a slot a warp, a barrier a level.
//
// Enters: the plan's levels. Leaves: rounds, in each of which the block's warps take the next slots of one level. What
// a warp needs for a round (the slot's description, its first edges) is asked for a round or two before, across the
// barrier, so that only shared memory's latency lies between two levels.
#pragma once

#include "cuda/device.h"
#include "cuda/gather.h"

namespace freewire::cuda {

// Resident networks have less than 2^16 slots, hence int.
template <bool kRising>
class Round {
 public:
  // Rising: computed nodes from the first level on. Falling: all slots, the last level first.
  static __device__ Round first(const PlanView& plan) {
    Round round;
    round.level_ptr_ = plan.level_ptr;
    round.num_levels_ = static_cast<int>(plan.num_levels);
    round.level_ = kRising ? 0 : round.num_levels_ - 1;
    round.begin_ = kRising ? static_cast<int>(plan.num_inputs) : round.boundary(round.level_);
    round.end_ = round.boundary(round.level_ + 1);
    round.beyond_ = round.boundary(kRising ? round.level_ + 2 : round.level_ - 1);
    round.base_ = round.begin_;
    round.settle();
    return round;
  }

  __device__ bool over() const { return kRising ? level_ >= num_levels_ : level_ < 0; }
  // This warp's slot, and whether it has one in this round.
  __device__ int slot() const { return base_ + warp_in_block(); }
  __device__ bool mine() const { return slot() < end_ && !over(); }
  __device__ bool ends_level() const { return base_ + warps_in_block() >= end_; }

  __device__ void advance() {
    base_ += warps_in_block();
    settle();
  }

 private:
  __device__ int boundary(int level) const {
    return static_cast<int>(level_ptr_[level < 0 ? 0 : level > num_levels_ ? num_levels_ : level]);
  }
  // On to a level with slots left. The boundary after the next is loaded before it is needed.
  __device__ void settle() {
    while (base_ >= end_ && !over()) {
      level_ += kRising ? 1 : -1;
      const int next = beyond_;
      if (kRising) {
        begin_ = end_;
        end_ = next;
        beyond_ = boundary(level_ + 2);
      } else {
        end_ = begin_;
        begin_ = next;
        beyond_ = boundary(level_ - 1);
      }
      base_ = begin_;
    }
  }

  const int64_t* level_ptr_;
  int num_levels_, level_, begin_, end_, beyond_, base_;
};

// Runs every slot of the rounds. describe(slot) -> what is packed for it, with begin and count of its edges;
// early(slot, described) -> what else is best asked for before the sum is there; finish(slot, described, early, sum),
// on all lanes.
template <bool kRising, class T, int kColumns, class Describe, class Early, class Finish>
__device__ __forceinline__ void walk(const PlanView& plan, const Edge<T>* edges, const T* tile, int32_t zero_offset,
                                     Describe&& describe, Early&& early, Finish&& finish) {
  using Description = decltype(describe(0));
  const auto described = [&](const Round<kRising>& round) {
    return round.mine() ? describe(round.slot()) : Description{};
  };
  auto here = Round<kRising>::first(plan);
  Description description = described(here);
  auto next = here;
  next.advance();
  Description next_description = described(next);
  Chunk<T, kColumns> chunk;
  chunk.load(edges + description.begin, description.count, zero_offset);
  while (!here.over()) {
    auto later = next;
    later.advance();
    const Description later_description = described(later);
    Chunk<T, kColumns> next_chunk;
    next_chunk.load(edges + next_description.begin, next_description.count, zero_offset);
    if (here.mine()) {
      const auto asked = early(here.slot(), description);
      const T sum = gather<T, kColumns>(chunk, edges + description.begin, description.count, tile, zero_offset);
      finish(here.slot(), description, asked, sum);
    }
    if (here.ends_level()) __syncthreads();
    here = next;
    next = later;
    description = next_description;
    next_description = later_description;
    chunk = next_chunk;
  }
}

}  // namespace freewire::cuda

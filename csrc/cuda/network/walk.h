// SPDX-License-Identifier: MIT
// How a block goes through the levels of a network: one slot per team of lanes, one barrier per level.
//
// A walk consists of rounds, in each of which the block's teams take the next slots of one level. What a team needs for
// a round (the slot's description and its first edges) is loaded one round ahead, across the barrier, so that only the
// latency of shared memory lies between two levels.
#pragma once

#include "cuda/common/device.h"
#include "cuda/network/gather.h"

namespace freewire::cuda {

// Calls body(feature, column) for the features of a tile, by all lanes of the block. A warp takes four columns (or all,
// of two) of neighbouring features, so that global memory is read in whole sectors and at most four lanes share a bank
// of the tile.
template <int kColumns, class Body>
__device__ __forceinline__ void each_of_tile(int width, Body&& body) {
  constexpr int kSide = kColumns < 4 ? kColumns : 4, kRun = kWarpSize / kSide;
  const int lane = lane_in_warp();
  for (int i = warp_in_block() * kRun + lane / kSide; i < width; i += warps_in_block() * kRun) {
    for (int c = lane % kSide; c < kColumns; c += kSide) body(i, c);
  }
}

// The levels and the starts of the slots' edges, in the block's shared memory behind the tile. Resident networks have
// fewer than 2^16 slots.
struct Path {
  int32_t* level_ptr;  // [num_levels + 1]
  int32_t* begins;     // the first edge of slot first_slot + i
  int num_levels, first_slot;

  // Copies both to shared memory; the caller must synchronise afterwards.
  __device__ static Path load(const PlanView& plan, const int32_t* begins, int first_slot, void* shared) {
    const int count = static_cast<int>(plan.num_slots) - first_slot, levels = static_cast<int>(plan.num_levels);
    Path path{static_cast<int32_t*>(shared), static_cast<int32_t*>(shared) + levels + 1, levels, first_slot};
    for (int i = threadIdx.x; i <= levels; i += blockDim.x) path.level_ptr[i] = static_cast<int32_t>(plan.level_ptr[i]);
    for (int i = threadIdx.x; i < count; i += blockDim.x) path.begins[i] = begins[i];
    return path;
  }
  __device__ int32_t begin(int slot) const { return begins[slot - first_slot]; }
};

template <bool kRising, class L>
class Round {
 public:
  // kRising starts with the first level, otherwise the walk starts with the last. Slots before path.first_slot are
  // skipped.
  static __device__ Round first(const Path& path) {
    Round round;
    round.level_ = kRising ? -1 : path.num_levels;
    round.base_ = round.end_ = 0;
    round.settle(path);
    return round;
  }

  __device__ bool over(const Path& path) const { return kRising ? level_ >= path.num_levels : level_ < 0; }
  // slot(): this team's slot, or another slot of the same level if none is left for it. mine(): whether it has one of
  // its own. warps(): whether any team of its warp has one.
  __device__ int slot() const { return mine() ? own_slot() : end_ - 1; }
  __device__ bool mine() const { return own_slot() < end_; }
  __device__ bool warps() const { return first_of_warp() < end_; }
  __device__ bool ends_level() const { return base_ + warps_in_block() * L::kTeams >= end_; }

  __device__ void advance(const Path& path) {
    base_ += warps_in_block() * L::kTeams;
    settle(path);
  }

 private:
  __device__ int own_slot() const { return first_of_warp() + L::team(); }
  __device__ int first_of_warp() const { return base_ + warp_in_block() * L::kTeams; }
  // Advances to a level with slots left. After the last level the round stays at its end, so that slots remain valid.
  __device__ void settle(const Path& path) {
    while (base_ >= end_ && !over(path)) {
      level_ += kRising ? 1 : -1;
      if (over(path)) break;
      int begin = path.level_ptr[level_];
      if (begin < path.first_slot) begin = path.first_slot;
      const int end = path.level_ptr[level_ + 1];
      if (begin >= end) continue;
      base_ = begin;
      end_ = end;
    }
  }

  int level_, base_, end_;
};

// Runs every slot of the path. describe(slot) returns the packed slot, with the count of its edges; early(slot,
// described) returns values that are best loaded before the sums are complete; finish(slot, described, early, sums) is
// called on all lanes of a team that has a slot.
//
// Two sets of registers alternate. With one set and a copy at the end of the round, the compiler moves the copy forward
// and waits there for the load.
template <bool kRising, class L, class T, class Describe, class Early, class Finish>
__device__ __forceinline__ void walk(const Path& path, const Edge<Compute<T>>* edges, const T* tile,
                                     Describe&& describe, Early&& early, Finish&& finish) {
  using Here = Round<kRising, L>;
  struct Ahead {
    int32_t begin;
    decltype(describe(0)) description;
    Chunk<L, T> chunk;
  };
  Here here = Here::first(path);
  if (here.over(path)) return;
  const auto load = [&](Ahead& ahead, const Here& round, int32_t begin) {
    ahead.begin = begin;
    ahead.description = describe(round.slot());
    ahead.chunk.load(edges + begin);
  };
  Here next = here;
  next.advance(path);
  Ahead even, odd;
  load(even, here, path.begin(here.slot()));
  int32_t next_begin = path.begin(next.slot());
  // Runs one round; returns false after the last one.
  const auto turn = [&](Ahead& now, Ahead& ahead) {
    const int32_t begin = next_begin;
    Here later = next;
    later.advance(path);
    next_begin = path.begin(later.slot());
    load(ahead, next, begin);
    if (here.warps()) {
      const auto loaded = early(here.slot(), now.description);
      Compute<T> sums[L::kKept];
      gather(now.chunk, edges + now.begin, now.description.count, tile, sums);
      if (here.mine()) finish(here.slot(), now.description, loaded, sums);
    }
    if (here.ends_level()) __syncthreads();
    here = next;
    next = later;
    return !here.over(path);
  };
  while (turn(even, odd) && turn(odd, even)) {
  }
}

}  // namespace freewire::cuda

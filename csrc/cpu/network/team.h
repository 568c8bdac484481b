// SPDX-License-Identifier: MIT
// Threads that go through the stages of one tile together: each stage needs all of the one before it.
//
// A stage is cut into items, which threads claim one after the other; a stage is complete when all of its items are
// done. So a thread never waits for one that has not come, or has been suspended between two items, and one thread
// alone does everything.
#pragma once

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "plan_view.h"

namespace freewire::cpu {

// The items of a stage: runs of positions with about as many in-edges each.
class StageCut {
 public:
  // items: the most of one stage. fewest: no item has fewer in-edges, if there is another.
  StageCut(const PlanView& plan, int64_t items, int64_t fewest) : plan_(plan), items_(items), fewest_(fewest) {}

  int64_t items(int64_t stage) const {
    const int64_t begin = plan_.stage_ptr[stage], end = plan_.stage_ptr[stage + 1];
    if (chained(end - 1)) return 1;
    const int64_t edges = plan_.run_edges[end] - plan_.run_edges[begin];
    return std::clamp<int64_t>(edges / fewest_, 1, std::min(items_, end - begin));
  }
  // First position of an item; that of one past the last item is the end of the stage.
  int64_t begin(int64_t stage, int64_t item, int64_t items) const {
    const int64_t *first = plan_.run_edges + plan_.stage_ptr[stage],
                  *last = plan_.run_edges + plan_.stage_ptr[stage + 1];
    if (item == items) return last - plan_.run_edges;
    return std::lower_bound(first, last, *first + (*last - *first) * item / items) - plan_.run_edges;
  }

 private:
  // Whether the node at a position reads nodes of its own stage: it ends a triangle, which is all of its stage.
  bool chained(int64_t at) const {
    const int64_t node = plan_.run_node[at];
    return plan_.in_begin[node] < plan_.in_split[node] && plan_.in_split[node] < plan_.in_end[node];
  }

  const PlanView& plan_;
  const int64_t items_, fewest_;
};

class Team {
 public:
  struct alignas(64) Stage {
    std::atomic<int64_t> claimed{0}, done{0};
  };

  explicit Team(int64_t stages) : stages_(static_cast<size_t>(stages)) {}

  // Called by each thread: body(stage, item) for every item of every stage that it claims. items(stage) is their
  // number.
  template <class Items, class Body>
  void run(const Items& items, const Body& body) {
    for (size_t i = 0; i < stages_.size(); ++i) {
      const int64_t count = items(static_cast<int64_t>(i));
      Stage& stage = stages_[i];
      int64_t done = 0;
      for (int64_t item; (item = stage.claimed.fetch_add(1, std::memory_order_relaxed)) < count; ++done) {
        body(static_cast<int64_t>(i), item);
      }
      if (done) stage.done.fetch_add(done, std::memory_order_release);
      for (int spins = 0; stage.done.load(std::memory_order_acquire) < count;) spins = wait(spins);
    }
  }

 private:
  // Waits a little; the number of the next wait.
  static int wait(int spins) {
    if (spins == kSpins) {
      sched_yield();
      return spins;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
    return spins + 1;
  }
  static constexpr int kSpins = 256;  // some microseconds: longer than a stage that all threads work on

  std::vector<Stage> stages_;
};

}  // namespace freewire::cpu

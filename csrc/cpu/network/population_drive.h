// SPDX-License-Identifier: MIT
// A population's forward and backward: each member runs as it would alone, by run_forward() and run_backward().
//
// A member is one thread's work, with its values in that core's cache; threads claim members. One that is more than a
// thread's share of all edges is run by all threads instead. Neither changes a bit of the results, which are those of
// the member alone. forward_drive.h says what parallel_for is.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "allocations.h"
#include "cpu/network/backward_drive.h"
#include "cpu/network/costs.h"
#include "cpu/network/forward_drive.h"
#include "population.h"

namespace freewire::cpu {

// The parallel_for of one thread.
struct OneThread {
  template <class Body>
  void operator()(int64_t begin, int64_t end, int64_t, const Body& body) const {
    if (begin < end) body(begin, end);
  }
  int64_t threads() const { return 1; }
};

// Fetches what a forward reads of a member's plan, while the one before it runs: of thousands of members each lies in
// memory, where every section begins with a wait. header: of the member; only its table is read.
inline void fetch_plan(const int64_t* header) {
  PlanView plan;
  if (!read_plan(header, header, header[1], &plan)) return;
  const auto fetch = [](const auto* from, int64_t count) {
    const auto* bytes = reinterpret_cast<const char*>(from);
    const int64_t end = count * static_cast<int64_t>(sizeof *from);
    for (int64_t at = 0; at < end; at += 64) __builtin_prefetch(bytes + at);
  };
  fetch(plan.in_begin, plan.in_begin_length());
  fetch(plan.in_end, plan.in_end_length());
  fetch(plan.reuses_rows() ? plan.row_src : plan.in_src, plan.num_edges);
  fetch(plan.activation, plan.activation_length());
  fetch(plan.aggregation, plan.aggregation_length());
  fetch(plan.bias_index, plan.bias_index_length());
  fetch(plan.inference_row, plan.inference_row_length());
  fetch(plan.run_node, plan.run_node_length());
  fetch(plan.in_split, plan.in_split_length());
  fetch(plan.output_slot, plan.output_slot_length());
}

// Calls body(member, i, parallel_for) for each member. Returns false where some row of the table does not fit.
template <class ParallelFor, class Body>
bool over_members(const Population& all, int64_t batch, const ParallelFor& parallel_for, const Body& body) {
  const int64_t cost = all.num_weights * batch + all.members * kMemberEdges;
  const int64_t threads = cost < kFewestPopulationEdges ? 1 : parallel_for.threads();
  std::atomic<bool> fits{true};
  const auto run = [&](int64_t i, const auto& inner) {
    Member member;
    if (read_member(all, i, &member)) return body(member, i, inner);
    fits.store(false, std::memory_order_relaxed);
  };
  // The plan of the next member, and the header of the one after that. Only small ones: they take less time than a
  // wait.
  const bool small = cost / std::max<int64_t>(1, all.members) < kFetchedEdges;
  const auto fetch_next = [&](int64_t i) {
    if (!small) return;
    const auto begins = [&](int64_t member) {
      const int64_t first = all.table[member * kTableColumns];
      return first >= 0 && first <= all.num_words - kPlanHeader ? all.plans + first : nullptr;
    };
    if (const int64_t* header = begins(i); header && header[1] <= all.num_words - (header - all.plans)) {
      fetch_plan(header);
    }
    if (const int64_t* header = i + 1 < all.members ? begins(i + 1) : nullptr) {
      for (int64_t at = 0; at < kPlanHeader; at += 8) __builtin_prefetch(header + at);
    }
  };
  if (threads < 2) {
    for (int64_t i = 0; i < all.members; ++i) {
      if (i + 1 < all.members) fetch_next(i + 1);
      run(i, OneThread{});
    }
    return fits;
  }
  const auto large = [&](int64_t i) { return all.edges(i) > all.num_weights / threads; };
  for (int64_t i = 0; i < all.members; ++i) {
    if (large(i)) run(i, parallel_for);
  }
  std::atomic<int64_t> next{0};
  const int64_t claim = std::max<int64_t>(1, all.members / (threads * kClaims));
  parallel_for(0, std::min(threads, all.members), 1, [&](int64_t, int64_t) {
    for (int64_t i; (i = next.fetch_add(claim, std::memory_order_relaxed)) < all.members;) {
      for (const int64_t end = std::min(i + claim, all.members); i < end; ++i) {
        if (i + 1 < end) fetch_next(i + 1);
        if (!large(i)) run(i, OneThread{});
      }
    }
  });
  return fits;
}

// Where a member's tape begins, and how long it is: as long as that of the member alone.
inline int64_t tape_offset(const Member& member, int64_t batch) {
  PlanSizes before{};
  before.tape_rows = member.tape_row;
  return kept_elements(before, batch, true);
}

// call: weight, bias and y of all members, and x [members, batch, I], or [batch, I] where x_step is 0.
template <class T, class ParallelFor>
bool run_population(const Population& all, const ForwardCall<T>& call, int64_t x_step, T* tape,
                    const ParallelFor& parallel_for) {
  return over_members(all, call.batch, parallel_for, [&](const Member& member, int64_t i, const auto& inner) {
    const PlanView& plan = member.plan;
    const ForwardCall<T> own{call.x + i * x_step, call.weight + member.weight,
                             call.bias ? call.bias + member.bias : nullptr, call.y + i * call.batch * plan.num_outputs,
                             call.batch};
    T* kept = tape ? tape + tape_offset(member, call.batch) : nullptr;
    run_forward(plan, own, kept, inner);
    if (tape) clear_tape_end(plan, call.batch, kept, kept_elements(plan, call.batch, true));
  });
}

// gradients: those of all members; x [members, batch, I].
template <class T, class ParallelFor>
bool run_population_backward(const Population& all, const T* grad_y, const T* weight, const T* tape, int64_t batch,
                             const Gradients<T>& gradients, const ParallelFor& parallel_for) {
  return over_members(all, batch, parallel_for, [&](const Member& member, int64_t i, const auto& inner) {
    const PlanView& plan = member.plan;
    const Gradients<T> own{gradients.x ? gradients.x + i * batch * plan.num_inputs : nullptr,
                           gradients.weight ? gradients.weight + member.weight : nullptr,
                           gradients.bias ? gradients.bias + member.bias : nullptr};
    run_backward(plan, grad_y + i * batch * plan.num_outputs, weight + member.weight, tape + tape_offset(member, batch),
                 batch, own, inner);
  });
}

}  // namespace freewire::cpu

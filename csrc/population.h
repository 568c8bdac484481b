// SPDX-License-Identifier: MIT
// Populations: networks of different wiring whose plans, parameters and tapes lie one after the other. No torch here.
//
// A row of the table says where a member's parts begin. What kernels read of it is compared with the lengths of the
// arrays first: given plans that Plan.pack() made, no member reads or writes outside of them.
#pragma once

#include <cstdint>

#include "plan_view.h"

namespace freewire {

constexpr int64_t kTableColumns = 4;  // first word, first weight, first bias, first tape row
// The number of members and the tape rows of all of them; the largest of each size; the weights and biases of all.
constexpr int64_t kLimits = 2 + (kPlanSizes - 2) + 2;

struct Population {
  const int64_t* plans;
  const int64_t* table;
  int64_t num_words, members, num_weights, num_biases, tape_rows, num_inputs, num_outputs;

  // In-edges of a member, since weights are in the order of the table.
  int64_t edges(int64_t i) const {
    const int64_t* row = table + i * kTableColumns;
    return (i + 1 < members ? row[kTableColumns + 1] : num_weights) - row[1];
  }
};

struct Member {
  PlanView plan;
  int64_t weight, bias, tape_row;
};

// Reads a row of the table and the header of that member's plan. Returns false where they do not fit the population.
inline bool read_member(const Population& all, int64_t i, Member* member) {
  const int64_t* row = all.table + i * kTableColumns;
  const int64_t first = row[0];
  if (first < 0 || first > all.num_words - kPlanHeader) return false;
  const int64_t* words = all.plans + first;
  if (words[1] > all.num_words - first || !read_plan(words, words, words[1], &member->plan)) return false;
  member->weight = row[1];
  member->bias = row[2];
  member->tape_row = row[3];
  const PlanView& plan = member->plan;
  const auto fits = [](int64_t begin, int64_t count, int64_t length) { return begin >= 0 && begin <= length - count; };
  return plan.num_inputs == all.num_inputs && plan.num_outputs == all.num_outputs && plan.num_states == 0 &&
         fits(row[1], plan.num_edges, all.num_weights) &&
         (all.num_biases == 0 || fits(row[2], plan.num_biases, all.num_biases)) &&
         fits(row[3], plan.tape_rows, all.tape_rows);
}

}  // namespace freewire

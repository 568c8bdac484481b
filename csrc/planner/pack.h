// SPDX-License-Identifier: MIT
// Packs a plan: its given sections copied, the derived ones computed. plan_layout.h has the layout.
//
// The time is linear in nodes and edges; the result is the only memory taken, apart from one mark per slot.
#pragma once

#include <cstdint>
#include <span>

#include "plan_view.h"

namespace freewire::planner {

// What a packed plan is made from: the given sections, and what they do not determine.
struct PlanArrays {
  int64_t num_inputs, num_biases, num_results, row_bytes;
  std::span<const int32_t> inference_row;  // [S], packed only if it saves rows
#define FREEWIRE_GIVEN(type, name, length) std::span<const type> name;
#define FREEWIRE_DERIVED(type, name, length)
  FREEWIRE_PLAN_SECTIONS(FREEWIRE_GIVEN, FREEWIRE_DERIVED)
#undef FREEWIRE_GIVEN
#undef FREEWIRE_DERIVED
};

// The sizes of the packed plan. Throws std::invalid_argument where the arrays do not fit each other.
PlanSizes plan_sizes(const PlanArrays& plan);

// Words of a packed plan of these sizes.
int64_t packed_words(const PlanSizes& sizes);

// sizes: plan_sizes(plan). words: [packed_words(sizes)]; every one of them is written.
void pack(const PlanArrays& plan, const PlanSizes& sizes, std::span<int64_t> words);

}  // namespace freewire::planner

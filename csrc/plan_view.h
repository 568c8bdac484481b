// SPDX-License-Identifier: MIT
// The plan as the kernels see it: sizes, and pointers into a packed plan.
//
// read_plan() makes a PlanView of a packed plan in any device's memory and of its header in the host's. No torch here.
#pragma once

#include <cstdint>
#include <type_traits>

#include "plan_layout.h"

namespace freewire {

struct PlanSizes {
#define FREEWIRE_SIZE(name) int64_t name;
  FREEWIRE_PLAN_SIZES(FREEWIRE_SIZE)
#undef FREEWIRE_SIZE

  constexpr int64_t num_computed() const { return num_slots - num_inputs; }
  constexpr bool reuses_rows() const { return scratch_rows < num_slots; }
  // Lengths of sections that exist only where some aggregation is not linear, where inference reuses rows, or where a
  // dense block is padded.
  constexpr int64_t if_gathers(int64_t length) const { return gather_edges ? length : 0; }
  constexpr int64_t if_reuses(int64_t length) const { return reuses_rows() ? length : 0; }
  constexpr int64_t if_padded(int64_t length) const { return num_panel ? length : 0; }

  // The length of each section, for example level_ptr_length().
#define FREEWIRE_SECTION(type, name, length) \
  constexpr int64_t name##_length() const { return length; }
  FREEWIRE_PLAN_SECTIONS(FREEWIRE_SECTION, FREEWIRE_SECTION)
#undef FREEWIRE_SECTION
};

struct PlanView : PlanSizes {
#define FREEWIRE_SECTION(type, name, length) const type* name;
  FREEWIRE_PLAN_SECTIONS(FREEWIRE_SECTION, FREEWIRE_SECTION)
#undef FREEWIRE_SECTION

  // Calls body(name, pointer, length) for each section in the header's order; pointer is a reference.
  template <class Body>
  void for_each_section(Body&& body) {
#define FREEWIRE_SECTION(type, name, length) body(#name, name, name##_length());
    FREEWIRE_PLAN_SECTIONS(FREEWIRE_SECTION, FREEWIRE_SECTION)
#undef FREEWIRE_SECTION
  }
};

// Reads a header of kPlanHeader numbers, of a packed plan of count words that starts at words. Returns false where it
// is not a header of this layout, or where a section's length does not follow from the sizes. Takes constant time: the
// words themselves are not read, so they may lie on another device, and the contents of the sections are trusted.
inline bool read_plan(const int64_t* header, const int64_t* words, int64_t count, PlanView* plan) {
  if (count < kPlanHeader || header[0] != kPlanMagic || header[1] != count) return false;
  for (int64_t i = 2; i < kPlanSizes; ++i) {
    if (header[i] < 0) return false;
  }
  const int64_t* size = header + 2;
#define FREEWIRE_SIZE(name) plan->name = *size++;
  FREEWIRE_PLAN_SIZES(FREEWIRE_SIZE)
#undef FREEWIRE_SIZE
  if (plan->scratch_rows > plan->num_slots) return false;
  if (plan->row_bytes != 64 && plan->row_bytes != 128 && plan->row_bytes != 256) return false;
  const int64_t* table = header + kPlanSizes;
  bool fits = true;
  plan->for_each_section([&](const char*, auto*& pointer, int64_t wanted) __attribute__((always_inline)) {
    const int64_t start = table[0], length = table[1];
    table += 2;
    fits = fits && start >= kPlanHeader && start <= count && length == wanted && length >= 0 &&
           length <= (count - start) * 8 / static_cast<int64_t>(sizeof *pointer);
    pointer = reinterpret_cast<std::remove_reference_t<decltype(pointer)>>(words + (fits ? start : 0));
  });
  return fits;
}

}  // namespace freewire

// SPDX-License-Identifier: MIT
// A population, its arguments and its expected results, read from a file that tests/support/cuda_populations.py wrote.
//
// The file is like that of case_file.h, but starts with "fwpopu01". The numbers are the type, the members, the batch, 1
// if there is a bias, and 1 if all members read one x; the arrays are the packed plan of each member, x, weight, bias
// and grad_y, and the results y, grad_x, grad_weight and grad_bias.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "population.h"
#include "testing/cases/case_file.h"

namespace freewire::testing {

constexpr const char* kPopulationMagic = "fwpopu01";
constexpr int64_t kMaxMembers = 1 << 10;

// Writes the header of a packed plan whose sections are anywhere, kPlanHeader words. The kernels of populations read
// sizes and places of sections, and nothing else of it.
inline void write_header(PlanView plan, int64_t* header) {
  header[0] = kPlanMagic;
  header[1] = kPlanHeader;
  int64_t* word = header + 2;
#define FREEWIRE_SIZE(name) *word++ = plan.name;
  FREEWIRE_PLAN_SIZES(FREEWIRE_SIZE)
#undef FREEWIRE_SIZE
  plan.for_each_section([&](const char*, auto*& section, int64_t length) {
    *word++ = (reinterpret_cast<intptr_t>(section) - reinterpret_cast<intptr_t>(header)) / 8;
    *word++ = length;
  });
}

// The plans of members as kernels read them: headers with gaps between them, whose sections each have memory of their
// own.
class SplitMembers {
 public:
  void add(const Exact<int64_t>& words) { plans_.emplace_back(words); }
  // Call it after the last add().
  void finish() {
    const auto members = static_cast<int64_t>(plans_.size());
    words_ = Exact<int64_t>(members * kStride);
    table_ = Exact<int64_t>(members * kTableColumns);
    for (int64_t i = 0; i < members; ++i) {
      const PlanView& plan = plans_[i].view();
      write_header(plan, words_.data() + i * kStride);
      const int64_t row[kTableColumns] = {i * kStride, num_edges, num_biases, tape_rows};
      std::copy(row, row + kTableColumns, table_.data() + i * kTableColumns);
      num_edges += plan.num_edges;
      num_biases += plan.num_biases;
      tape_rows += plan.tape_rows;
#define FREEWIRE_SIZE(name) largest.name = std::max(largest.name, plan.name);
      FREEWIRE_PLAN_SIZES(FREEWIRE_SIZE)
#undef FREEWIRE_SIZE
    }
  }

  const int64_t* words() const { return words_.data(); }
  const int64_t* table() const { return table_.data(); }
  int64_t num_edges = 0, num_biases = 0, tape_rows = 0;  // of all members
  PlanSizes largest{};

 private:
  static constexpr int64_t kStride = kPlanHeader + 5;  // the header, and words that belong to no plan
  std::vector<SplitPlan> plans_;
  Exact<int64_t> words_, table_;
};

template <class T>
struct PopulationCase {
  // reader: just after the type.
  explicit PopulationCase(CaseReader& reader)
      : count(reader.number<int64_t>("members")),
        batch(reader.number<int64_t>("batch")),
        has_bias(reader.number<int64_t>("has_bias") != 0),
        shared_x(reader.number<int64_t>("shared_x") != 0) {
    if (count < 0 || count > kMaxMembers || batch < 0 || batch > kMaxBatch) {
      throw std::runtime_error("members, batch: expected 0 to " + std::to_string(kMaxMembers) + " and to " +
                               std::to_string(kMaxBatch) + ", got other numbers.");
    }
    for (int64_t i = 0; i < count; ++i) members.add(reader.array<int64_t>("plan", -1));
    members.finish();
    const PlanSizes& sizes = members.largest;
    const int64_t all = count * batch, num_biases = has_bias ? members.num_biases : 0;
    x = reader.array<T>("x", (shared_x ? batch : all) * sizes.num_inputs);
    weight = reader.array<T>("weight", members.num_edges);
    bias = reader.array<T>("bias", num_biases);
    grad_y = reader.array<T>("grad_y", all * sizes.num_outputs);
    const auto expected = [&](const char* name, int64_t wanted) {
      const auto tolerance = reader.number<double>(name);
      return Expected{tolerance, reader.array<double>(name, wanted)};
    };
    y = expected("y", all * sizes.num_outputs);
    grad_x = expected("grad_x", all * sizes.num_inputs);
    grad_weight = expected("grad_weight", members.num_edges);
    grad_bias = expected("grad_bias", num_biases);
    reader.expect_end();
  }

  int64_t count, batch;
  bool has_bias, shared_x;
  SplitMembers members;
  Exact<T> x, weight, bias, grad_y;
  Expected y, grad_x, grad_weight, grad_bias;
};

}  // namespace freewire::testing

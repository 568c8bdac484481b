// SPDX-License-Identifier: MIT
// A network, its arguments and its expected results, read from a file that tests/support/sanitize.py wrote.
//
// with_case() reads a file into a Case<T>, or throws std::runtime_error of one sentence. The file is little-endian: the
// eight letters "fwcase02"; int64 each: the numbers' type (its place in kTypeNames), the batch, 1 if there is a bias, 1
// if results are given; then arrays, each after its length as int64: the packed plan (int64), x, weight, bias and
// grad_y (numbers), and, each after its tolerance, y, grad_x, grad_weight and grad_bias (double). Nothing follows.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "plan_view.h"
#include "testing/cases/exact.h"
#include "testing/cases/number_types.h"

namespace freewire::testing {

// How files of a network, and of a sequence (sequence_run.h), begin.
constexpr const char *kNetworkMagic = "fwcase02", *kSequenceMagic = "fwsequ01";

// Reads a file's content piece by piece, never past its end.
class CaseReader {
 public:
  // magic: how it must begin.
  explicit CaseReader(const std::string& path, const std::string& magic = kNetworkMagic) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("expected a case file, got none that can be opened.");
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    if (bytes_.compare(0, magic.size(), magic) != 0) {
      throw std::runtime_error("expected a case file of this version, got another. Rewrite the cases.");
    }
    at_ = magic.size();
  }

  template <class V>
  V number(const char* name) {
    if (bytes_.size() - at_ < sizeof(V)) cut_short(name);
    V value;
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }

  // wanted: the length that follows from the plan, or -1 for any.
  template <class V>
  Exact<V> array(const char* name, int64_t wanted) {
    const auto length = number<int64_t>(name);
    if (length < 0 || (wanted >= 0 && length != wanted)) {
      const std::string number = wanted < 0 ? "any number of" : std::to_string(wanted);
      throw std::runtime_error(std::string(name) + ": expected " + number + " entries, got " + std::to_string(length) +
                               ".");
    }
    if (static_cast<uint64_t>(length) > (bytes_.size() - at_) / sizeof(V)) cut_short(name);
    Exact<V> values(length);
    if (length) std::memcpy(values.data(), bytes_.data() + at_, values.bytes());
    at_ += values.bytes();
    return values;
  }

  void expect_end() const {
    if (at_ != bytes_.size()) {
      throw std::runtime_error("expected the file to end after grad_bias, got " + std::to_string(bytes_.size() - at_) +
                               " bytes more.");
    }
  }

 private:
  [[noreturn]] static void cut_short(const char* name) {
    throw std::runtime_error(std::string(name) + ": expected more bytes, got the end of the file.");
  }

  std::string bytes_;
  size_t at_ = 0;
};

// A plan whose sections each have memory of their own: within the packed array, a step past one section's end
// would land in the next.
class SplitPlan {
 public:
  explicit SplitPlan(const Exact<int64_t>& words) {
    if (!read_plan(words.data(), words.data(), words.size(), &view_)) {
      throw std::runtime_error("plan: expected a packed plan, got other words.");
    }
    view_.for_each_section([&](const char*, auto*& section, int64_t length) { own(section, length); });
  }
  const PlanView& view() const { return view_; }

 private:
  template <class V>
  void own(const V*& section, int64_t length) {
    const auto copy = std::make_shared<Exact<V>>(section, length);
    section = copy->data();
    owned_.push_back(copy);
  }

  PlanView view_;
  std::vector<std::shared_ptr<void>> owned_;
};

constexpr int64_t kMaxBatch = 1 << 20;  // so that no product of sizes overflows
constexpr int64_t kMaxSteps = 1 << 10;  // likewise

struct Expected {
  double tolerance;      // absolute
  Exact<double> values;  // empty if the case has no results
};

template <class T>
struct Case {
  // reader: just after the type.
  explicit Case(CaseReader& reader)
      : batch(reader.number<int64_t>("batch")),
        has_bias(reader.number<int64_t>("has_bias") != 0),
        has_results(reader.number<int64_t>("has_results") != 0),
        words(reader.array<int64_t>("plan", -1)),
        split_plan(words) {
    const PlanView& plan = split_plan.view();
    if (batch < 0 || batch > kMaxBatch) {
      throw std::runtime_error("batch: expected 0 to " + std::to_string(kMaxBatch) + ", got " + std::to_string(batch) +
                               ".");
    }
    const int64_t num_biases = has_bias ? plan.num_biases : 0;
    x = reader.array<T>("x", batch * plan.num_inputs);
    weight = reader.array<T>("weight", plan.num_edges);
    bias = reader.array<T>("bias", num_biases);
    grad_y = reader.array<T>("grad_y", batch * plan.num_outputs);
    const auto expected = [&](const char* name, int64_t wanted) {
      const auto tolerance = reader.number<double>(name);
      return Expected{tolerance, reader.array<double>(name, has_results ? wanted : 0)};
    };
    y = expected("y", batch * plan.num_outputs);
    grad_x = expected("grad_x", batch * plan.num_inputs);
    grad_weight = expected("grad_weight", plan.num_edges);
    grad_bias = expected("grad_bias", num_biases);
    reader.expect_end();
  }

  int64_t batch;
  bool has_bias, has_results;
  Exact<int64_t> words;
  SplitPlan split_plan;
  Exact<T> x, weight, bias, grad_y;
  Expected y, grad_x, grad_weight, grad_bias;
};

// Reads the rest of a file as a Kind<T> and calls body(Kind<T>).
template <template <class> class Kind, class Body>
void with_rest(CaseReader& reader, Body&& body) {
  const auto type = reader.number<int64_t>("type");
  if (type < 0 || type >= kNumTypes) {
    throw std::runtime_error("type: expected 0 to " + std::to_string(kNumTypes - 1) + ", got " + std::to_string(type) +
                             ".");
  }
  for_each_type([&](auto number) {
    using T = decltype(number);
    if (type == type_index<T>()) body(Kind<T>(reader));
  });
}

// Reads the file and calls body(Case<T>).
template <class Body>
void with_case(const std::string& path, Body&& body) {
  CaseReader reader(path);
  with_rest<Case>(reader, body);
}

}  // namespace freewire::testing

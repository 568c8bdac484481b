// SPDX-License-Identifier: MIT
// Runs the raw kernels over gated sums, stages and case files, of networks and of sequences; tests/support/sanitize.py
// compiles it with sanitizers.
//
// The arguments are case files, after "--inject BUG" to inject a bug (testing/cases/injected_bugs.h); without any, only
// the instruction set is printed. Prints each path before running it, then a line that counts the cases. The exit
// status is 1, with a message on stderr, if a result is wrong or depends on the number of threads, or if a file is not
// a case.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <vector>

#include "testing/cases/case_file.h"
#include "testing/cases/gated_depthwise_run.h"
#include "testing/cases/gated_sum_run.h"
#include "testing/cases/injected_bugs.h"
#include "testing/cases/population_run.h"
#include "testing/cases/sanitize_run.h"
#include "testing/cases/sequence_run.h"
#include "testing/cases/stage_checks.h"

namespace freewire::testing {
namespace {

int64_t ran[kNumTypes][cpu::kRowKinds] = {};  // cases by type and kind of row
int64_t sequences = 0, populations = 0;

template <class T>
void count(const Case<T>& given) {
  ++ran[type_index<T>()][cpu::Tiling<T>(given.split_plan.view(), given.batch).kind];
}

template <class T>
void count(const SequenceCase<T>&) {
  ++sequences;
}

// A population of copies computes what the network alone does.
template <class T>
void check_population(const Case<T>& given, const std::vector<Result<T>>& alone) {
  if (given.batch > kMostPopulationSamples) return;
  for (const int64_t members : {1, 3}) {
    for (const auto& copies : run_population_of(given, members, kManyThreads)) {
      expect_same_bits(alone, copies, "a network alone and in a population");
    }
  }
  ++populations;
}

template <class T>
void check_population(const SequenceCase<T>&, const std::vector<Result<T>>&) {}

template <class AnyCase>
void check(const AnyCase& given, const std::string& bug) {
  if (!bug.empty()) return inject(bug, given);
  const auto one = run(given, 1), many = run(given, kManyThreads);
  if (given.has_results) expect_close(one);
  expect_same_bits(one, many, kThreadCounts);
  check_population(given, one);
  count(given);
}

void check_file(const std::string& path, const std::string& bug) {
  const auto check_case = [&](const auto& given) { check(given, bug); };
  char start[8] = {};
  std::ifstream(path, std::ios::binary).read(start, sizeof start);
  if (std::string(start, sizeof start) != kSequenceMagic) return with_case(path, check_case);
  CaseReader reader(path, kSequenceMagic);
  with_rest<SequenceCase>(reader, check_case);
}

}  // namespace
}  // namespace freewire::testing

int main(int count, char** arguments) {
  using namespace freewire;
  std::vector<std::string> paths(arguments + 1, arguments + count);
  std::string bug;
  if (paths.size() >= 2 && paths[0] == "--inject") {
    bug = paths[1];
    paths.erase(paths.begin(), paths.begin() + 2);
  }
  int64_t gated_sums = 0, stages = 0;
  try {
    if (!paths.empty() && bug.empty()) {
      gated_sums = testing::check_gated_sums() + testing::check_gated_depthwise();
      stages = testing::check_stages();
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", cpu::isa_name(), error.what());
    return 1;
  }
  for (const std::string& path : paths) {
    std::printf("%s\n", path.c_str());
    std::fflush(stdout);  // a sanitizer's report ends the program
    try {
      testing::check_file(path, bug);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s, %s: %s\n", path.c_str(), cpu::isa_name(), error.what());
      return 1;
    }
  }
  std::printf("%s", cpu::isa_name());
  for (int type = 0; type < testing::kNumTypes && !paths.empty(); ++type) {
    const auto& rows = testing::ran[type];
    std::printf("; %s rows of one number, 16, 32, 64, 128, 256 bytes: %ld, %ld, %ld, %ld, %ld, %ld cases",
                testing::kTypeNames[type], static_cast<long>(rows[0]), static_cast<long>(rows[1]),
                static_cast<long>(rows[2]), static_cast<long>(rows[3]), static_cast<long>(rows[4]),
                static_cast<long>(rows[5]));
  }
  if (testing::sequences) std::printf("; %ld sequences", static_cast<long>(testing::sequences));
  if (testing::populations) std::printf("; %ld populations", static_cast<long>(testing::populations));
  if (gated_sums) std::printf("; %ld gated sums", static_cast<long>(gated_sums));
  if (stages) std::printf("; %ld stages", static_cast<long>(stages));
  std::printf("\n");
  return 0;
}

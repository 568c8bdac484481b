// SPDX-License-Identifier: MIT
// Runs the CUDA kernels over gated sums and case files, on the CPU through the SIMT shim; tests/cuda/test_kernels.py
// builds and runs it.
//
// The arguments are case files, of networks or (ending in ".sequence" or ".population") of others, after "--quick" for
// fewer widths of tile and one order only (ThreadSanitizer is slow). It prints each path as it starts with it, then
// every kernel that ran and how often; the exit status is 1, with one sentence on stderr, if a result is wrong or
// depends on the order in which blocks and threads run.
#include <cstdint>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "testing/cases/case_file.h"
#include "testing/cases/cuda_gated_sum_run.h"
#include "testing/cases/cuda_population_run.h"
#include "testing/cases/cuda_run.h"
#include "testing/cases/cuda_sequence_run.h"
#include "testing/simt/simt.h"

namespace freewire::testing {
namespace {

struct Thoroughness {
#if defined(FREEWIRE_TWO_TILES)
  std::vector<int> columns = {0, 2, 16};  // width of the tile; 0: streamed
#else
  std::vector<int> columns = {0, 2, 4, 8, 16, 32};
#endif
  std::vector<uint64_t> seeds = {1, 2};  // for the order of blocks and threads
  int64_t resident_batch = 1 << 20;      // no resident run of a longer batch
  bool quick = false;
};

// run() -> results; in any order of blocks and threads they must be the same.
template <class T, class Run>
void check_orders(const Thoroughness& how, bool has_results, const Run& run) {
  std::vector<Result<T>> first;
  for (const uint64_t seed : how.seeds) {
    simt::options().seed = seed;
    std::vector<Result<T>> results = run();
    if (has_results) expect_close(results);
    if (!first.empty()) expect_same_bits(first, results, "any order of blocks and threads");
    first = std::move(results);
  }
}

template <class T>
void check(const Case<T>& given, const Thoroughness& how) {
  const PlanView& plan = given.split_plan.view();
  const cuda::Device device = cuda::current_device();
  constexpr int64_t kItemBytes = sizeof(Compute<T>);  // the backward's, which is the larger
  const int chosen = cuda::tile_columns(plan, given.batch, plan.num_slots, kItemBytes, device);
  if ((plan.num_slots + 1) * chosen * kItemBytes > device.shared_bytes) {
    throw std::runtime_error("tile_columns: expected a tile that fits, got " + std::to_string(chosen) + " columns.");
  }
  for (const int columns : how.columns) {
    if (columns && given.batch > how.resident_batch) continue;
    if (columns > cuda::widest_tile(plan, plan.num_slots, kItemBytes, device)) continue;
    check_orders<T>(how, given.has_results, [&] { return cuda_run(given, columns); });
  }
}

template <class T>
void check(const SequenceCase<T>& given, const Thoroughness& how) {
  for (const int columns : how.columns) {
    check_orders<T>(how, true, [&] { return cuda_sequence_run(given, columns); });
  }
}

template <class T>
void check(const PopulationCase<T>& given, const Thoroughness& how) {
  for (const Division& division : divisions(how.quick)) {
    check_orders<T>(how, true, [&] { return cuda_population_run(given, division); });
  }
}

void check_file(const std::string& path, const Thoroughness& how) {
  if (path.ends_with(".sequence")) {
    CaseReader reader(path, kCudaSequenceMagic);
    return with_rest<SequenceCase>(reader, [&](const auto& given) { check(given, how); });
  }
  if (path.ends_with(".population")) {
    CaseReader reader(path, kPopulationMagic);
    return with_rest<PopulationCase>(reader, [&](const auto& given) { check(given, how); });
  }
  with_case(path, [&](const auto& given) { check(given, how); });
}

}  // namespace
}  // namespace freewire::testing

int main(int count, char** arguments) {
  freewire::testing::Thoroughness how;
  const bool quick = count > 1 && std::string(arguments[1]) == "--quick";
  if (quick) how = {{0, 2, 16}, {1}, 40, true};
  try {
    freewire::testing::check_cuda_gated_sums(how.seeds, quick);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  for (int i = quick ? 2 : 1; i < count; ++i) {
    std::printf("%s\n", arguments[i]);
    std::fflush(stdout);  // a sanitizer's report ends the program
    try {
      freewire::testing::check_file(arguments[i], how);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s: %s\n", arguments[i], error.what());
      return 1;
    }
  }
  for (const auto& [kernel, times] : simt::launches())
    std::printf("%s %ld\n", kernel.c_str(), static_cast<long>(times));
  return 0;
}

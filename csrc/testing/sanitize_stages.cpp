// SPDX-License-Identifier: MIT
// The checks of whole stages, for testing/sanitize_main.cpp.
#include <algorithm>
#include <cstdint>
#include <string>
#include <thread>

#include "testing/cases/stage_checks.h"
#include "testing/cases/stage_run.h"

namespace freewire::testing {
namespace {

// A loop whose threads each take one index of the next one's as well.
struct Overlapping {
  template <class Body>
  void operator()(int64_t begin, int64_t end, int64_t, const Body& body) const {
    std::thread first([&] { body(begin, std::min(begin + 2, end)); });
    body(std::min(begin + 1, end), end);
    first.join();
  }
  int64_t threads() const { return 2; }
};

}  // namespace

bool inject_into_stage(const std::string& bug) {
  const StageCase<float> given({2, 5, 4, 3}, 1, 5, true, true);
  const StageResult<float> result(given, true);
  if (bug == "short_results") {
    cpu::StageTape<float> tape = result.tape();
    const Exact<float> cut(result.kept.back().size() - 1);
    tape.results.back() = cut.data();
    run_forward(given, tape, result.y.data(), StdThreads{1});
  } else if (bug == "short_map") {
    run_inference(given, 1, Exact<float>(result.inference.size() - 1).data());
  } else if (bug == "stage_race") {
    run_forward(given, result.tape(), result.y.data(), Overlapping{});
  } else {
    return false;
  }
  return true;
}

int64_t check_stages() {
  struct Size {
    cpu::Maps in;
    int64_t stride, channels;
  };
  // Channels that fill no register, one, and more; fewer images than threads, as many, and more; one pixel; several
  // bands; rows shorter and longer than a block of pixels; several blocks, and rows of x that no convolution reads.
  const Size sizes[] = {{{0, 3, 3, 2}, 1, 3},    {{2, 0, 3, 2}, 1, 3},   {{1, 1, 1, 1}, 1, 1},   {{2, 5, 4, 3}, 2, 5},
                        {{4, 9, 7, 17}, 1, 16},  {{3, 5, 7, 16}, 3, 21}, {{18, 3, 2, 5}, 1, 33}, {{1, 40, 5, 3}, 1, 7},
                        {{2, 18, 121, 2}, 4, 5}, {{1, 5, 115, 3}, 1, 6}};
  int64_t ran = 0;
  for_each_type([&](auto type) {
    for (const Size& size : sizes) {
      for (const bool batch_statistics : {false, true}) {
        if (batch_statistics && size.in.batch * size.in.height * size.in.width < 2) continue;
        check_stage(StageCase<decltype(type)>(size.in, size.stride, size.channels, batch_statistics, batch_statistics));
        ++ran;
      }
    }
  });
  return ran;
}

}  // namespace freewire::testing

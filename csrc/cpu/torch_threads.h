// SPDX-License-Identifier: MIT
// torch's thread pool as the parallel_for that cpu/network and cpu/blocks expect.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <cstdint>

namespace freewire::cpu {

struct TorchThreads {
  template <class Body>
  void operator()(int64_t begin, int64_t end, int64_t grain, const Body& body) const {
    torch::stable::parallel_for(begin, end, grain, body);
  }
  int64_t threads() const { return torch::stable::get_num_threads(); }
};

}  // namespace freewire::cpu

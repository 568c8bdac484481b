// SPDX-License-Identifier: MIT
// Parameters as kernels read them, made once per call.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/buffer.h"
#include "cpu/network/costs.h"
#include "cpu/network/workspace.h"

namespace freewire::cpu {

// Of 16-bit types a copy in float; of others the array itself. Null for null.
template <class T>
class Widened {
 public:
  template <class ParallelFor>
  Widened(const T* from, int64_t count, const ParallelFor& parallel_for)
      : copy_(from ? widened_copy<T>(count).count : 0) {
    if constexpr (kNarrow<T>) {
      data_ = from ? copy_.data() : nullptr;
      if (from) {
        parallel_for(0, count, kEdgesPerTask, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) copy_.data()[i] = widened(from[i]);
        });
      }
    } else {
      data_ = from;
    }
  }
  const Compute<T>* data() const { return data_; }

 private:
  Buffer<Compute<T>> copy_;
  const Compute<T>* data_;
};

// The weights of padded blocks, with 0 for each source that a node does not read.
template <class C>
class Panels {
 public:
  template <class ParallelFor>
  Panels(const PlanView& plan, const C* weight, const ParallelFor& parallel_for) : data_(plan.num_panel) {
    if (plan.num_panel == 0) return;
    parallel_for(0, plan.num_blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; ++block) {
        if (plan.block_panel[block] < 0) continue;
        const int64_t sources = plan.block_src_ptr[block + 1] - plan.block_src_ptr[block];
        C* row = data_.data() + plan.block_panel[block];
        for (int64_t at = plan.block_begin[block]; at < plan.block_end[block]; ++at, row += sources) {
          const int64_t node = plan.run_node[at];
          std::fill_n(row, sources, C(0));
          for (int64_t e = plan.in_begin[node]; e < plan.in_split[node]; ++e) row[plan.panel_column[e]] = weight[e];
        }
      }
    });
  }
  const C* data() const { return data_.data(); }

 private:
  Buffer<C> data_;
};

}  // namespace freewire::cpu

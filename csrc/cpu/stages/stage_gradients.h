// SPDX-License-Identifier: MIT
// Where a stage's backward puts gradients: the results, those that nodes pass to one another, and partial sums.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <vector>

#include "cpu/stages/stage_plan.h"
#include "number.h"

namespace freewire::cpu {

// The results, of the parameters' shapes.
template <class T>
struct StageGradients {
  T* x;                                  // or null
  Compute<T>* weight;                    // [E]
  std::vector<T*> depthwise, pointwise;  // [N]
  Compute<T>*gamma, *beta;               // [N, out_channels]
};

// Groups of bands that each add up the weight gradients of a node: by the shape alone, so that the number of threads
// changes no bit, and fewer where there are so many weights that adding the groups up takes long.
inline int64_t gradient_groups(int64_t weights, int64_t bands) {
  return std::min<int64_t>(weights < (1 << 16) ? 16 : 8, bands);
}

// Returns memory of some bytes, aligned to a cache line, that lives as long as the call; so that a stage's feature maps
// are allocated, and counted, as torch's are.
using Memory = std::function<void*(int64_t bytes)>;

template <class T>
T* memory_of(const Memory& memory, int64_t count) {
  return static_cast<T*>(memory(count * static_cast<int64_t>(sizeof(T))));
}

// The gradients of the sums that nodes with in-edges read, each until its last source has gathered it.
template <class T>
class InputGradients {
 public:
  InputGradients(const StagePlan& plan, int64_t length, const Memory& memory) : plan_(plan), slot_(plan.num_nodes()) {
    std::vector<int64_t> free;
    int64_t slots = 0;
    for (int64_t node = plan.num_nodes() - 1; node >= 0; --node) {
      for (int64_t i = plan.out_ptr[node]; i < plan.out_ptr[node + 1]; ++i) {
        const int64_t reader = plan.out_dst[i];
        const bool repeated = i > plan.out_ptr[node] && plan.out_dst[i - 1] == reader;
        if (!repeated && first_source(reader) == node) free.push_back(slot_[reader]);
      }
      if (node < plan.num_inputs) continue;
      if (free.empty()) free.push_back(slots++);
      slot_[node] = free.back();
      free.pop_back();
    }
    while (static_cast<int64_t>(slots_.size()) < slots) slots_.push_back(memory_of<T>(memory, length));
  }
  T* of(int64_t node) const { return slots_[slot_[node]]; }

 private:
  int64_t first_source(int64_t node) const {
    return *std::min_element(&plan_.in_src[plan_.in_ptr[node]], plan_.in_src.data() + plan_.in_ptr[node + 1]);
  }
  const StagePlan& plan_;
  std::vector<int64_t> slot_;
  std::vector<T*> slots_;
};

// Partial sums of the gradients of the convolutions of some nodes, by group.
template <class T>
class KernelGradients {
 public:
  using C = Compute<T>;
  // numbers: [needed(groups, nodes, rows, padded)]
  KernelGradients(int64_t groups, int64_t nodes, int64_t rows, int64_t padded, C* numbers)
      : groups_(groups), nodes_(nodes), rows_(rows), padded_(padded), numbers_(numbers) {}
  static int64_t needed(int64_t groups, int64_t nodes, int64_t rows, int64_t padded) {
    return groups * nodes * (rows + 9) * padded;
  }
  void clear_taps(int64_t group) {
    for (int64_t index = 0; index < nodes_; ++index) std::fill_n(taps(group, index), 9 * padded_, C(0));
  }
  C* product(int64_t group, int64_t index) { return numbers_ + needed(1, group * nodes_ + index, rows_, padded_); }
  C* taps(int64_t group, int64_t index) { return product(group, index) + rows_ * padded_; }

  // The sums over the groups, without padding.
  template <class ParallelFor>
  void write(int64_t first, const StageGradients<T>& grads, int64_t channels, const ParallelFor& parallel_for) {
    parallel_for(0, nodes_ * (rows_ + 9), 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t index = i / (rows_ + 9), row = i % (rows_ + 9);
        C* const total = product(0, index) + row * padded_;
        for (int64_t group = 1; group < groups_; ++group) {
          const C* const part = product(group, index) + row * padded_;
          for (int64_t c = 0; c < channels; ++c) total[c] += part[c];
        }
        T* const product = grads.pointwise[first + index] + row * channels;
        T* const kernel = grads.depthwise[first + index] + row - rows_;
        for (int64_t c = 0; c < channels; ++c) (row < rows_ ? product[c] : kernel[9 * c]) = narrowed<T>(total[c]);
      }
    });
  }

 private:
  int64_t groups_, nodes_, rows_, padded_;
  C* numbers_;
};

}  // namespace freewire::cpu

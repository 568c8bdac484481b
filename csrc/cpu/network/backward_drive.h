// SPDX-License-Identifier: MIT
// The backward of a whole batch: how its tiles are spread over threads, and in which order sums are added.
//
// forward_drive.h says what parallel_for is. Sums of weight gradients are rounded in an order that plan and batch
// decide: of each group's tiles in turn, then of the groups.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/network/forward_drive.h"
#include "cpu/network/team.h"

namespace freewire::cpu {

// The gradients that the backward writes; null for those that are not wanted.
template <class T>
struct Gradients {
  T* x;       // [batch, I]
  T* weight;  // [E]
  T* bias;    // [num_biases]
};

// Entry i of the groups' sums [groups, count], added in order.
template <class C>
C ordered_sum(const C* sums, int64_t groups, int64_t count, int64_t i) {
  C total = sums[i];
  for (int64_t group = 1; group < groups; ++group) total += sums[group * count + i];
  return total;
}

// One call: what its parts share.
template <class T, class ParallelFor>
class BackwardRun {
 public:
  using C = Compute<T>;
  BackwardRun(const PlanView& plan, const T* grad_y, const T* weight, const T* tape, int64_t batch,
              const Gradients<T>& gradients, const ParallelFor& parallel_for)
      : plan_(plan),
        tape_(tape),
        gradients_(gradients),
        parallel_for_(parallel_for),
        tiling_(plan, batch),
        space_(plan, tiling_, gradients.weight != nullptr, gradients.bias != nullptr, parallel_for.threads()),
        weight_(space_.canonical ? weight : nullptr, plan.num_edges, parallel_for),
        panel_(space_.panel.count ? plan : PlanView{}, weight_.data(), parallel_for),
        out_weight_(space_.out_weight.count),
        out_sums_(space_.out_sums.count),
        bias_sums_(space_.bias_sums.count),
        weight_sums_(space_.weight_sums.count),
        kept_rows_(space_.kept_rows.count),
        arrays_{grad_y, out_weight_.data(), weight_.data(), panel_.data(), gradients.x, batch},
        prefetch_(fetches_early<C>(plan.num_slots, tiling_.columns)) {
    if (space_.out_weight.count) {
      over_lists([&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) out_weight_.data()[i] = widened(weight[plan.out_edge[i]]);
      });
    }
  }

  void run() {
    fill_dead();
    if (tiling_.groups == 0) return;
    if (tiling_.few()) {
      few();
    } else if (space_.keeps_rows) {
      for (int64_t first = 0; first < tiling_.tiles; first += tiling_.groups) round(first);
    } else {
      groups();
    }
    finish();
  }

 private:
  // Canonical weight sums: the result itself, or for 16-bit types a buffer in float.
  C* weight_sums() {
    if constexpr (kNarrow<T>) {
      return gradients_.weight ? weight_sums_.data() : nullptr;
    } else {
      return gradients_.weight;
    }
  }
  BackwardScratch<C> scratch(int64_t group, C* grad, C* products) {
    return {grad, products, space_.out_sums.count ? out_sums_.data() + group * plan_.num_live_edges : nullptr,
            gradients_.bias ? bias_sums_.data() + group * plan_.num_computed() : nullptr};
  }
  const T* tape_of(int64_t tile) const { return tape_ + tile * plan_.tape_rows * tiling_.columns; }
  C* rows_of(int64_t group) { return kept_rows_.data() + group * plan_.num_slots * tiling_.columns; }

  // Calls body(first, last) on the ranges of out_edge's order that lie outside of dense blocks.
  template <class Body>
  void over_lists(const Body& body) {
    if (plan_.num_blocks == 0) return parallel_for_(0, plan_.num_live_edges, kEdgesPerTask, body);
    const int64_t grain =
        std::max<int64_t>(1, kEdgesPerTask * plan_.num_slots / std::max<int64_t>(1, plan_.num_live_edges));
    parallel_for_(0, plan_.num_slots, grain, [&](int64_t begin, int64_t end) {
      for (int64_t slot = begin; slot < end; ++slot) {
        body(plan_.out_ptr[slot], plan_.out_sparse[slot]);
        body(plan_.out_split[slot], plan_.out_ptr[slot + 1]);
      }
    });
  }

  // The gradient of what reaches no output is exactly 0, and so is every gradient of an empty batch.
  void fill_dead() {
    if (gradients_.weight && (tiling_.groups == 0 || plan_.num_live_edges < plan_.num_edges)) {
      parallel_for_(0, plan_.num_edges, kEdgesPerTask, [&](int64_t begin, int64_t end) {
        std::fill(gradients_.weight + begin, gradients_.weight + end, T{});
      });
    }
    if (gradients_.bias && (tiling_.groups == 0 || plan_.num_computed() < plan_.num_biases)) {
      std::fill_n(gradients_.bias, plan_.num_biases, T{});
    }
  }

  // One tile of few samples: its nodes in parts, which threads may share stage by stage.
  void few() {
    const auto& own = kernels<T>().network;
    const RowKind kind = tiling_.kind;
    const int64_t parts = few_parts(plan_), nodes = plan_.num_computed();
    Buffer<C> rows(space_.few_rows.count);
    const FewScratch<C> shared{rows.data(), nullptr, weight_sums(), gradients_.bias ? bias_sums_.data() : nullptr,
                               parts,       true};
    const auto start_part = [&](int64_t part) { own.few_start[kind](plan_, arrays_, part, shared); };
    const StageCut cut(plan_, parts, kFewestItemEdges);
    const auto run_item = [&](int64_t stage, int64_t item, const FewScratch<C>& scratch) {
      const int64_t items = cut.items(stage);
      own.few_run[kind](plan_, arrays_, item, cut.begin(stage, item, items), cut.begin(stage, item + 1, items), tape_,
                        scratch);
    };
    // Calls body with what the calling thread works in.
    const auto with_products = [&](const auto& body) {
      Buffer<C> products(space_.products.count);
      FewScratch<C> scratch = shared;
      scratch.products = products.data();
      body(scratch);
    };
    if (space_.sharing > 1) {
      Team team(plan_.num_stages + 1);  // stage 0 is the start, and the others go backwards
      parallel_for_(0, space_.sharing, 1, [&](int64_t, int64_t) {
        with_products([&](const FewScratch<C>& scratch) {
          team.run([&](int64_t i) { return i == 0 ? parts : cut.items(plan_.num_stages - i); },
                   [&](int64_t i, int64_t item) {
                     if (i == 0) return start_part(item);
                     run_item(plan_.num_stages - i, item, scratch);
                   });
        });
      });
    } else {
      for (int64_t part = 0; part < parts; ++part) start_part(part);
      with_products([&](const FewScratch<C>& scratch) {
        if (parts == 1) return own.few_run[kind](plan_, arrays_, 0, 0, nodes, tape_, scratch);
        for (int64_t stage = plan_.num_stages - 1; stage >= 0; --stage) {
          for (int64_t item = 0; item < cut.items(stage); ++item) run_item(stage, item, scratch);
        }
      });
    }
    own.few_finish[kind](plan_, arrays_, shared);
  }

  // Each group's tiles in turn.
  void groups() {
    const auto kernel = kernels<T>().network.backward[tiling_.kind];
    parallel_for_(0, tiling_.groups, 1, [&](int64_t begin, int64_t end) {
      Buffer<C> grad(space_.grad.count), products(space_.products.count);
      for (int64_t group = begin; group < end; ++group) {
        for (int64_t tile = group; tile < tiling_.tiles; tile += tiling_.groups) {
          kernel(plan_, arrays_, tile * tiling_.columns, tile == group, prefetch_, tape_of(tile),
                 scratch(group, grad.data(), products.data()));
        }
      }
    });
  }

  // One tile of each group, from a first tile on: the gradients of all rows, then the sums over samples.
  void round(int64_t first) {
    const int64_t tiles = std::min(tiling_.groups, tiling_.tiles - first), slices = space_.slices;
    const auto& own = kernels<T>().network;
    const auto kernel = own.backward[slices > 1 ? kSlice : tiling_.kind];
    parallel_for_(0, tiles * slices, 1, [&](int64_t begin, int64_t end) {
      Buffer<C> products(space_.products.count);
      for (int64_t task = begin; task < end; ++task) {
        const int64_t group = task / slices, column = task % slices * (tiling_.columns / slices);
        BackwardScratch<C> memory = scratch(group, rows_of(group) + column, products.data());
        if (slices > 1) memory.out_sums = memory.bias_sums = nullptr;
        kernel(plan_, arrays_, (first + group) * tiling_.columns + column, first == 0, prefetch_,
               tape_of(first + group) + column, memory);
      }
    });
    if (slices > 1 && (space_.out_sums.count || gradients_.bias)) {
      const int64_t parts = std::min<int64_t>(plan_.num_slots, 16);
      parallel_for_(0, tiles * parts, 1, [&](int64_t begin, int64_t end) {
        for (int64_t task = begin; task < end; ++task) {
          const int64_t group = task / parts, part = task % parts;
          own.sums(plan_, plan_.num_slots * part / parts, plan_.num_slots * (part + 1) / parts, first == 0,
                   tape_of(first + group), scratch(group, rows_of(group), nullptr));
        }
      });
    }
    if (gradients_.weight && plan_.num_blocks > 0) block_gradients(first, tiles);
  }

  void block_gradients(int64_t first, int64_t tiles) {
    struct Task {
      int64_t block, begin, end;
    };
    std::vector<Task> tasks;
    for (int64_t block = 0; block < plan_.num_blocks; ++block) {
      const int64_t begin = plan_.block_begin[block], end = plan_.block_end[block];
      const int64_t share = (end - begin + 2 * parallel_for_.threads() - 1) / (2 * parallel_for_.threads());
      const int64_t size = std::max<int64_t>(share, kFewestBlockNodes);
      for (int64_t at = begin; at < end; at += size) tasks.push_back({block, at, std::min(at + size, end)});
    }
    parallel_for_(0, static_cast<int64_t>(tasks.size()), 1, [&](int64_t begin, int64_t end) {
      Buffer<C> strip(space_.strip.count);
      const BlockGradient<T> call{tape_of(first), rows_of(0),    tiles,     tiling_.columns,
                                  strip.data(),   weight_sums(), first == 0};
      for (int64_t i = begin; i < end; ++i) {
        kernels<T>().network.block_gradient(plan_, tasks[i].block, tasks[i].begin, tasks[i].end, call);
      }
    });
  }

  void finish() {
    if (space_.out_sums.count) {
      const int64_t groups = tiling_.groups, edges = plan_.num_live_edges;
      over_lists([&](int64_t first, int64_t last) {
        for (int64_t i = first; i < last; ++i) {
          gradients_.weight[plan_.out_edge[i]] = narrowed<T>(ordered_sum(out_sums_.data(), groups, edges, i));
        }
      });
    }
    if (space_.weight_sums.count) {
      parallel_for_(0, plan_.num_computed(), kFewestBlockNodes, [&](int64_t first, int64_t last) {
        for (int64_t node = first; node < last; ++node) {
          const int64_t end = tiling_.few() ? plan_.in_end[node] : plan_.in_split[node];
          for (int64_t e = plan_.in_begin[node]; e < end; ++e) {
            gradients_.weight[e] = narrowed<T>(weight_sums_.data()[e]);
          }
        }
      });
    }
    for (int64_t i = 0; gradients_.bias && i < plan_.num_computed(); ++i) {
      gradients_.bias[plan_.bias_index[i]] =
          narrowed<T>(ordered_sum(bias_sums_.data(), tiling_.groups, plan_.num_computed(), i));
    }
  }

  const PlanView& plan_;
  const T* tape_;
  const Gradients<T>& gradients_;
  const ParallelFor& parallel_for_;
  const Tiling<T> tiling_;
  const BackwardWorkspace<T> space_;
  const Widened<T> weight_;
  const Panels<C> panel_;
  Buffer<C> out_weight_, out_sums_, bias_sums_, weight_sums_, kept_rows_;
  const BackwardArrays<T> arrays_;
  const bool prefetch_;
};

// grad_y: [batch, O]. weight: [E]. tape: as run_forward kept it.
template <class T, class ParallelFor>
void run_backward(const PlanView& plan, const T* grad_y, const T* weight, const T* tape, int64_t batch,
                  const Gradients<T>& gradients, const ParallelFor& parallel_for) {
  BackwardRun<T, ParallelFor>(plan, grad_y, weight, tape, batch, gradients, parallel_for).run();
}

}  // namespace freewire::cpu

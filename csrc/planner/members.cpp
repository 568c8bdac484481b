// SPDX-License-Identifier: MIT
// The packed plan of a graph; see members.h.
#include "planner/members.h"

#include <algorithm>
#include <memory>

#include "node_math.h"
#include "planner/blocks.h"
#include "planner/check.h"
#include "planner/edge_lists.h"
#include "planner/pack.h"
#include "planner/reach.h"
#include "planner/rows.h"

namespace freewire::planner {

namespace {

// An array of flags, which std::vector<bool> is not.
class Flags {
 public:
  explicit Flags(size_t count) : data_(std::make_unique<bool[]>(count)), count_(count) {}
  std::span<bool> all() const { return {data_.get(), count_}; }
  bool& operator[](size_t i) const { return data_[i]; }

 private:
  std::unique_ptr<bool[]> data_;
  size_t count_;
};

void check_graph(const MemberGraph& graph, std::span<const bool> keeps) {
  const size_t nodes = graph.level.size();
  require(graph.src.size() == graph.dst.size() && graph.activation.size() == nodes && graph.aggregation.size() == nodes,
          "graph: expected arrays that fit each other, got others.");
  for (const auto& numbers : {graph.inputs, graph.outputs}) {
    for (const int64_t node : numbers) {
      require(node >= 0 && node < static_cast<int64_t>(nodes),
              "inputs, outputs: expected node numbers, got one out of range.");
    }
  }
  for (size_t node = 0; node < nodes; ++node) {
    require(graph.activation[node] < keeps.size() && graph.aggregation[node] < kNumAggregations,
            "activation, aggregation: expected codes of node_math.h, got others.");
  }
}

}  // namespace

std::vector<int64_t> packed_member(const MemberGraph& graph, std::span<const bool> keeps, int64_t row_bytes) {
  check_graph(graph, keeps);
  const size_t nodes = graph.level.size();
  const Flags keep(nodes), linear(nodes);
  for (const int64_t node : graph.outputs) keep[node] = true;
  spread(graph.src, graph.dst, /*backward=*/true, keep.all());
  std::vector<char> is_input(nodes);
  for (const int64_t node : graph.inputs) {
    keep[node] = false;
    is_input[node] = true;
  }
  for (size_t node = 0; node < nodes; ++node) {
    linear[node] = is_linear(static_cast<Aggregation>(graph.aggregation[node]));
  }
  EdgeLists lists(graph.level, graph.inputs, keep.all(), linear.all());
  const size_t computed = lists.num_computed(), slots = lists.num_slots();
  std::vector<int64_t> in_begin(computed), in_end(computed);
  std::vector<int32_t> in_src(graph.src.size());
  const int64_t live = lists.by_destination(graph.src, graph.dst, in_begin, in_end, in_src);
  const InEdges in = lists.in_edges(in_begin, in_end, in_src);
  const Blocks blocks = find_blocks(in);
  std::vector<int32_t> panel_column(blocks.num_panel ? in_src.size() : 0);
  if (blocks.num_panel) blocks.panel_columns(in, panel_column);
  std::vector<int64_t> out_ptr(slots + 1), out_sparse(slots), out_split(slots), out_edge(live);
  std::vector<int32_t> out_dst(live);
  lists.by_source(in, blocks.in_split, out_ptr, out_sparse, out_split, out_dst, out_edge);

  std::vector<int32_t> activation(computed), aggregation(computed), bias_index(computed), kept_row(computed, -1);
  std::vector<int32_t> bias_entry(nodes), output_slot(graph.outputs.size());
  int32_t num_biases = 0;
  for (size_t node = 0; node < nodes; ++node) {
    bias_entry[node] = num_biases;
    num_biases += !is_input[node];
  }
  int32_t rows = static_cast<int32_t>(slots);
  for (size_t i = 0; i < computed; ++i) {
    const int64_t node = lists.slot_node()[graph.inputs.size() + i];
    activation[i] = graph.activation[node];
    aggregation[i] = graph.aggregation[node];
    bias_index[i] = bias_entry[node];
    if (keeps[activation[i]]) kept_row[i] = rows++;
  }
  const Flags is_output(slots);
  for (size_t i = 0; i < output_slot.size(); ++i) {
    output_slot[i] = lists.slot_of()[graph.outputs[i]];
    is_output[output_slot[i]] = true;
  }
  std::vector<int32_t> inference_row(slots);
  assign_rows(lists.level_ptr(), static_cast<int64_t>(graph.inputs.size()), blocks.component, out_ptr, out_sparse,
              out_split, out_dst, is_output.all(), inference_row);

  PlanArrays plan{};
  plan.num_inputs = static_cast<int64_t>(graph.inputs.size());
  plan.num_biases = num_biases;
  plan.num_results = static_cast<int64_t>(graph.outputs.size());
  plan.row_bytes = row_bytes;
  plan.inference_row = inference_row;
  plan.level_ptr = lists.level_ptr();
  plan.in_begin = in_begin;
  plan.in_end = in_end;
  plan.in_src = in_src;
  plan.out_ptr = out_ptr;
  plan.out_split = out_split;
  plan.out_dst = out_dst;
  plan.out_edge = out_edge;
  plan.activation = activation;
  plan.aggregation = aggregation;
  plan.bias_index = bias_index;
  plan.kept_row = kept_row;
  plan.output_slot = output_slot;
  plan.run_node = blocks.run_node;
  plan.stage_ptr = blocks.stage_ptr;
  plan.block_begin = blocks.begin;
  plan.block_end = blocks.end;
  plan.block_src_ptr = blocks.src_ptr;
  plan.block_src = blocks.src;
  plan.block_panel = blocks.panel;
  plan.panel_column = panel_column;
  plan.in_split = blocks.in_split;
  plan.out_sparse = out_sparse;
  const PlanSizes sizes = plan_sizes(plan);
  std::vector<int64_t> words(packed_words(sizes));
  pack(plan, sizes, words);
  return words;
}

}  // namespace freewire::planner

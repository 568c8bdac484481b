// SPDX-License-Identifier: MIT
// Runs the planner over random graphs; tests/support/sanitize.py compiles it with a sanitizer.
//
// Without arguments it prints a line that says what ran; the exit status is 1, with one sentence on stderr, if a result
// breaks a rule. "--inject short_level" injects a bug: an array that is shorter than stated. tests/plan/test_planner.py
// checks the results against plain Python; here every array ends where its memory does, and arrays that do not fit must
// be refused before anything outside them is touched.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "planner/blocks.h"
#include "planner/edge_lists.h"
#include "planner/order.h"
#include "planner/pack.h"
#include "planner/reach.h"
#include "planner/rows.h"

namespace freewire::testing {
namespace {

using namespace planner;
using Numbers = std::vector<int64_t>;

void expect(bool holds, const char* rule) {
  if (!holds) throw std::runtime_error(rule);
}

// New memory for each result, so that its end is guarded.
struct Graph {
  Graph(const Numbers& src, const Numbers& dst, int64_t num_nodes)
      : level(num_nodes), in_degree(num_nodes), out_degree(num_nodes) {
    to_src.resize(src.size());
    to_dst.resize(src.size());
    position.resize(src.size());
    num_stuck = order(src, dst, {level, in_degree, out_degree, to_src, to_dst, position});
  }

  Numbers level, in_degree, out_degree, to_src, to_dst, position;
  int64_t num_stuck;
};

struct Flags {  // std::vector<bool> has no span
  explicit Flags(int64_t count) : size(count), values(new bool[count]()) {}
  std::span<bool> span() { return {values.get(), static_cast<size_t>(size)}; }

  int64_t size;
  std::unique_ptr<bool[]> values;
};

// Packs a plan; then again with wrong numbers in one of its arrays, which must be refused or do no harm.
void check_pack(PlanArrays arrays, std::mt19937_64& random, int64_t* refused) {
  const PlanSizes sizes = plan_sizes(arrays);
  Numbers words(packed_words(sizes));
  pack(arrays, sizes, words);
  PlanView view;
  expect(read_plan(words.data(), words.data(), words.size(), &view), "pack: expected a plan that can be read.");
  view.for_each_section([&](const char*, auto*& section, int64_t length) {
    expect(reinterpret_cast<const int64_t*>(section + length) <= words.data() + words.size(), "pack: too long.");
  });

  std::vector<int32_t> narrow;
  Numbers wide;
  const auto spoil = [&](auto& span, auto& copy) {
    copy.assign(span.begin(), span.end());
    for (int64_t i = 0; i < 3 && !copy.empty(); ++i) {
      const int64_t wrong[] = {-1, INT32_MAX, sizes.num_edges, sizes.num_slots, static_cast<int64_t>(random() % 9)};
      copy[random() % copy.size()] = wrong[random() % 5];
    }
    if (random() % 4 == 0 && !copy.empty()) copy.pop_back();
    span = copy;
  };
  std::span<const int32_t>* const narrow_arrays[] = {&arrays.in_src,        &arrays.aggregation, &arrays.output_slot,
                                                     &arrays.inference_row, &arrays.run_node,    &arrays.block_end,
                                                     &arrays.block_begin,   &arrays.block_src,   &arrays.panel_column};
  std::span<const int64_t>* const wide_arrays[] = {
      &arrays.in_begin,  &arrays.in_end,    &arrays.out_edge,      &arrays.out_ptr,     &arrays.out_sparse,
      &arrays.out_split, &arrays.stage_ptr, &arrays.block_src_ptr, &arrays.block_panel, &arrays.in_split};
  const size_t array = random() % (std::size(narrow_arrays) + std::size(wide_arrays));
  if (array < std::size(narrow_arrays)) {
    spoil(*narrow_arrays[array], narrow);
  } else {
    spoil(*wide_arrays[array - std::size(narrow_arrays)], wide);
  }
  try {
    const PlanSizes spoilt = plan_sizes(arrays);
    Numbers again(packed_words(spoilt));
    pack(arrays, spoilt, again);
  } catch (const std::invalid_argument&) {
    ++*refused;
  }
}

void plan(const Graph& graph, int64_t num_inputs, std::mt19937_64& random, int64_t* refused, int64_t* num_blocks) {
  const auto num_nodes = static_cast<int64_t>(graph.level.size());
  Numbers inputs;
  Flags live(num_nodes), linear(num_nodes);
  for (int64_t node = 0; node < num_nodes; ++node) {
    linear.span()[node] = random() % 8 > 0;
    live.span()[node] = random() % 4 == 0;
    if (!graph.in_degree[node] && static_cast<int64_t>(inputs.size()) < num_inputs) inputs.push_back(node);
  }
  spread(graph.to_src, graph.to_dst, true, live.span());
  for (const int64_t node : inputs) live.span()[node] = false;

  EdgeLists lists(graph.level, inputs, live.span(), linear.span());
  Numbers in_begin(lists.num_computed()), in_end(lists.num_computed());
  std::vector<int32_t> in_src(graph.to_src.size());
  const int64_t num_live = lists.by_destination(graph.to_src, graph.to_dst, in_begin, in_end, in_src);
  const InEdges in = lists.in_edges(in_begin, in_end, in_src);
  const Blocks blocks = find_blocks(in);
  std::vector<int32_t> panel_column(blocks.num_panel ? in_src.size() : 0);
  if (blocks.num_panel) blocks.panel_columns(in, panel_column);
  *num_blocks += static_cast<int64_t>(blocks.begin.size());
  Numbers out_ptr(lists.num_slots() + 1), out_sparse(lists.num_slots()), out_split(lists.num_slots());
  Numbers out_edge(num_live);
  std::vector<int32_t> out_dst(num_live), row(lists.num_slots());
  lists.by_source(in, blocks.in_split, out_ptr, out_sparse, out_split, out_dst, out_edge);
  expect(out_ptr.back() == num_live, "out_ptr: expected it to end with the live edges.");
  Flags is_output(lists.num_slots());
  for (bool& each : is_output.span()) each = random() % 8 == 0;
  assign_rows(lists.level_ptr(), static_cast<int64_t>(inputs.size()), blocks.component, out_ptr, out_sparse, out_split,
              out_dst, is_output.span(), row);
  for (const int32_t each : row) expect(each >= 0 && each < lists.num_slots(), "row: expected at most one a slot.");

  std::vector<int32_t> aggregation, output_slot;
  const std::vector<int32_t> activation(lists.num_computed()), kept_row(lists.num_computed(), -1);
  for (int64_t node : lists.slot_node().subspan(inputs.size())) {
    aggregation.push_back(static_cast<int32_t>(linear.span()[node] ? random() % 2 : 2 + random() % 4));
  }
  for (int64_t slot = 0; slot < lists.num_slots(); ++slot) {
    if (is_output.span()[slot]) output_slot.push_back(static_cast<int32_t>(slot));
  }
  PlanArrays arrays;
  arrays.num_inputs = static_cast<int64_t>(inputs.size());
  arrays.num_biases = num_nodes - arrays.num_inputs;
  arrays.num_results = static_cast<int64_t>(random() % (output_slot.size() + 1));
  std::vector<int32_t> state_source;
  for (const int32_t slot : output_slot) {
    if (slot >= arrays.num_inputs && static_cast<int64_t>(state_source.size()) < arrays.num_inputs) {
      state_source.push_back(slot);
    }
  }
  arrays.row_bytes = 64;
  arrays.inference_row = row;
  arrays.level_ptr = lists.level_ptr();
  arrays.in_begin = in_begin;
  arrays.in_end = in_end;
  arrays.in_src = in_src;
  arrays.out_ptr = out_ptr;
  arrays.out_split = out_split;
  arrays.out_dst = out_dst;
  arrays.out_edge = out_edge;
  arrays.activation = activation;
  arrays.aggregation = aggregation;
  arrays.bias_index = activation;
  arrays.kept_row = kept_row;
  arrays.output_slot = output_slot;
  arrays.state_source = state_source;
  arrays.run_node = blocks.run_node;
  arrays.stage_ptr = blocks.stage_ptr;
  arrays.block_begin = blocks.begin;
  arrays.block_end = blocks.end;
  arrays.block_src_ptr = blocks.src_ptr;
  arrays.block_src = blocks.src;
  arrays.block_panel = blocks.panel;
  arrays.panel_column = panel_column;
  arrays.in_split = blocks.in_split;
  arrays.out_sparse = out_sparse;
  check_pack(arrays, random, refused);
}

// Wrong numbers in one array at a time, which must be refused or do no harm.
void plan_nonsense(Graph graph, std::mt19937_64& random, int64_t* refused, int64_t* num_blocks) {
  Numbers* const arrays[] = {&graph.level, &graph.to_src, &graph.to_dst};
  Numbers& array = *arrays[random() % 3];
  for (int64_t i = 0; i < 3 && !array.empty(); ++i) {
    const int64_t wrong[] = {-1,
                             INT64_MAX,
                             INT64_MIN,
                             static_cast<int64_t>(graph.level.size()),
                             int64_t{1} << 31,
                             static_cast<int64_t>(random() % (graph.level.size() + 1))};
    array[random() % array.size()] = wrong[random() % 6];
  }
  try {
    plan(graph, 5, random, refused, num_blocks);
  } catch (const std::invalid_argument&) {
    ++*refused;
  }
}

// Adds edges between places in a topological order that make dense blocks: layers of 20 nodes that read all, or most,
// of the layer before, except that every third reads nothing; or nodes that each read all before them.
void plant_blocks(int64_t num_nodes, std::mt19937_64& random, Numbers* src, Numbers* dst) {
  const bool layers = random() % 3 > 0;
  const uint64_t missing = random() % 2;  // tenths
  for (int64_t to = 0; to < num_nodes; ++to) {
    const int64_t layer = to / 20;
    if (layers && layer % 3 == 0) continue;
    for (int64_t from = layers ? 20 * (layer - 1) : 0; from < (layers ? 20 * layer : to); ++from) {
      if (layers && random() % 10 < missing) continue;
      src->push_back(from);
      dst->push_back(to);
    }
  }
}

void run() {
  int64_t ordered = 0, stuck = 0, refused = 0, blocks = 0;
  for (uint64_t seed = 0; seed < 400; ++seed) {
    std::mt19937_64 random(seed);
    const auto num_nodes = static_cast<int64_t>(random() % 200 + 1), num_edges = static_cast<int64_t>(random() % 900);
    const bool acyclic = seed % 4 != 0;
    Numbers number(num_nodes), src, dst;
    for (int64_t node = 0; node < num_nodes; ++node) number[node] = node;
    std::shuffle(number.begin(), number.end(), random);
    const bool planted = seed % 4 == 1;
    if (planted) {
      plant_blocks(num_nodes, random, &src, &dst);
      for (int64_t& each : src) each = number[each];
      for (int64_t& each : dst) each = number[each];
    }
    for (int64_t e = 0; e < (planted ? 0 : num_edges); ++e) {
      auto from = static_cast<int64_t>(random() % num_nodes), to = static_cast<int64_t>(random() % num_nodes);
      if (acyclic && from == to) continue;
      if (acyclic && from > to) std::swap(from, to);
      src.push_back(number[from]);
      dst.push_back(number[to]);
    }
    const Graph graph(src, dst, num_nodes);
    expect(!acyclic || !graph.num_stuck, "order: expected levels for all nodes of a graph without cycles.");
    if (graph.num_stuck) {
      ++stuck;
      continue;
    }
    ++ordered;
    for (size_t e = 0; e < src.size(); ++e) {
      const int64_t at = graph.position[e];
      expect(graph.to_src.at(at) == src[e] && graph.to_dst.at(at) == dst[e], "position: expected the edge itself.");
      expect(graph.level[src[e]] < graph.level[dst[e]], "level: expected a source's below its reader's.");
    }
    plan(graph, static_cast<int64_t>(random() % 20), random, &refused, &blocks);
    for (int64_t i = 0; i < 5; ++i) plan_nonsense(graph, random, &refused, &blocks);
    if (src.empty()) continue;
    src[random() % src.size()] = random() % 2 ? -1 : num_nodes;
    try {
      const Graph nonsense(src, dst, num_nodes);
      throw std::runtime_error("order: expected a refusal of a number out of range, got none.");
    } catch (const std::invalid_argument&) {
      ++refused;
    }
  }
  expect(ordered > 100 && stuck > 20 && refused > 500 && blocks > 200, "graphs: expected many of each kind.");
  std::printf("planner; %ld graphs, %ld with cycles, %ld refusals, %ld blocks\n", static_cast<long>(ordered),
              static_cast<long>(stuck), static_cast<long>(refused), static_cast<long>(blocks));
}

// A chain, and one entry of level fewer than stated.
void inject() {
  Numbers src{0, 1, 2}, dst{1, 2, 3}, level(3), in_degree(4), out_degree(4), to_src(3), to_dst(3), position(3);
  order(src, dst, {std::span(level.data(), 4), in_degree, out_degree, to_src, to_dst, position});
}

}  // namespace
}  // namespace freewire::testing

int main(int count, char** arguments) {
  try {
    if (count == 3 && std::string(arguments[1]) == "--inject" && std::string(arguments[2]) == "short_level") {
      freewire::testing::inject();
    } else {
      freewire::testing::run();
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "planner: %s\n", error.what());
    return 1;
  }
  return 0;
}

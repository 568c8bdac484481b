// SPDX-License-Identifier: MIT
// Packs a plan; see pack.h.
#include "planner/pack.h"

#include <algorithm>
#include <span>
#include <type_traits>
#include <vector>

#include "node_math.h"
#include "planner/check.h"
#include "planner/prefetch.h"

namespace freewire::planner {

namespace {

bool gathers(const PlanArrays& plan, int64_t node) {
  return !is_linear(static_cast<Aggregation>(plan.aggregation[node]));
}

int64_t fan_in(const PlanArrays& plan, int64_t node) { return plan.in_end[node] - plan.in_begin[node]; }

// At least one: it also sums the gradient of the bias.
int64_t groups_of(const PlanArrays& plan, int64_t node) {
  return std::max<int64_t>((fan_in(plan, node) + kGroupEdges - 1) / kGroupEdges, 1);
}

// Whether each slot is an output.
std::vector<bool> outputs_of(const PlanArrays& plan) {
  std::vector<bool> is_output(plan.out_split.size());
  for (const int32_t slot : plan.output_slot) {
    require(static_cast<uint64_t>(slot) < is_output.size(),
            "output_slot: expected slot numbers, got one out of range.");
    is_output[slot] = true;
  }
  return is_output;
}

// Whether a slot's gradient starts from something other than zero.
bool is_preset(const PlanArrays& plan, const std::vector<bool>& is_output, int64_t slot) {
  return is_output[slot] || plan.out_sparse[slot] < plan.out_ptr[slot + 1];
}

// Entries of a derived section, one after the other.
template <class T>
class Appender {
 public:
  explicit Appender(std::span<T> to) : to_(to) {}
  void append(int64_t value) {
    require(count_ < to_.size(), "plan: expected no change while the planner reads it, got one.");
    to_[count_++] = static_cast<T>(value);
  }

 private:
  std::span<T> to_;
  size_t count_ = 0;
};

// The derived sections of plan_layout.h, each written by the function of its name. to has the length stated there.
namespace derived {

void out_position(const PlanArrays& plan, std::span<int64_t> to) {
  if (to.empty()) return;
  std::fill(to.begin(), to.end(), 0);
  for (size_t k = 0; k < plan.out_edge.size(); ++k) {
    prefetch(plan.out_edge, k + kAhead, to);
    const auto edge = static_cast<uint64_t>(plan.out_edge[k]);
    require(edge < to.size(), "out_edge: expected edge numbers, got one out of range.");
    to[edge] = static_cast<int64_t>(k);
  }
}

void share_begin(const PlanArrays& plan, std::span<int64_t> to) {
  int64_t row = 0;
  for (size_t node = 0; node < to.size(); ++node) {
    to[node] = row;
    if (gathers(plan, node)) row += fan_in(plan, node);
  }
}

void preset_slot(const PlanArrays& plan, std::span<int32_t> to) {
  Appender<int32_t> slots(to);
  const std::vector<bool> is_output = outputs_of(plan);
  for (size_t slot = 0; slot < is_output.size(); ++slot) {
    if (is_preset(plan, is_output, slot)) slots.append(slot);
  }
}

void output_of_slot(const PlanArrays& plan, std::span<int32_t> to) {
  std::fill(to.begin(), to.end(), -1);
  for (size_t i = 0; i < plan.output_slot.size(); ++i) {
    const auto slot = static_cast<uint64_t>(plan.output_slot[i]);
    require(slot < to.size(), "output_slot: expected slot numbers, got one out of range.");
    to[slot] = static_cast<int32_t>(i);
  }
}

void group_node(const PlanArrays& plan, std::span<int32_t> to) {
  Appender<int32_t> nodes(to);
  for (size_t node = 0; node < plan.in_begin.size(); ++node) {
    for (int64_t i = groups_of(plan, node); i > 0; --i) nodes.append(node);
  }
}

void group_edge(const PlanArrays& plan, std::span<int64_t> to) {
  Appender<int64_t> edges(to);
  for (size_t node = 0; node < plan.in_begin.size(); ++node) {
    const int64_t groups = groups_of(plan, node);
    for (int64_t i = 0; i < groups; ++i) edges.append(plan.in_begin[node] + i * kGroupEdges);
  }
}

void inference_row(const PlanArrays& plan, std::span<int32_t> to) {
  std::copy_n(plan.inference_row.begin(), to.size(), to.begin());
}

void row_src(const PlanArrays& plan, std::span<int32_t> to) {
  for (size_t e = 0; e < to.size(); ++e) {
    const auto slot = static_cast<uint64_t>(plan.in_src[e]);
    require(slot < plan.inference_row.size(), "in_src: expected slot numbers, got one out of range.");
    to[e] = plan.inference_row[slot];
  }
}

void run_edges(const PlanArrays& plan, std::span<int64_t> to) {
  int64_t edges = to[0] = 0;
  for (size_t position = 0; position < plan.run_node.size(); ++position) {
    edges += fan_in(plan, plan.run_node[position]);
    to[position + 1] = edges;
  }
}

}  // namespace derived

// The lengths of arrays that are read before all lengths are compared, and the edges of each node.
void check_nodes(const PlanArrays& plan, const PlanSizes& sizes) {
  const int64_t count = sizes.num_computed();
  const auto fits = [&](size_t length, const char* message) {
    require(static_cast<int64_t>(length) == count, message);
  };
  fits(plan.in_begin.size(), "in_begin: expected num_computed() entries, got another number.");
  fits(plan.in_end.size(), "in_end: expected num_computed() entries, got another number.");
  fits(plan.in_split.size(), "in_split: expected num_computed() entries, got another number.");
  fits(plan.aggregation.size(), "aggregation: expected num_computed() entries, got another number.");
  fits(plan.run_node.size(), "run_node: expected num_computed() entries, got another number.");
  for (int64_t node = 0; node < count; ++node) {
    require(
        0 <= plan.in_begin[node] && plan.in_begin[node] <= plan.in_end[node] && plan.in_end[node] <= sizes.num_edges,
        "in_begin: expected edges of in_src, got others.");
    require(plan.in_begin[node] <= plan.in_split[node] && plan.in_split[node] <= plan.in_end[node],
            "in_split: expected an in-edge of each node, got others.");
    require(plan.aggregation[node] >= 0 && plan.aggregation[node] < kNumAggregations,
            "aggregation: expected codes of node_math.h, got another.");
  }
}

void check_run_order(const PlanArrays& plan, const PlanSizes& sizes) {
  const int64_t count = sizes.num_computed();
  std::vector<bool> runs(count);
  for (const int32_t node : plan.run_node) {
    require(node >= 0 && node < count && !runs[node], "run_node: expected each computed node once, got others.");
    runs[node] = true;
  }
  require(sizes.num_stages >= 0 && plan.stage_ptr.front() == 0 &&
              (sizes.num_stages == 0 || plan.stage_ptr.back() == count) &&
              std::is_sorted(plan.stage_ptr.begin(), plan.stage_ptr.end()),
          "stage_ptr: expected ascending positions from 0 to the end, or 0 alone, got others.");
}

// Checks the dense blocks and adds up their sizes.
void check_blocks(const PlanArrays& plan, PlanSizes& sizes) {
  require(static_cast<int64_t>(plan.block_end.size()) == sizes.num_blocks &&
              static_cast<int64_t>(plan.block_panel.size()) == sizes.num_blocks &&
              static_cast<int64_t>(plan.block_src_ptr.size()) == sizes.num_blocks + 1,
          "block_end, block_panel, block_src_ptr: expected one entry per block, got another number.");
  int64_t last = 0, in_blocks = 0;
  for (int64_t b = 0; b < sizes.num_blocks; ++b) {
    const int64_t begin = plan.block_begin[b], end = plan.block_end[b], panel = plan.block_panel[b];
    const int64_t first = plan.block_src_ptr[b], sources = plan.block_src_ptr[b + 1] - first;
    require(last <= begin && begin < end && end <= sizes.num_computed(),
            "block_begin: expected ascending positions, got others.");
    require(first >= 0 && sources > 0 && first + sources <= sizes.num_block_src,
            "block_src_ptr: expected ascending numbers, got others.");
    last = end;
    if (panel >= 0) {
      require(panel == sizes.num_panel, "block_panel: expected one block after the other, got others.");
      require(static_cast<int64_t>(plan.panel_column.size()) == sizes.num_edges,
              "panel_column: expected num_edges entries, got another number.");
      sizes.num_panel += (end - begin) * sources;
    }
    for (int64_t position = begin; position < end; ++position) {
      const int32_t node = plan.run_node[position];
      const int64_t edges = plan.in_split[node] - plan.in_begin[node];
      require(!gathers(plan, node), "run_node: expected nodes of linear aggregation in dense blocks, got others.");
      require(panel >= 0 ? edges <= sources : edges == sources,
              "in_split: expected in-edges from the block's sources, got others.");
      sizes.num_block_edges += edges;
      for (int64_t e = plan.in_begin[node]; panel >= 0 && e < plan.in_split[node]; ++e) {
        require(plan.panel_column[e] >= 0 && plan.panel_column[e] < sources,
                "panel_column: expected sources of the edge's block, got others.");
      }
    }
  }
  for (int64_t node = 0; node < sizes.num_computed(); ++node) in_blocks += plan.in_split[node] - plan.in_begin[node];
  require(in_blocks == sizes.num_block_edges, "in_split: expected in_begin for nodes outside of blocks, got others.");
  for (const int32_t slot : plan.block_src) {
    require(slot >= 0 && slot < sizes.num_slots, "block_src: expected slots, got others.");
  }
}

void check_states(const PlanArrays& plan, const PlanSizes& sizes) {
  require(sizes.num_states <= plan.num_inputs, "state_source: expected at most one per input, got more.");
  require(0 <= plan.num_results && plan.num_results <= sizes.num_outputs,
          "num_results: expected at most one per output, got another number.");
  const std::vector<bool> is_output = outputs_of(plan);
  std::vector<bool> is_source(is_output.size());
  const int64_t first = plan.num_inputs - sizes.num_states;
  for (int64_t state = 0; state < sizes.num_states; ++state) {
    const int64_t source = plan.state_source[state];
    require(source >= 0 && source < sizes.num_slots && is_output[source],
            "state_source: expected outputs, got others.");
    require(!is_source[source], "state_source: expected different slots, got one twice.");
    is_source[source] = true;
    require(source < first || source >= plan.num_inputs || source < first + state,
            "state_source: expected no state before its source, got one.");
  }
}

void check_out_edges(const PlanArrays& plan, const PlanSizes& sizes) {
  for (int64_t slot = 0; slot < sizes.num_slots; ++slot) {
    require(0 <= plan.out_ptr[slot] && plan.out_ptr[slot] <= plan.out_sparse[slot] &&
                plan.out_sparse[slot] <= plan.out_split[slot] && plan.out_split[slot] <= plan.out_ptr[slot + 1] &&
                plan.out_ptr[slot + 1] <= sizes.num_live_edges,
            "out_ptr, out_sparse, out_split: expected ascending numbers up to that of edges, got others.");
  }
}

int64_t words_of(int64_t entries, size_t bytes) { return (entries * static_cast<int64_t>(bytes) + 7) / 8; }

// The arrays' own lengths, and those that follow from them.
PlanSizes checked_sizes(const PlanArrays& plan) {
  PlanSizes sizes{};
  sizes.num_inputs = plan.num_inputs;
  sizes.num_slots = static_cast<int64_t>(plan.out_split.size());
  sizes.num_outputs = static_cast<int64_t>(plan.output_slot.size());
  sizes.num_edges = static_cast<int64_t>(plan.in_src.size());
  sizes.num_live_edges = static_cast<int64_t>(plan.out_dst.size());
  sizes.num_biases = plan.num_biases;
  sizes.num_states = static_cast<int64_t>(plan.state_source.size());
  sizes.num_results = plan.num_results;
  sizes.row_bytes = plan.row_bytes;
  sizes.num_levels = static_cast<int64_t>(plan.level_ptr.size()) - 1;
  sizes.num_stages = static_cast<int64_t>(plan.stage_ptr.size()) - 1;
  sizes.num_blocks = static_cast<int64_t>(plan.block_begin.size());
  sizes.num_block_src = static_cast<int64_t>(plan.block_src.size());
  require(plan.num_inputs >= 0 && plan.num_inputs <= sizes.num_slots,
          "num_inputs: expected at most one per slot, got another number.");
  for (const int32_t entry : plan.bias_index) {
    require(entry >= 0 && entry < plan.num_biases, "bias_index: expected entries of the bias, got others.");
  }
  require(plan.row_bytes == 64 || plan.row_bytes == 128 || plan.row_bytes == 256,
          "row_bytes: expected 64, 128 or 256, got another number.");
  require(static_cast<int64_t>(plan.inference_row.size()) == sizes.num_slots,
          "inference_row: expected num_slots entries, got another number.");
  check_states(plan, sizes);
  check_nodes(plan, sizes);
  check_run_order(plan, sizes);
  check_blocks(plan, sizes);
#define FREEWIRE_GIVEN(type, name, length)                                 \
  require(static_cast<int64_t>(plan.name.size()) == sizes.name##_length(), \
          #name ": expected " #length " entries, got another number.");
#define FREEWIRE_DERIVED(type, name, length)
  FREEWIRE_PLAN_SECTIONS(FREEWIRE_GIVEN, FREEWIRE_DERIVED)
#undef FREEWIRE_GIVEN
#undef FREEWIRE_DERIVED
  check_out_edges(plan, sizes);
  return sizes;
}

}  // namespace

PlanSizes plan_sizes(const PlanArrays& plan) {
  PlanSizes sizes = checked_sizes(plan);
  sizes.tape_rows = sizes.num_slots;
  for (int64_t node = 0; node < sizes.num_computed(); ++node) {
    const int64_t edges = fan_in(plan, node);
    if (plan.kept_row[node] >= 0) ++sizes.tape_rows;
    if (gathers(plan, node)) sizes.gather_edges += edges;
    if (static_cast<Aggregation>(plan.aggregation[node]) == Aggregation::kProduct) {
      sizes.product_fan_in = std::max(sizes.product_fan_in, edges);
    }
    sizes.num_groups += groups_of(plan, node);
  }
  for (int64_t level = 0; level < sizes.num_levels; ++level) {
    const int64_t first = std::max(plan.level_ptr[level], plan.num_inputs);
    sizes.level_width = std::max(sizes.level_width, plan.level_ptr[level + 1] - first);
  }
  require(sizes.level_width <= sizes.num_computed(), "level_ptr: expected slot numbers, got others.");
  const std::vector<bool> is_output = outputs_of(plan);
  int64_t inference_rows = 0;
  for (int64_t slot = 0; slot < sizes.num_slots; ++slot) {
    if (is_preset(plan, is_output, slot)) ++sizes.num_presets;
    require(0 <= plan.inference_row[slot] && plan.inference_row[slot] < sizes.num_slots,
            "inference_row: expected at most one row per slot, got others.");
    inference_rows = std::max<int64_t>(inference_rows, plan.inference_row[slot] + 1);
  }
  // Reusing rows must save a quarter of them, since every edge then has to name a second row.
  sizes.scratch_rows = 4 * inference_rows <= 3 * sizes.num_slots ? inference_rows : sizes.num_slots;
  return sizes;
}

int64_t packed_words(const PlanSizes& sizes) {
  int64_t words = kPlanHeader;
#define FREEWIRE_SECTION(type, name, length) words += words_of(sizes.name##_length(), sizeof(type));
  FREEWIRE_PLAN_SECTIONS(FREEWIRE_SECTION, FREEWIRE_SECTION)
#undef FREEWIRE_SECTION
  return words;
}

void pack(const PlanArrays& plan, const PlanSizes& sizes, std::span<int64_t> words) {
  require(static_cast<int64_t>(words.size()) == packed_words(sizes),
          "words: expected room for the plan, got another length.");
  int64_t* header = words.data();
  *header++ = kPlanMagic;
  *header++ = static_cast<int64_t>(words.size());
#define FREEWIRE_SIZE(name) *header++ = sizes.name;
  FREEWIRE_PLAN_SIZES(FREEWIRE_SIZE)
#undef FREEWIRE_SIZE
  int64_t start = kPlanHeader;
  const auto section = [&]<class V>(std::type_identity<V>, int64_t length, auto&& write) {
    *header++ = start;
    *header++ = length;
    int64_t* const first = words.data() + start;
    start += words_of(length, sizeof(V));
    if (length) words[start - 1] = 0;  // the half word after a section of odd length
    write(std::span(reinterpret_cast<V*>(first), length));
  };
#define FREEWIRE_GIVEN(type, name, length)                   \
  section(std::type_identity<type>{}, sizes.name##_length(), \
          [&](std::span<type> to) { std::copy_n(plan.name.begin(), to.size(), to.begin()); });
#define FREEWIRE_DERIVED(type, name, length) \
  section(std::type_identity<type>{}, sizes.name##_length(), [&](std::span<type> to) { derived::name(plan, to); });
  FREEWIRE_PLAN_SECTIONS(FREEWIRE_GIVEN, FREEWIRE_DERIVED)
#undef FREEWIRE_GIVEN
#undef FREEWIRE_DERIVED
}

}  // namespace freewire::planner

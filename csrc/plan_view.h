// SPDX-License-Identifier: MIT
// The plan as the kernels see it: sizes and pointers into one packed array.
//
// Enters: the int64 words that freewire/plan/plan.py's Plan.pack() made, in any device's memory, and their header in
// the host's. Leaves: PlanView. One array instead of a dozen tensors, because each tensor argument costs a call about
// as much as a small network's arithmetic. No torch here.
//
// Words: S slots (rows of the tape), of which the first I are the inputs; C = S - I computed nodes; E edges
// of the graph; M <= E live edges, those between nodes that reach an output; O outputs.
#pragma once

#include <cstdint>

namespace freewire {

// "freewir" and the layout's version.
constexpr int64_t kPlanMagic = 0x7269776565726600 | 2;

constexpr int64_t kGroupEdges = 32;

struct PlanView {
  int64_t num_inputs;
  int64_t num_slots;
  int64_t num_outputs;
  int64_t num_edges;
  int64_t num_live_edges;
  int64_t num_biases;      // computed nodes of the graph, dead ones included
  int64_t tape_rows;       // S, and one row more for each pre-activation kept for the backward
  int64_t gather_edges;    // live edges into nodes whose aggregation is not linear
  int64_t product_fan_in;  // the largest fan-in of a product
  int64_t row_bytes;       // bytes of a tape row at most: 64, 128 or 256

  int64_t num_levels;   // L
  int64_t level_width;  // the most computed nodes of one level
  int64_t num_presets;  // P
  int64_t num_groups;   // G
  int64_t num_rows;     // rows of the tape where nothing is kept: S, or fewer where they are used again

  const int64_t* level_ptr;     // [L + 1] the first slot of each level
  const int64_t* in_begin;      // [C] the first in-edge of each computed node, in canonical order
  const int64_t* in_end;        // [C]
  const int32_t* in_src;        // [E] slot of each edge's source; 0 for a dead edge
  const int64_t* out_ptr;       // [S + 1] the reversed graph's rows
  const int64_t* out_split;     // [S] where, within a row, the edges into nodes of linear aggregation end
  const int32_t* out_dst;       // [M] slot of each edge's destination
  const int64_t* out_edge;      // [M] the edge's canonical number
  const int64_t* out_position;  // [E] the inverse of out_edge; absent where every aggregation is linear
  const int64_t* share_begin;   // [C] first row of what a non-linear node's in-edges receive; absent as above
  const int32_t* activation;    // [C]
  const int32_t* aggregation;   // [C]
  const int32_t* bias_index;    // [C] which entry of the bias
  const int32_t* kept_row;      // [C] the tape row of the node's pre-activation, or -1
  const int32_t* output_slot;   // [O]
  const int32_t* preset_slot;   // [P] slots whose gradient starts from something: outputs, sources of non-linear nodes
  const int32_t* output_of_slot;  // [S] which output the slot is, or -1
  const int32_t* group_node;  // [G] in-edges in groups of at most kGroupEdges: their node, one group at least a node
  const int64_t* group_edge;  // [G] and the first of them
  // Where rows are used again (num_rows < S; else both are absent): an input's row is its slot's number, an output's is
  // nobody else's, and a row that level l reads last is written again on a later level only.
  const int32_t* slot_row;  // [S] the row of each slot
  const int32_t* row_src;   // [E] the row of each edge's source; 0 for a dead edge

  constexpr int64_t num_computed() const { return num_slots - num_inputs; }
  constexpr bool reuses_rows() const { return num_rows < num_slots; }
};

// The header: the sizes, then each section's first word and length, in PlanView's order.
constexpr int64_t kPlanSizes = 17;
constexpr int64_t kPlanSections = 21;
constexpr int64_t kPlanHeader = kPlanSizes + 2 * kPlanSections;

// Reads a header of kPlanHeader numbers, of a plan whose count words stand at words; false where it is no header of
// this layout, or a section's length is not what the sizes say. Constant time: the words themselves are not looked at,
// so they may lie on another device, and what stands in the sections is trusted.
inline bool read_plan(const int64_t* header, const int64_t* words, int64_t count, PlanView* plan) {
  if (count < kPlanHeader || header[0] != kPlanMagic || header[1] != count) return false;
  plan->num_inputs = header[2];
  plan->num_slots = header[3];
  plan->num_outputs = header[4];
  plan->num_edges = header[5];
  plan->num_live_edges = header[6];
  plan->num_biases = header[7];
  plan->tape_rows = header[8];
  plan->gather_edges = header[9];
  plan->product_fan_in = header[10];
  plan->row_bytes = header[11];
  plan->num_levels = header[12];
  plan->level_width = header[13];
  plan->num_presets = header[14];
  plan->num_groups = header[15];
  plan->num_rows = header[16];
  for (int64_t i = 2; i < kPlanSizes; ++i) {
    if (header[i] < 0) return false;
  }
  if (plan->num_rows > plan->num_slots) return false;
  if (plan->row_bytes != 64 && plan->row_bytes != 128 && plan->row_bytes != 256) return false;

  const int64_t* table = header + kPlanSizes;
  bool fits = true;
  // The next section: where it starts, given how many entries of how many bytes it must hold.
  const auto section = [&](int64_t entries, int64_t bytes) {
    const int64_t start = table[0], length = table[1];
    table += 2;
    fits = fits && start >= kPlanHeader && start <= count && length == entries && length >= 0 &&
           length <= (count - start) * 8 / bytes;
    return words + (fits ? start : 0);
  };
  const auto wide = [&](int64_t entries) { return section(entries, 8); };
  const auto narrow = [&](int64_t entries) { return reinterpret_cast<const int32_t*>(section(entries, 4)); };
  const int64_t computed = plan->num_computed(), slots = plan->num_slots;
  plan->level_ptr = wide(plan->num_levels + 1);
  plan->in_begin = wide(computed);
  plan->in_end = wide(computed);
  plan->in_src = narrow(plan->num_edges);
  plan->out_ptr = wide(slots + 1);
  plan->out_split = wide(slots);
  plan->out_dst = narrow(plan->num_live_edges);
  plan->out_edge = wide(plan->num_live_edges);
  plan->out_position = wide(plan->gather_edges ? plan->num_edges : 0);
  plan->share_begin = wide(plan->gather_edges ? computed : 0);
  plan->activation = narrow(computed);
  plan->aggregation = narrow(computed);
  plan->bias_index = narrow(computed);
  plan->kept_row = narrow(computed);
  plan->output_slot = narrow(plan->num_outputs);
  plan->preset_slot = narrow(plan->num_presets);
  plan->output_of_slot = narrow(slots);
  plan->group_node = narrow(plan->num_groups);
  plan->group_edge = wide(plan->num_groups);
  plan->slot_row = narrow(plan->reuses_rows() ? slots : 0);
  plan->row_src = narrow(plan->reuses_rows() ? plan->num_edges : 0);
  return fits;
}

}  // namespace freewire

// SPDX-License-Identifier: MIT
// The layout of the packed plan: the only list of its sizes and the only list of its sections.
//
// A packed plan is one array of int64 words. It starts with a header: a magic number, the number of words, the sizes,
// then for each section its first word and its length in entries. The sections follow, each from a whole word on. It is
// one array and not a dozen tensors because each tensor argument costs a call about as much as a small network's
// arithmetic.
//
// PlanView and its reader (plan_view.h), the packer (planner/pack.h) and what Python knows of the layout
// (planner/module.cpp) are generated from these lists. To add a size, add a line here and compute its value in
// plan_sizes() of planner/pack.cpp. To add a section, add a line here: a GIVEN section is copied from the field of that
// name of freewire/plan/plan.py's Plan; a DERIVED one is computed by the function of that name in planner/pack.cpp.
//
// S slots (rows of the tape), of which the first I are the inputs; C = S - I computed nodes; E edges of the graph;
// M <= E live edges, those between nodes that reach an output; O outputs; V states; L levels; P presets; G groups; D
// dense blocks.
#pragma once

#include <cstdint>

#define FREEWIRE_PLAN_SIZES(SIZE)                                                                        \
  SIZE(num_inputs)      /* I */                                                                          \
  SIZE(num_slots)       /* S */                                                                          \
  SIZE(num_outputs)     /* O */                                                                          \
  SIZE(num_edges)       /* E */                                                                          \
  SIZE(num_live_edges)  /* M */                                                                          \
  SIZE(num_biases)      /* entries of the bias; the last may serve many nodes */                         \
  SIZE(num_states)      /* V <= I: of the inputs, the last, which hold values of earlier time steps */   \
  SIZE(num_results)     /* of the outputs, those that are the caller's: the first */                     \
  SIZE(tape_rows)       /* S, plus one row for each pre-activation kept for the backward */              \
  SIZE(gather_edges)    /* live edges into nodes whose aggregation is not linear */                      \
  SIZE(product_fan_in)  /* the largest fan-in of a product */                                            \
  SIZE(row_bytes)       /* maximum bytes of a tape row: 64, 128 or 256 */                                \
  SIZE(num_levels)      /* L */                                                                          \
  SIZE(level_width)     /* the most computed nodes on one level */                                       \
  SIZE(num_presets)     /* P */                                                                          \
  SIZE(num_groups)      /* G */                                                                          \
  SIZE(scratch_rows)    /* rows that inference works in: S, or fewer where a row serves several slots */ \
  SIZE(num_stages)      /* stages of the run order, or 0 where it does not go level by level */          \
  SIZE(num_blocks)      /* D */                                                                          \
  SIZE(num_block_src)   /* sources of all dense blocks */                                                \
  SIZE(num_block_edges) /* live edges in dense blocks */                                                 \
  SIZE(num_panel)       /* entries of the padded weight matrices of all padded blocks */

// Element type, name, and length in terms of the sizes (and of PlanSizes' members).
//
// out_sparse, out_split: the edges of a slot lead, up to out_sparse, into nodes of linear aggregation outside of dense
//   blocks; up to out_split, into dense blocks; from there on, into nodes of other aggregations.
// preset_slot: slots whose gradient does not start from zero: outputs, and sources of dense blocks and of nodes whose
//   aggregation is not linear.
// run_node: an order in which every node follows its sources. It goes level by level, and then has stages, or one
//   component of the graph after the other. The nodes of a stage need nothing from one another, except those of one
//   dense block.
// Dense block: nodes of linear aggregation, one after the other in run_node, that read the block's sources. A node's
//   in-edges in the block come first, up to in_split, and read the sources in block_src's order. Its other in-edges may
//   come from earlier nodes of the block. In a padded block (block_panel >= 0) a node may lack some of the sources; its
//   row of weights is that of a copy [nodes, sources] with zeros for them.
// state_source: states are in an order in which none is the source of one before it. Every source is an output, and
//   that of one state only.
// group_node, group_edge: each node's in-edges in groups of at most kGroupEdges, at least one group per node.
// inference_row, row_src: where rows are reused, an input's row is its slot's number, an output shares its row with no
//   later slot, and a row that level l reads last is written again on a later level only.
#define FREEWIRE_PLAN_SECTIONS(GIVEN, DERIVED)                                                                   \
  GIVEN(int64_t, level_ptr, num_levels + 1)                 /* first slot of each level */                       \
  GIVEN(int64_t, in_begin, num_computed())                  /* first in-edge of each node, in canonical order */ \
  GIVEN(int64_t, in_end, num_computed())                    /* one past its last in-edge */                      \
  GIVEN(int32_t, in_src, num_edges)                         /* slot of each edge's source; 0 for a dead edge */  \
  GIVEN(int64_t, out_ptr, num_slots + 1)                    /* row pointers of the reversed graph */             \
  GIVEN(int64_t, out_split, num_slots)                      /* where the edges into non-linear nodes begin */    \
  GIVEN(int32_t, out_dst, num_live_edges)                   /* slot of each edge's destination */                \
  GIVEN(int64_t, out_edge, num_live_edges)                  /* its canonical number */                           \
  DERIVED(int64_t, out_position, if_gathers(num_edges))     /* the inverse of out_edge */                        \
  DERIVED(int64_t, share_begin, if_gathers(num_computed())) /* first row of the gradients of a node's terms */   \
  GIVEN(int32_t, activation, num_computed())                /* code of node_math.h */                            \
  GIVEN(int32_t, aggregation, num_computed())               /* code of node_math.h */                            \
  GIVEN(int32_t, bias_index, num_computed())                /* entry of the bias vector */                       \
  GIVEN(int32_t, kept_row, num_computed())                  /* tape row of the kept pre-activation, or -1 */     \
  GIVEN(int32_t, output_slot, num_outputs)                  /* slot of each output */                            \
  GIVEN(int32_t, state_source, num_states)                  /* slot whose value a state has in the next step */  \
  DERIVED(int32_t, preset_slot, num_presets)                /* ascending */                                      \
  DERIVED(int32_t, output_of_slot, num_slots)               /* which output the slot is, or -1 */                \
  DERIVED(int32_t, group_node, num_groups)                  /* node of each group */                             \
  DERIVED(int64_t, group_edge, num_groups)                  /* first in-edge of each group */                    \
  DERIVED(int32_t, inference_row, if_reuses(num_slots))     /* row of each slot in inference */                  \
  DERIVED(int32_t, row_src, if_reuses(num_edges))           /* inference_row of each edge's source */            \
  GIVEN(int32_t, run_node, num_computed())                  /* the nodes in the order of the CPU */              \
  DERIVED(int64_t, run_edges, num_computed() + 1)           /* in-edges of the nodes before each position */     \
  GIVEN(int64_t, stage_ptr, num_stages + 1)                 /* first position of each stage */                   \
  GIVEN(int32_t, block_begin, num_blocks)                   /* first position of each dense block, ascending */  \
  GIVEN(int32_t, block_end, num_blocks)                     /* one past its last position */                     \
  GIVEN(int64_t, block_src_ptr, num_blocks + 1)             /* where its sources begin in block_src */           \
  GIVEN(int32_t, block_src, num_block_src)                  /* slots of the sources, in canonical order */       \
  GIVEN(int64_t, block_panel, num_blocks)                   /* where its padded weights begin, or -1 */          \
  GIVEN(int32_t, panel_column, if_padded(num_edges))        /* which source of its block an edge reads */        \
  GIVEN(int64_t, in_split, num_computed())                  /* first in-edge outside the node's block */         \
  GIVEN(int64_t, out_sparse, num_slots)                     /* where a slot's edges in blocks begin */

namespace freewire {

constexpr int64_t kGroupEdges = 32;

namespace layout {

// FNV-1a. Starts with a version to raise when the meaning of a section changes and its line does not.
constexpr int64_t hash(const char* text) {
  uint64_t value = 0xcbf29ce484222325 ^ 3;
  for (; *text; ++text) value = (value ^ static_cast<uint64_t>(static_cast<unsigned char>(*text))) * 0x100000001b3;
  return static_cast<int64_t>(value);
}

#define FREEWIRE_TEXT(...) #__VA_ARGS__ ";"
#define FREEWIRE_ONE(...) +1
constexpr int64_t kMagic =
    hash(FREEWIRE_PLAN_SIZES(FREEWIRE_TEXT) FREEWIRE_PLAN_SECTIONS(FREEWIRE_TEXT, FREEWIRE_TEXT));
constexpr int64_t kSizes = 2 FREEWIRE_PLAN_SIZES(FREEWIRE_ONE);  // words before the table of sections
constexpr int64_t kSections = 0 FREEWIRE_PLAN_SECTIONS(FREEWIRE_ONE, FREEWIRE_ONE);
#undef FREEWIRE_TEXT
#undef FREEWIRE_ONE

}  // namespace layout

// Differs for any two layouts, so that no kernel reads a plan that another version packed.
constexpr int64_t kPlanMagic = layout::kMagic;
constexpr int64_t kPlanSizes = layout::kSizes;
constexpr int64_t kPlanHeader = kPlanSizes + 2 * layout::kSections;

}  // namespace freewire

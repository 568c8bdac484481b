// SPDX-License-Identifier: MIT
// Dense blocks: nodes that read the same sources, which run as products of matrices. Found from the edges alone.
//
// From each node's in-edges: the order in which the CPU runs the nodes, its stages, the blocks, and which in-edges of a
// node are in its block (csrc/plan_layout.h says what they mean). There are three kinds of blocks:
// - exact: kMinNodes or more nodes of one level and component that read the same kMinSources or more sources;
// - padded: nodes of one level and component with nearly the same sources (padded.h);
// - triangles: up to kTriangleNodes nodes, each of which reads the sources of the one before it, and that one:
// DenseNets
//   of single neurons. The block's sources are those of its first node. If the order goes level by level, these nodes
//   are the only ones of their levels, and the levels become one stage.
// Nodes with the same sources follow one another in the order even where they are too few for a block.
//
// Time and memory are linear in nodes and edges, apart from sorting the nodes of levels with padded blocks. The same
// graph has the same blocks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "planner/in_edges.h"

namespace freewire::planner {

constexpr size_t kMinNodes = 4, kMinSources = 4;
constexpr int64_t kTriangleNodes = 16, kTriangleSources = 16;

// The sections of that name in plan_layout.h, except for:
struct Blocks {
  std::vector<int32_t> run_node;
  std::vector<int64_t> stage_ptr;
  std::vector<int32_t> component;      // [S] component of each slot; empty if the order goes level by level
  std::vector<int64_t> component_ptr;  // first position of each component, and C; or [0]
  std::vector<int32_t> begin, end, src;
  std::vector<int64_t> src_ptr, panel, in_split;

  int64_t num_panel = 0;  // entries of all padded weights

  // to: the section panel_column, [E], if any block is padded.
  void panel_columns(const InEdges& in, std::span<int32_t> to) const;
};

Blocks find_blocks(const InEdges& in);

}  // namespace freewire::planner

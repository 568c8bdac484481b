// SPDX-License-Identifier: MIT
// freewire._planner: the planner's functions as Python calls them, with numpy arrays.
//
// Enters: arrays of exactly the type, contiguous (others raise TypeError), of lengths that fit (else ValueError).
// Leaves: new arrays. Nothing but that is done here: the work is in the other files of this folder, which know no
// Python and check what they read. The interpreter's lock is given up while they work.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>

#include "planner/check.h"
#include "planner/edge_lists.h"
#include "planner/order.h"
#include "planner/reach.h"
#include "planner/rows.h"
#include "planner/twins.h"

namespace py = pybind11;

namespace freewire::planner {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

template <class T>
std::span<const T> entries(const Array<T>& array, py::ssize_t dimensions = 1) {
  require(array.ndim() == dimensions, "array: expected another number of dimensions.");
  require(std::bit_cast<uintptr_t>(array.data()) % alignof(T) == 0, "array: expected aligned numbers, got others.");
  return {array.data(), static_cast<size_t>(array.size())};
}

template <class T>
std::span<T> room(Array<T>& array) {
  return {array.mutable_data(), static_cast<size_t>(array.size())};
}

template <class T>
Array<T> made(std::span<const T> values) {
  return Array<T>(static_cast<py::ssize_t>(values.size()), values.data());
}

// What f returns, worked out without the interpreter's lock.
template <class F>
auto unlocked(F f) {
  const py::gil_scoped_release unlock;
  return f();
}

void check_nodes(int64_t num_nodes) {
  require(num_nodes >= 0 && num_nodes <= kMaxNodes, "num_nodes: expected 0 to 2^31, got another number.");
}

// Source and destination of an edge_index, int64 [2, E].
struct Edges {
  explicit Edges(const Array<int64_t>& edge_index) {
    const auto both = entries(edge_index, 2);
    require(edge_index.shape(0) == 2, "edge_index: expected two rows, got another number.");
    src = both.first(both.size() / 2);
    dst = both.last(both.size() / 2);
  }

  std::span<const int64_t> src, dst;
};

// -> level, in_degree, out_degree: int64 [N]; and unless a cycle leaves some levels at -1, edge_index: int64 [2, E],
// edge_position: int64 [E].
py::dict ordered(const Array<int64_t>& src, const Array<int64_t>& dst, int64_t num_nodes) {
  const auto from = entries(src), to = entries(dst);
  check_nodes(num_nodes);
  Array<int64_t> level(num_nodes), in_degree(num_nodes), out_degree(num_nodes);
  Array<int64_t> edge_index({py::ssize_t{2}, src.size()}), position(src.size());
  const auto both = room(edge_index);
  const Ordered results{
      room(level), room(in_degree), room(out_degree), both.first(from.size()), both.last(from.size()), room(position)};
  const int64_t num_stuck = unlocked([&] { return order(from, to, results); });
  py::dict found;
  found["level"] = level;
  found["in_degree"] = in_degree;
  found["out_degree"] = out_degree;
  if (num_stuck) return found;
  found["edge_index"] = edge_index;
  found["edge_position"] = position;
  return found;
}

// -> bool [N]
Array<bool> reach(const Array<int64_t>& edge_index, const Array<int64_t>& start, int64_t num_nodes, bool backward) {
  const Edges edges(edge_index);
  const auto starts = entries(start);
  check_nodes(num_nodes);
  Array<bool> reached(num_nodes);
  const auto marks = room(reached);
  unlocked([&] {
    std::fill(marks.begin(), marks.end(), false);
    for (const int64_t node : starts) {
      require(node >= 0 && node < num_nodes, "start: expected node numbers, got one out of range.");
      marks[node] = true;
    }
    spread(edges.src, edges.dst, backward, marks);
  });
  return reached;
}

// -> slot_of: int32 [N], -1 where a node has no slot; the others as freewire/plan/plan.py's Plan has them.
py::dict edge_lists(const Array<int64_t>& edge_index, const Array<int64_t>& level, const Array<int64_t>& inputs,
                    const Array<bool>& keep, const Array<bool>& linear) {
  const Edges edges(edge_index);
  const auto levels = entries(level), ins = entries(inputs);
  const auto keeps = entries(keep), linears = entries(linear);
  auto lists = unlocked([&] { return EdgeLists(levels, ins, keeps, linears); });
  Array<int64_t> in_begin(lists.num_computed()), in_end(lists.num_computed());
  Array<int32_t> in_src(static_cast<py::ssize_t>(edges.src.size()));
  const auto begins = room(in_begin), ends = room(in_end);
  const auto sources = room(in_src);
  const int64_t live = unlocked([&] { return lists.by_destination(edges.src, edges.dst, begins, ends, sources); });
  Array<int64_t> out_ptr(lists.num_slots() + 1), out_split(lists.num_slots()), out_edge(live);
  Array<int32_t> out_dst(live);
  const auto ptrs = room(out_ptr), splits = room(out_split), numbers = room(out_edge);
  const auto targets = room(out_dst);
  unlocked([&] { lists.by_source(begins, ends, sources, ptrs, splits, targets, numbers); });
  py::dict found;
  found["slot_of"] = made(lists.slot_of());
  found["slot_node"] = made(lists.slot_node());
  found["level_ptr"] = made(lists.level_ptr());
  found["in_begin"] = in_begin;
  found["in_end"] = in_end;
  found["in_src"] = in_src;
  found["out_ptr"] = out_ptr;
  found["out_split"] = out_split;
  found["out_dst"] = out_dst;
  found["out_edge"] = out_edge;
  return found;
}

// -> int32 [S]
Array<int32_t> inference_rows(const Array<int64_t>& level_ptr, int64_t num_inputs, const Array<int64_t>& out_ptr,
                              const Array<int64_t>& out_split, const Array<int32_t>& out_dst,
                              const Array<bool>& is_output) {
  const auto levels = entries(level_ptr), ptrs = entries(out_ptr), splits = entries(out_split);
  const auto targets = entries(out_dst);
  const auto outputs = entries(is_output);
  Array<int32_t> row(is_output.size());
  const auto rows = room(row);
  unlocked([&] { assign_rows(levels, num_inputs, ptrs, splits, targets, outputs, rows); });
  return row;
}

int64_t twin_edges(const Array<int64_t>& level_ptr, int64_t num_inputs, const Array<int64_t>& in_begin,
                   const Array<int64_t>& in_end, const Array<int32_t>& in_src) {
  const auto levels = entries(level_ptr), begins = entries(in_begin), ends = entries(in_end);
  const auto sources = entries(in_src);
  return unlocked([&] { return count_twin_edges(levels, num_inputs, begins, ends, sources); });
}

}  // namespace
}  // namespace freewire::planner

PYBIND11_MODULE(_planner, m) {
  namespace own = freewire::planner;
  const auto exact = [](const char* name) { return py::arg(name).noconvert(); };  // no silent copy of another type
  m.def("order", own::ordered, exact("src"), exact("dst"), exact("num_nodes"));
  m.def("reach", own::reach, exact("edge_index"), exact("start"), exact("num_nodes"), exact("backward"));
  m.def("edge_lists", own::edge_lists, exact("edge_index"), exact("level"), exact("inputs"), exact("keep"),
        exact("linear"));
  m.def("inference_rows", own::inference_rows, exact("level_ptr"), exact("num_inputs"), exact("out_ptr"),
        exact("out_split"), exact("out_dst"), exact("is_output"));
  m.def("twin_edges", own::twin_edges, exact("level_ptr"), exact("num_inputs"), exact("in_begin"), exact("in_end"),
        exact("in_src"));
}

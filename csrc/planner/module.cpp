// SPDX-License-Identifier: MIT
// freewire._native._planner: the planner's functions as Python calls them, with numpy arrays.
//
// Arrays must have exactly the stated type and be contiguous (else TypeError), and lengths must fit (else ValueError);
// results are new arrays. This file only converts: the work is in the other files of this folder and in the workspace.h
// headers of the kernels, which know nothing of Python and check what they read. The interpreter's lock is released
// while they work.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <vector>

#include "cpu/network/sequence_workspace.h"
#include "cuda/network/sequence_workspace.h"
#include "number.h"
#include "plan_view.h"
#include "planner/blocks.h"
#include "planner/check.h"
#include "planner/edge_lists.h"
#include "planner/members.h"
#include "planner/order.h"
#include "planner/pack.h"
#include "planner/reach.h"
#include "planner/rows.h"

namespace py = pybind11;

namespace freewire::planner {
namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;

template <class T>
std::span<const T> entries(const Array<T>& array, py::ssize_t dimensions = 1) {
  require(array.ndim() == dimensions, dimensions == 1 ? "array: expected one dimension, got another number."
                                                      : "edge_index: expected two dimensions, got another number.");
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

// Calls f without the interpreter's lock and returns its result.
template <class F>
auto unlocked(F f) {
  const py::gil_scoped_release unlock;
  return f();
}

void check_nodes(int64_t num_nodes) {
  require(num_nodes >= 0 && num_nodes <= kMaxNodes, "num_nodes: expected 0 to 2^31, got another number.");
}

// Sources and destinations of an edge_index, int64 [2, E].
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

// -> slot_of: int32 [N], -1 where a node has no slot; component: int32 [S], the component of each slot, or empty if the
// run order goes level by level; the other arrays are those of freewire/plan/plan.py's Plan.
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
  const InEdges in = lists.in_edges(begins, ends, sources);
  const Blocks blocks = unlocked([&] { return find_blocks(in); });
  Array<int32_t> panel_column(blocks.num_panel ? in_src.size() : py::ssize_t{0});
  const auto columns = room(panel_column);
  if (blocks.num_panel) unlocked([&] { blocks.panel_columns(in, columns); });
  Array<int64_t> out_ptr(lists.num_slots() + 1), out_sparse(lists.num_slots()), out_split(lists.num_slots());
  Array<int64_t> out_edge(live);
  Array<int32_t> out_dst(live);
  const auto ptrs = room(out_ptr), sparse = room(out_sparse), splits = room(out_split), numbers = room(out_edge);
  const auto targets = room(out_dst);
  unlocked([&] { lists.by_source(in, blocks.in_split, ptrs, sparse, splits, targets, numbers); });
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
  found["out_sparse"] = out_sparse;
  found["run_node"] = made<int32_t>(blocks.run_node);
  found["stage_ptr"] = made<int64_t>(blocks.stage_ptr);
  found["component"] = made<int32_t>(blocks.component);
  found["component_ptr"] = made<int64_t>(blocks.component_ptr);
  found["block_begin"] = made<int32_t>(blocks.begin);
  found["block_end"] = made<int32_t>(blocks.end);
  found["block_src_ptr"] = made<int64_t>(blocks.src_ptr);
  found["block_src"] = made<int32_t>(blocks.src);
  found["block_panel"] = made<int64_t>(blocks.panel);
  found["panel_column"] = panel_column;
  found["in_split"] = made<int64_t>(blocks.in_split);
  return found;
}

// -> int32 [S]
Array<int32_t> inference_rows(const Array<int64_t>& level_ptr, int64_t num_inputs, const Array<int32_t>& component,
                              const Array<int64_t>& out_ptr, const Array<int64_t>& out_sparse,
                              const Array<int64_t>& out_split, const Array<int32_t>& out_dst,
                              const Array<bool>& is_output) {
  const auto levels = entries(level_ptr), ptrs = entries(out_ptr), sparse = entries(out_sparse);
  const auto splits = entries(out_split);
  const auto components = entries(component), targets = entries(out_dst);
  const auto outputs = entries(is_output);
  Array<int32_t> row(is_output.size());
  const auto rows = room(row);
  unlocked([&] { assign_rows(levels, num_inputs, components, ptrs, sparse, splits, targets, outputs, rows); });
  return row;
}

// ---- packed plans ----

// A plan's arrays out of a dictionary of them.
struct PlanInput {
  PlanInput(const py::dict& arrays, int64_t num_inputs, int64_t num_biases, int64_t num_results, int64_t row_bytes) {
    plan.num_inputs = num_inputs;
    plan.num_biases = num_biases;
    plan.num_results = num_results;
    plan.row_bytes = row_bytes;
    plan.inference_row = array<int32_t>(arrays, "inference_row");
#define FREEWIRE_GIVEN(type, name, length) plan.name = array<type>(arrays, #name);
#define FREEWIRE_DERIVED(type, name, length)
    FREEWIRE_PLAN_SECTIONS(FREEWIRE_GIVEN, FREEWIRE_DERIVED)
#undef FREEWIRE_GIVEN
#undef FREEWIRE_DERIVED
  }

  PlanArrays plan;

 private:
  // No silent copy of another type here either. The dictionary keeps the arrays alive.
  template <class T>
  static std::span<const T> array(const py::dict& arrays, const char* name) {
    if (!arrays.contains(name) || !py::isinstance<Array<T>>(arrays[name])) {
      const std::string type = py::str(py::dtype::of<T>());
      throw py::type_error(std::string(name) + ": expected a contiguous array of " + type + ", got none.");
    }
    return entries(py::reinterpret_borrow<Array<T>>(arrays[name]));
  }
};

PlanSizes sizes_of(const py::dict& arrays, int64_t num_inputs, int64_t num_biases, int64_t num_results,
                   int64_t row_bytes) {
  const PlanInput input(arrays, num_inputs, num_biases, num_results, row_bytes);
  return unlocked([&] { return plan_sizes(input.plan); });
}

// -> int64 [words]
Array<int64_t> packed(const py::dict& arrays, int64_t num_inputs, int64_t num_biases, int64_t num_results,
                      int64_t row_bytes) {
  const PlanInput input(arrays, num_inputs, num_biases, num_results, row_bytes);
  const PlanSizes sizes = unlocked([&] { return plan_sizes(input.plan); });
  Array<int64_t> words(packed_words(sizes));
  const auto to = room(words);
  unlocked([&] { pack(input.plan, sizes, to); });
  return words;
}

// graphs: tuples (edge_index, level, inputs, outputs, activation, aggregation). keeps: bool by code of an activation.
// -> words: int64, the packed plans one after the other; first: int64 [P + 1], where each begins.
std::tuple<Array<int64_t>, Array<int64_t>> pack_members(const py::list& graphs, const Array<bool>& keeps,
                                                        int64_t row_bytes) {
  using Arrays =
      std::tuple<Array<int64_t>, Array<int64_t>, Array<int64_t>, Array<int64_t>, Array<uint8_t>, Array<uint8_t>>;
  const size_t count = graphs.size();
  std::vector<Arrays> arrays;  // held while the lock is not
  std::vector<MemberGraph> members;
  arrays.reserve(count);
  members.reserve(count);
  for (const py::handle& graph : graphs) {
    const auto& [edge_index, level, inputs, outputs, activation, aggregation] =
        arrays.emplace_back(graph.cast<Arrays>());
    const Edges edges(edge_index);
    members.push_back({edges.src, edges.dst, entries(level), entries(inputs), entries(outputs), entries(activation),
                       entries(aggregation)});
  }
  const auto kept = entries(keeps);
  std::vector<std::vector<int64_t>> plans(count);
  Array<int64_t> first(static_cast<py::ssize_t>(count) + 1);
  const auto starts = room(first);
  starts[0] = 0;
  unlocked([&] {
    for (size_t i = 0; i < count; ++i) {
      plans[i] = packed_member(members[i], kept, row_bytes);
      starts[i + 1] = starts[i] + static_cast<int64_t>(plans[i].size());
    }
  });
  Array<int64_t> words(starts[count]);
  const auto to = room(words);
  for (size_t i = 0; i < count; ++i) std::copy(plans[i].begin(), plans[i].end(), to.begin() + starts[i]);
  return {words, first};
}

// The sections of a packed plan by name, as views of it, read as the kernels read them.
py::dict sections_of(const Array<int64_t>& words) {
  const auto all = entries(words);
  PlanView plan;
  require(read_plan(all.data(), all.data(), static_cast<int64_t>(all.size()), &plan),
          "words: expected a plan that Plan.pack() of this version of freewire made, got other numbers.");
  py::dict sections;
  plan.for_each_section([&](const char* name, auto*& pointer, int64_t length) {
    using T = std::remove_cvref_t<decltype(*pointer)>;
    sections[name] = py::array_t<T>(length, pointer, words);
  });
  return sections;
}

// -> header_words: int; sizes: names, in the header's order, from its third word on; sections: name to type, in order;
// given: names of the arrays that pack() wants; group_edges: int, kGroupEdges.
py::dict plan_layout() {
  py::list sizes, given;
  py::dict sections, layout;
#define FREEWIRE_SIZE(name) sizes.append(#name);
  FREEWIRE_PLAN_SIZES(FREEWIRE_SIZE)
#undef FREEWIRE_SIZE
#define FREEWIRE_GIVEN(type, name, length) \
  sections[#name] = py::dtype::of<type>(); \
  given.append(#name);
#define FREEWIRE_DERIVED(type, name, length) sections[#name] = py::dtype::of<type>();
  FREEWIRE_PLAN_SECTIONS(FREEWIRE_GIVEN, FREEWIRE_DERIVED)
#undef FREEWIRE_GIVEN
#undef FREEWIRE_DERIVED
  given.append("inference_row");
  layout["header_words"] = kPlanHeader;
  layout["sizes"] = sizes;
  layout["sections"] = sections;
  layout["given"] = given;
  layout["group_edges"] = kGroupEdges;
  return layout;
}

// ---- what a call allocates, and the tiles it runs ----

// Calls body(T{}), T being a number type of that many bytes.
template <class Body>
auto with_itemsize(int64_t itemsize, Body&& body) {
  require(itemsize == 2 || itemsize == 4 || itemsize == 8, "itemsize: expected 2, 4 or 8, got another number.");
  return itemsize == 2 ? body(Half{}) : itemsize == 4 ? body(float{}) : body(double{});
}

cuda::Device device_of(int64_t shared_bytes, int64_t multiprocessors) {
  cuda::Device device{};
  device.shared_bytes = static_cast<int>(shared_bytes);
  device.multiprocessors = static_cast<int>(multiprocessors);
  return device;
}

int64_t cpu_call_bytes(const PlanSizes& plan, int64_t batch, int64_t itemsize, bool training, int64_t threads,
                       bool need_x, bool need_parameters) {
  return with_itemsize(itemsize, [&](auto type) {
    return cpu::call_bytes<decltype(type)>(plan, batch, training, threads, {need_x, need_parameters});
  });
}

int64_t cpu_sequence_bytes(const PlanSizes& plan, int64_t batch, int64_t steps, int64_t every, int64_t itemsize,
                           bool training, int64_t threads, bool need_x, bool need_parameters) {
  return with_itemsize(itemsize, [&](auto type) {
    return cpu::sequence_bytes<decltype(type)>(plan, batch, steps, every, training, threads, {need_x, need_parameters});
  });
}

int64_t gpu_call_bytes(const PlanSizes& plan, int64_t batch, int64_t itemsize, bool training, int64_t shared_bytes,
                       bool need_x, bool need_parameters) {
  return with_itemsize(itemsize, [&](auto type) {
    return cuda::call_bytes<decltype(type)>(plan, batch, training, device_of(shared_bytes, 1),
                                            {need_x, need_parameters});
  });
}

int64_t gpu_sequence_bytes(const PlanSizes& plan, int64_t batch, int64_t steps, int64_t every, int64_t itemsize,
                           bool training, int64_t shared_bytes, bool need_x, bool need_parameters) {
  return with_itemsize(itemsize, [&](auto type) {
    return cuda::sequence_bytes<decltype(type)>(plan, batch, steps, every, training, device_of(shared_bytes, 1),
                                                {need_x, need_parameters});
  });
}

// Columns of a GPU's forward tile; 0: streamed.
int64_t gpu_forward_tile(const PlanSizes& plan, int64_t batch, int64_t itemsize, bool training, int64_t shared_bytes,
                         int64_t multiprocessors) {
  return cuda::tile_columns(plan, batch, cuda::forward_rows(plan, training), itemsize,
                            device_of(shared_bytes, multiprocessors));
}

// -> row_bytes, columns, tiles, groups
py::dict cpu_tiling(const PlanSizes& plan, int64_t batch, int64_t itemsize) {
  return with_itemsize(itemsize, [&](auto type) {
    using T = decltype(type);
    const cpu::Tiling<T> tiling(plan, batch);
    py::dict found;
    found["row_bytes"] = cpu::row_bytes(tiling.kind, sizeof(Compute<T>));
    found["columns"] = tiling.columns;
    found["tiles"] = tiling.tiles;
    found["groups"] = tiling.groups;
    return found;
  });
}

// Independent tasks of a call for that many threads: -> forward without gradients, forward of a training step, backward
py::tuple cpu_tasks(const PlanSizes& plan, int64_t batch, int64_t itemsize, int64_t threads) {
  return with_itemsize(itemsize, [&](auto type) {
    using T = decltype(type);
    const cpu::Tiling<T> tiling(plan, batch);
    const cpu::BackwardWorkspace<T> backward(plan, tiling, true, true, threads);
    return py::make_tuple(tiling.shared_by(threads, batch).tiles, tiling.tiles * tiling.slices(threads),
                          tiling.groups * backward.slices);
  });
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
  m.def("inference_rows", own::inference_rows, exact("level_ptr"), exact("num_inputs"), exact("component"),
        exact("out_ptr"), exact("out_sparse"), exact("out_split"), exact("out_dst"), exact("is_output"));

  py::class_<freewire::PlanSizes> sizes(m, "PlanSizes");
#define FREEWIRE_SIZE(name) sizes.def_readonly(#name, &freewire::PlanSizes::name);
  FREEWIRE_PLAN_SIZES(FREEWIRE_SIZE)
#undef FREEWIRE_SIZE
  m.def("plan_sizes", own::sizes_of, exact("arrays"), exact("num_inputs"), exact("num_biases"), exact("num_results"),
        exact("row_bytes"));
  m.def("pack", own::packed, exact("arrays"), exact("num_inputs"), exact("num_biases"), exact("num_results"),
        exact("row_bytes"));
  m.def("pack_members", own::pack_members, exact("graphs"), exact("keeps"), exact("row_bytes"));
  m.def("sections", own::sections_of, exact("words"));
  m.def("plan_layout", own::plan_layout);
  m.attr("MAX_GROUPS") = freewire::cpu::kMaxGroups;
  m.def("padded_batch", freewire::padded_batch, exact("batch"));
  m.attr("few_padding") = freewire::kFewPadding;
  m.def("cpu_call_bytes", own::cpu_call_bytes, exact("sizes"), exact("batch"), exact("itemsize"), exact("training"),
        exact("threads"), exact("need_x"), exact("need_parameters"));
  m.def("cpu_sequence_bytes", own::cpu_sequence_bytes, exact("sizes"), exact("batch"), exact("steps"), exact("every"),
        exact("itemsize"), exact("training"), exact("threads"), exact("need_x"), exact("need_parameters"));
  m.def("gpu_call_bytes", own::gpu_call_bytes, exact("sizes"), exact("batch"), exact("itemsize"), exact("training"),
        exact("shared_bytes"), exact("need_x"), exact("need_parameters"));
  m.def("gpu_sequence_bytes", own::gpu_sequence_bytes, exact("sizes"), exact("batch"), exact("steps"), exact("every"),
        exact("itemsize"), exact("training"), exact("shared_bytes"), exact("need_x"), exact("need_parameters"));
  m.def("gpu_forward_tile", own::gpu_forward_tile, exact("sizes"), exact("batch"), exact("itemsize"), exact("training"),
        exact("shared_bytes"), exact("multiprocessors"));
  m.def("cpu_tiling", own::cpu_tiling, exact("sizes"), exact("batch"), exact("itemsize"));
  m.def("cpu_tasks", own::cpu_tasks, exact("sizes"), exact("batch"), exact("itemsize"), exact("threads"));
}

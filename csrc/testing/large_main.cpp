// SPDX-License-Identifier: MIT
// Runs networks with indices past 32 bits, on machines that could not hold them; tests/native/test_large.py builds and
// runs it.
//
// The arguments are case files of whole tiles (a batch that is a multiple of 64). It prints each path as it starts with
// it; the exit status is 1, with one sentence on stderr, if a result differs. Each case runs twice, unchanged and
// spread out: its edges, reversed edges, kept rows, inference rows and samples come after more others than an int can
// count, which are never touched and so take no memory. Both runs must give the same bits. It runs as the only member
// of a population too, whose parts come after as many others.
#include <array>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/network/kernels.h"
#include "cpu/network/parameters.h"
#include "cuda/network/kernels.h"
#include "cuda/network/population_kernels.h"
#include "testing/cases/case_file.h"
#include "testing/cases/cuda_run.h"
#include "testing/cases/population_case.h"
#include "testing/cases/sanitize_run.h"
#include "testing/cases/sparse_memory.h"

namespace freewire::testing {
namespace {

constexpr int64_t kPast = int64_t{1} << 32;  // elements: past int and unsigned
constexpr int64_t kRows = int64_t{1} << 26;  // rows: 64 columns each are as many elements

// How far each kind of index is moved.
struct Shift {
  int64_t edges, positions, rows, samples;
};
constexpr Shift kNone{0, 0, 0, 0};
// Edges and positions move by the same number, as all edges are live. Rows cut off at 32 bits would be those of the
// last inputs.
constexpr Shift kFar{kPast + 5, kPast + 5, kRows - 2, kPast * 2};

// A case's plan with its indices moved.
class Spread {
 public:
  Spread(const PlanView& from, const Shift& by)
      : in_src_(from.num_edges + by.edges, by.edges, from.in_src, from.num_edges),
        row_src_(from.num_edges + by.edges),
        panel_column_(from.num_edges + by.edges, by.edges, from.panel_column, from.panel_column_length()),
        out_dst_(from.num_live_edges + by.positions, by.positions, from.out_dst, from.num_live_edges),
        out_edge_(from.num_live_edges + by.positions),
        out_position_(from.num_edges + by.edges),
        view_(from) {
    const auto moved = [](auto* from, int64_t count, int64_t by) {
      std::vector<std::remove_const_t<std::remove_pointer_t<decltype(from)>>> to(from, from + count);
      for (auto& value : to) value += static_cast<std::remove_reference_t<decltype(value)>>(value < 0 ? 0 : by);
      return to;
    };
    const int64_t computed = from.num_computed(), slots = from.num_slots;
    in_begin_ = moved(from.in_begin, computed, by.edges);
    in_end_ = moved(from.in_end, computed, by.edges);
    out_ptr_ = moved(from.out_ptr, slots + 1, by.positions);
    out_split_ = moved(from.out_split, slots, by.positions);
    out_sparse_ = moved(from.out_sparse, slots, by.positions);
    in_split_ = moved(from.in_split, computed, by.edges);
    run_edges_ = moved(from.run_edges, computed + 1, by.edges);
    kept_row_ = moved(from.kept_row, computed, by.rows);
    group_edge_ = moved(from.group_edge, from.num_groups, by.edges);
    for (int64_t slot = 0; slot < slots; ++slot) {
      inference_row_.push_back(static_cast<int32_t>(slot < from.num_inputs ? slot : slot + by.rows));
    }
    for (int64_t e = 0; e < from.num_edges; ++e) row_src_.data()[by.edges + e] = inference_row_[from.in_src[e]];
    for (int64_t k = 0; k < from.num_live_edges; ++k) {
      out_edge_.data()[by.positions + k] = from.out_edge[k] + by.edges;
      out_position_.data()[by.edges + from.out_edge[k]] = by.positions + k;
    }
    if (from.gather_edges) share_begin_ = moved(from.share_begin, computed, by.rows);
    view_.num_edges += by.edges;
    view_.num_live_edges += by.positions;
    view_.tape_rows += by.rows;
    view_.scratch_rows = slots - 1;  // fewer than slots, which means that rows are reused
    view_.in_begin = in_begin_.data();
    view_.in_end = in_end_.data();
    view_.in_src = in_src_.data();
    view_.out_ptr = out_ptr_.data();
    view_.out_split = out_split_.data();
    view_.out_sparse = out_sparse_.data();
    view_.in_split = in_split_.data();
    view_.run_edges = run_edges_.data();
    view_.panel_column = panel_column_.data();
    view_.out_dst = out_dst_.data();
    view_.out_edge = out_edge_.data();
    view_.out_position = out_position_.data();
    view_.share_begin = share_begin_.data();
    view_.kept_row = kept_row_.data();
    view_.group_edge = group_edge_.data();
    view_.inference_row = inference_row_.data();
    view_.row_src = row_src_.data();
  }
  const PlanView& view() const { return view_; }

 private:
  Sparse<int32_t> in_src_, row_src_, panel_column_, out_dst_;
  Sparse<int64_t> out_edge_, out_position_;
  std::vector<int64_t> in_begin_, in_end_, in_split_, run_edges_, out_ptr_, out_sparse_, out_split_, group_edge_;
  std::vector<int64_t> share_begin_;
  std::vector<int32_t> kept_row_, inference_row_;
  PlanView view_;
};

template <class T>
std::vector<T> taken(const T* from, int64_t count) {
  return {from, from + count};
}

template <class T>
struct Found {
  std::array<std::vector<T>, 3> stored;             // y without a tape, y, grad_x
  std::array<std::vector<Compute<T>>, 3> computed;  // sums of weight and bias gradients, and of weights in dense blocks
};

// The first tile of a case, by the CPU kernels themselves: a whole call reads all edges, which would take hours.
template <class T>
Found<T> on_cpu(const Case<T>& given, const Shift& by) {
  using C = Compute<T>;
  const Spread spread(given.split_plan.view(), by);
  const PlanView& plan = spread.view();
  const cpu::Tiling<T> tiling(given.split_plan.view(), given.batch);
  const int64_t inputs = plan.num_inputs, outputs = plan.num_outputs, batch = given.batch + by.samples;
  const int64_t tile = by.samples / tiling.columns, edges = given.weight.size(), computed = plan.num_computed();
  const cpu::Widened<T> weights(given.weight.data(), edges, StdThreads{1});
  const cpu::Widened<T> biases(given.bias.data(), given.bias.size(), StdThreads{1});
  const Sparse<C> weight(plan.num_edges, by.edges, weights.data(), edges);
  const Sparse<C> out_weight(plan.num_live_edges);
  for (int64_t k = by.positions; k < plan.num_live_edges; ++k) {
    out_weight.data()[k] = weight.data()[plan.out_edge[k]];
  }
  const Sparse<T> x(batch * inputs, by.samples * inputs, given.x.data(), given.x.size());
  const Sparse<T> grad_y(batch * outputs, by.samples * outputs, given.grad_y.data(), given.grad_y.size());
  const Sparse<T> y(batch * outputs), grad_x(batch * inputs), tape((plan.num_slots + plan.tape_rows) * tiling.columns);
  const Sparse<C> grad(plan.num_slots * tiling.columns), products(plan.product_fan_in * tiling.columns);
  const Sparse<C> out_sums(plan.num_live_edges), bias_sums(computed), weight_sums(plan.num_edges);
  const Sparse<C> strip(tiling.columns * cpu::kStripColumns);
  const cpu::Panels<C> panel(plan, weight.data(), StdThreads{1});

  const cpu::ForwardArrays<T> forward{x.data(), weight.data(), panel.data(), biases.data(), y.data(), batch};
  const cpu::BackwardArrays<T> backward{grad_y.data(), out_weight.data(), weight.data(),
                                        panel.data(),  grad_x.data(),     batch};
  const auto& kernels = cpu::kernels<T>().network;
  const auto kind = tiling.kind;
  const int64_t begin = tile * tiling.columns;
  const auto stored = [&](const Sparse<T>& array, int64_t width) {
    return taken(array.data() + by.samples * width, tiling.columns * width);
  };
  Found<T> found;
  for (const bool keep : {false, true}) {
    kernels.read[kind](plan, forward, begin, tape.data());
    kernels.run[kind](plan, forward, 0, computed, keep, keep, tape.data());
    kernels.write[kind](plan, forward, begin, keep, tape.data());
    found.stored[keep] = stored(y, outputs);
  }
  kernels.backward[kind](plan, backward, begin, true, true, tape.data(),
                         {grad.data(), products.data(), out_sums.data(), bias_sums.data()});
  for (int64_t block = 0; block < plan.num_blocks; ++block) {
    kernels.block_gradient(plan, block, plan.block_begin[block], plan.block_end[block],
                           {tape.data(), grad.data(), 1, tiling.columns, strip.data(), weight_sums.data(), true});
  }
  found.stored[2] = stored(grad_x, inputs);
  found.computed = {taken(out_sums.data() + by.positions, edges), taken(bias_sums.data(), computed),
                    taken(weight_sums.data() + by.edges, edges)};
  return found;
}

// The whole case in the streamed regime, which takes networks of more edges than an int can count.
template <class T>
Found<T> on_gpu(const Case<T>& given, Shift by) {
  by.samples = 0;  // one thread per sample: no grid of so many can run here
  const Spread spread(given.split_plan.view(), by);
  const PlanView& plan = spread.view();
  if (by.edges && cuda::widest_tile(plan, plan.num_slots, sizeof(T), cuda::current_device()) != 0) {
    throw std::runtime_error("widest_tile: expected 0 for more edges than an int counts, got another.");
  }
  const int64_t pitch = cuda::pitch_of(given.batch), edges = given.weight.size(), computed = plan.num_computed();
  const Sparse<T> weight(plan.num_edges, by.edges, given.weight.data(), edges);
  const Sparse<T> rows((plan.num_slots + by.rows) * pitch), tape(plan.tape_rows * pitch), delta(computed * pitch);
  const Sparse<T> shares((plan.gather_edges + by.rows) * pitch), grads(plan.num_slots * pitch);
  const Sparse<T> grad_weight(plan.num_edges), grad_bias(plan.num_biases);
  const Sparse<T> y(given.batch * plan.num_outputs), grad_x(given.x.size());
  cuda::ForwardArrays<T> forward{};
  forward.x = given.x.data();
  forward.weight = weight.data();
  forward.bias = given.bias.data();
  forward.y = y.data();
  forward.rows = rows.data();
  forward.batch = given.batch;
  Found<T> found;
  cuda::run_forward(plan, forward, 0, nullptr);
  found.stored[0] = taken(y.data(), given.grad_y.size());
  forward.tape = tape.data();
  cuda::run_forward(plan, forward, 0, nullptr);
  found.stored[1] = taken(y.data(), given.grad_y.size());
  cuda::BackwardArrays<T> backward{};
  backward.grad_y = given.grad_y.data();
  backward.tape = tape.data();
  backward.weight = weight.data();
  backward.grad_x = grad_x.data();
  backward.grad_weight = grad_weight.data();
  backward.grad_bias = grad_bias.data();
  backward.delta = delta.data();
  backward.shares = shares.data();
  backward.rows = grads.data();
  backward.batch = given.batch;
  cuda::run_backward(plan, backward, 0, nullptr);
  expect_launched();
  found.stored[2] = taken(grad_x.data(), given.x.size());
  found.computed = {taken(grad_weight.data() + by.edges, edges), taken(grad_bias.data(), plan.num_biases), {}};
  return found;
}

// The whole case as a member of a population, its rows in shared memory or (requested: 0) in global memory.
template <class T>
Found<T> in_population(const Case<T>& given, const Shift& by, int requested) {
  const PlanView& plan = given.split_plan.view();
  const int64_t pitch = cuda::population_pitch(given.batch), edges = given.weight.size(),
                rows = by.rows + plan.tape_rows;
  const Sparse<int64_t> words(by.positions + kPlanHeader);
  write_header(plan, words.data() + by.positions);
  const int64_t table[kTableColumns] = {by.positions, by.edges, by.edges, by.rows};
  const Sparse<T> weight(by.edges + edges, by.edges, given.weight.data(), edges);
  const Sparse<T> bias(by.edges + plan.num_biases, by.edges, given.bias.data(), plan.num_biases);
  const Sparse<T> global_rows(rows * pitch), tape(rows * pitch), grads(rows * pitch);
  const Sparse<T> shares((by.edges + edges) * pitch), grad_weight(by.edges + edges),
      grad_bias(by.edges + plan.num_biases);
  const Sparse<T> y(given.batch * plan.num_outputs), grad_x(given.x.size());
  cuda::Device device = cuda::current_device();
  device.multiprocessors = 0;  // one block per member: partial sums would be added up over all edges
  const cuda::Members<T> members{words.data(), table, weight.data(), 1, given.batch};
  Found<T> found;
  for (const bool keep : {false, true}) {
    const auto tiling = cuda::forward_tiling<T>(plan, 1, given.batch, keep, device, requested);
    cuda::population_forward<T>(
        {members, given.x.data(), false, bias.data(), y.data(), keep ? tape.data() : nullptr, global_rows.data()},
        tiling, nullptr);
    found.stored[keep] = taken(y.data(), given.grad_y.size());
  }
  cuda::population_backward<T>(
      {members, given.grad_y.data(), tape.data(), grad_x.data(), grad_weight.data(), grad_bias.data(), grads.data(),
       shares.data(), nullptr, by.edges + edges, by.edges + plan.num_biases, 0, true},
      cuda::backward_tiling<T>(plan, 1, given.batch, device, requested), nullptr);
  expect_launched();
  found.stored[2] = taken(grad_x.data(), given.x.size());
  found.computed = {
      taken(grad_weight.data() + by.edges, edges), taken(grad_bias.data() + by.edges, plan.num_biases), {}};
  return found;
}

template <class V>
void expect_equal(const std::vector<V>& near, const std::vector<V>& far, const std::string& what) {
  if (near.size() == far.size() && std::memcmp(near.data(), far.data(), near.size() * sizeof(V)) == 0) return;
  throw std::runtime_error(what + ": expected the same bits far out, got others.");
}

template <class T>
void expect_same(const Found<T>& near, const Found<T>& far, const std::string& where) {
  const std::array names = {"y without a tape", "y", "grad_x"};
  for (size_t i = 0; i < names.size(); ++i) expect_equal(near.stored[i], far.stored[i], where + names[i]);
  expect_equal(near.computed[0], far.computed[0], where + "weight gradients");
  expect_equal(near.computed[1], far.computed[1], where + "bias gradients");
  expect_equal(near.computed[2], far.computed[2], where + "weight gradients of dense blocks");
}

template <class T>
void check(const Case<T>& given) {
  const PlanView& plan = given.split_plan.view();
  if (given.batch % 64 || plan.num_live_edges != plan.num_edges || !given.has_bias) {
    throw std::runtime_error("expected whole tiles, live edges and biases, got another case.");
  }
  expect_same(on_cpu(given, kNone), on_cpu(given, kFar), "CPU, ");
  // Not in 16 bits, whose partial sums are added up over all edges, which would take hours.
  if constexpr (!kNarrow<T>) {
    expect_same(on_gpu(given, kNone), on_gpu(given, kFar), "CUDA, ");
    for (const int requested : {0, cuda::kAnyTile}) {
      expect_same(in_population(given, kNone, requested), in_population(given, kFar, requested), "population, ");
    }
  }
}

}  // namespace
}  // namespace freewire::testing

int main(int count, char** arguments) {
  using namespace freewire;
  for (int i = 1; i < count; ++i) {
    std::printf("%s\n", arguments[i]);
    std::fflush(stdout);
    try {
      testing::with_case(arguments[i], [](const auto& given) { testing::check(given); });
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s: %s\n", arguments[i], error.what());
      return 1;
    }
  }
  return 0;
}

// SPDX-License-Identifier: MIT
// freewire::sequence, its backward and recurrent on a GPU: launches on the caller's stream. Nothing waits, and all
// memory is allocated before the first step, so it may be captured into a CUDA graph.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "checks.h"
#include "cuda/common/torch_stream.h"
#include "cuda/network/chosen_tile.h"
#include "cuda/network/sequence.h"

namespace freewire {
namespace {

using torch::stable::Tensor;

// The memory of a forward, in tiles of some columns.
template <class T>
struct ForwardMemory {
  using C = Compute<T>;
  ForwardMemory(const Tensor& like, const cuda::SequenceWorkspace<T>& space)
      : rows(like, space.step.rows.count),
        x(like, space.x.count),
        y(like, space.y.count),
        edges(like, space.step.edges.count),
        nodes(like, space.step.nodes.count),
        begins(like, space.step.begins.count),
        has_y(space.y.count > 0) {}

  // x, states and what is returned are for the caller to set.
  cuda::SequenceArrays<T> arrays(const Tensor& weight, const Tensor* bias, int64_t batch) const {
    cuda::SequenceArrays<T> all{};
    all.step_x = x.data();
    all.step_y = has_y ? y.data() : nullptr;
    all.step = {nullptr,
                numbers<T>(weight),
                bias ? numbers<T>(*bias) : nullptr,
                nullptr,
                nullptr,
                rows.data(),
                edges.data(),
                nodes.data(),
                begins.data(),
                batch};
    return all;
  }

  cuda::Workspace<T> rows, x, y;
  cuda::Workspace<cuda::Edge<C>> edges;
  cuda::Workspace<cuda::ForwardNode<C>> nodes;
  cuda::Workspace<int32_t> begins;
  bool has_y;
};

std::tuple<Tensor, Tensor, Tensor> sequence_cuda(const Tensor& x, const Tensor& states, const Tensor& weight,
                                                 const std::optional<Tensor>& bias, const Tensor& plan_words,
                                                 const Header& header, int64_t num_results, int64_t tape_rows,
                                                 int64_t every, bool keep) {
  const PlanView plan = checked_sequence(x, states, weight, bias, plan_words, header, every);
  check_sequence_sizes(plan, num_results, tape_rows);
  const cuda::DeviceGuard guard(x);
  const cuda::Device device = cuda::usable_device();
  const int64_t steps = x.size(0), batch = x.size(1);
  const Tensor xs = cuda::aligned(x), before = cuda::aligned(states), weights = cuda::aligned(weight);
  const Tensor biases = bias ? cuda::aligned(*bias) : weights;
  Tensor y = cuda::empty(x, {steps, batch, num_results});
  Tensor last = cuda::empty(x, {batch, plan.num_states});
  Tensor kept = cuda::empty(x, {keep ? kept_of_sequence(plan, batch, steps, every, false) : 0});

  with_float_type(x, [&](auto type) {
    using T = decltype(type);
    const bool tapes = keep && !every;
    const int columns = cuda::chosen_tile(plan, batch, cuda::forward_rows(plan, tapes), sizeof(T), device);
    const ForwardMemory<T> memory(x, cuda::SequenceWorkspace<T>(plan, batch, tapes, false, columns));
    cuda::SequenceArrays<T> arrays = memory.arrays(weights, bias ? &biases : nullptr, batch);
    arrays.x = numbers<T>(xs);
    arrays.states = numbers<T>(before);
    arrays.y = mutable_numbers<T>(y);
    arrays.last_states = mutable_numbers<T>(last);
    arrays.kept = keep ? mutable_numbers<T>(kept) : nullptr;
    arrays.steps = steps;
    arrays.every = every;
    cuda::run_sequence(plan, arrays, columns, guard.stream());
  });
  cuda::check_launches();
  return {y, last, kept};
}

// Nothing is kept: the operator's autograd, where there is one, calls freewire::sequence.
std::tuple<Tensor, Tensor> recurrent_cuda(const Tensor& x, const Tensor& states, const Tensor& weight,
                                          const std::optional<Tensor>& bias, const Tensor& plan_words,
                                          const std::vector<int64_t>& header, int64_t num_results, int64_t tape_rows,
                                          int64_t every) {
  const auto [y, last, kept] =
      sequence_cuda(x, states, weight, bias, plan_words, header, num_results, tape_rows, every, false);
  return {y, last};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> sequence_backward_cuda(
    const Tensor& grad_y, const Tensor& grad_last, const Tensor& kept, const Tensor& x, const Tensor& states,
    const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& plan_words, const Header& header,
    int64_t every, bool need_x, bool need_states, bool need_parameters) {
  const PlanView plan = checked_sequence(x, states, weight, bias, plan_words, header, every);
  check_sequence_gradients(plan, grad_y, grad_last, kept, x, every, !header);
  const cuda::DeviceGuard guard(x);
  const cuda::Device device = cuda::usable_device();
  const int64_t steps = x.size(0), batch = x.size(1);
  const bool need_bias = need_parameters && bias;
  const Tensor xs = cuda::aligned(x), weights = cuda::aligned(weight), memory = cuda::aligned(kept);
  const Tensor biases = bias ? cuda::aligned(*bias) : weights;
  const Tensor grad_ys = cuda::aligned(grad_y), grad_lasts = cuda::aligned(grad_last);
  Tensor grad_x = cuda::empty(x, {need_x ? steps : 0, batch, plan.num_inputs - plan.num_states});
  Tensor grad_states = cuda::empty(x, {need_states ? batch : 0, plan.num_states});
  Tensor grad_weight = cuda::empty(x, {need_parameters ? plan.num_edges : 0});
  Tensor grad_bias = cuda::empty(x, {need_bias ? plan.num_biases : 0});

  with_float_type(x, [&](auto type) {
    using T = decltype(type);
    using C = Compute<T>;
    const int64_t chunk = std::min(every, steps);
    const int columns = cuda::chosen_tile(plan, batch, plan.num_slots, sizeof(C), device);
    const int forward_columns = chunk ? cuda::chosen_tile(plan, batch, plan.num_slots, sizeof(T), device) : 0;
    const cuda::SequenceBackwardWorkspace<T> space(plan, batch, chunk, need_parameters, need_bias, columns,
                                                   forward_columns);
    const cuda::Workspace<C> delta(x, space.step.delta.count), shares(x, space.step.shares.count);
    const cuda::Workspace<C> rows(x, space.step.rows.count), partial(x, space.partial.count);
    const cuda::Workspace<C> step_grad_y(x, space.grad_y.count), step_grad_x(x, space.grad_x.count);
    const cuda::Workspace<cuda::Edge<C>> edges(x, space.step.edges.count);
    const cuda::Workspace<cuda::BackwardSlot<C>> slots(x, space.step.slots.count);
    const cuda::Workspace<int32_t> begins(x, space.step.begins.count), sources(x, space.state_of_output.count);
    std::optional<ForwardMemory<T>> again;
    if (chunk) again.emplace(x, space.again);
    const cuda::Workspace<T> tape(x, space.tape.count);
    cuda::SequenceArrays<T> forward{};
    if (again) forward = again->arrays(weights, bias ? &biases : nullptr, batch);
    forward.x = numbers<T>(xs);
    forward.kept = tape.data();
    forward.steps = steps;
    forward.every = every;
    cuda::BackwardArrays<T> step{};
    step.weight = numbers<T>(weights);
    step.grad_weight = need_parameters ? mutable_numbers<T>(grad_weight) : nullptr;
    step.grad_bias = need_bias ? mutable_numbers<T>(grad_bias) : nullptr;
    step.delta = delta.data();
    step.shares = shares.data();
    step.rows = rows.data();
    step.edges = edges.data();
    step.slots = slots.data();
    step.begins = begins.data();
    step.partial = partial.data();
    step.batch = batch;
    const cuda::SequenceBackwardArrays<T> arrays{
        numbers<T>(memory),
        numbers<T>(grad_ys),
        numbers<T>(grad_lasts),
        need_x ? mutable_numbers<T>(grad_x) : nullptr,
        need_states ? mutable_numbers<T>(grad_states) : nullptr,
        step_grad_y.data(),
        step_grad_x.data(),
        sources.data(),
        step,
    };
    cuda::run_sequence_backward(plan, forward, arrays, columns, forward_columns, guard.stream());
  });
  cuda::check_launches();
  return {grad_x, grad_states, grad_weight, grad_bias};
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CUDA, m) {
  m.impl("sequence", TORCH_BOX(&freewire::sequence_cuda));
  m.impl("recurrent", TORCH_BOX(&freewire::recurrent_cuda));
  m.impl("sequence_backward", TORCH_BOX(&freewire::sequence_backward_cuda));
}

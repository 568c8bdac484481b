// SPDX-License-Identifier: MIT
// freewire::backward on a GPU: launches on the caller's stream. Nothing waits, so it may be captured into a CUDA graph.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <tuple>
#include <vector>

#include "checks.h"
#include "cuda/common/torch_stream.h"
#include "cuda/network/chosen_tile.h"
#include "cuda/network/kernels.h"

namespace freewire {
namespace {

using torch::stable::Tensor;

std::tuple<Tensor, Tensor, Tensor> backward_cuda(const Tensor& grad_y, const Tensor& tape, const Tensor& weight,
                                                 const Tensor& plan_words, const Header& header, int64_t num_inputs,
                                                 int64_t num_biases, bool need_x, bool need_parameters) {
  const PlanView plan = checked_backward(grad_y, tape, weight, plan_words, header, num_inputs, num_biases);
  const cuda::DeviceGuard guard(grad_y);
  const cuda::Device device = cuda::usable_device();
  const int64_t batch = grad_y.size(0);
  const Tensor grad_rows = cuda::aligned(grad_y), weights = cuda::aligned(weight);
  const Tensor tape_rows = cuda::aligned(tape);
  Tensor grad_x = cuda::empty(weights, {need_x ? batch : 0, num_inputs});
  Tensor grad_weight = cuda::empty(weights, {need_parameters ? plan.num_edges : 0});
  Tensor grad_bias = cuda::empty(weights, {need_parameters ? num_biases : 0});

  with_float_type(weight, [&](auto type) {
    using T = decltype(type);
    using C = Compute<T>;
    const int columns = cuda::chosen_tile(plan, batch, plan.num_slots, sizeof(C), device);
    const cuda::BackwardWorkspace<T> workspace(plan, batch, need_parameters, columns);
    const cuda::Workspace<C> delta(weights, workspace.delta.count), shares(weights, workspace.shares.count);
    const cuda::Workspace<C> rows(weights, workspace.rows.count), partial(weights, workspace.partial.count);
    const cuda::Workspace<cuda::Edge<C>> edges(weights, workspace.edges.count);
    const cuda::Workspace<cuda::BackwardSlot<C>> slots(weights, workspace.slots.count);
    const cuda::Workspace<int32_t> begins(weights, workspace.begins.count);
    const cuda::BackwardArrays<T> arrays{
        numbers<T>(grad_rows),
        numbers<T>(tape_rows),
        numbers<T>(weights),
        need_x ? mutable_numbers<T>(grad_x) : nullptr,
        need_parameters ? mutable_numbers<T>(grad_weight) : nullptr,
        need_parameters && num_biases ? mutable_numbers<T>(grad_bias) : nullptr,
        delta.data(),
        shares.data(),
        rows.data(),
        edges.data(),
        slots.data(),
        begins.data(),
        partial.data(),
        batch,
    };
    cuda::run_backward(plan, arrays, columns, guard.stream());
  });
  cuda::check_launches();
  return {grad_x, grad_weight, grad_bias};
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CUDA, m) { m.impl("backward", TORCH_BOX(&freewire::backward_cuda)); }

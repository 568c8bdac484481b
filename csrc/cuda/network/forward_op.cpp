// SPDX-License-Identifier: MIT
// freewire::forward and freewire::network on a GPU: launches on the caller's stream. Nothing waits, so it may be
// captured into a CUDA graph.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>
#include <tuple>
#include <vector>

#include "checks.h"
#include "cuda/common/torch_stream.h"
#include "cuda/network/chosen_tile.h"
#include "cuda/network/kernels.h"

namespace freewire {
namespace {

using torch::stable::Tensor;

std::tuple<Tensor, Tensor> forward_cuda(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                                        const Tensor& plan_words, const std::vector<int64_t>& header,
                                        int64_t num_outputs, int64_t tape_rows) {
  const PlanView plan = checked_forward(x, weight, bias, plan_words, header, num_outputs, tape_rows);
  const cuda::DeviceGuard guard(x);
  const cuda::Device device = cuda::usable_device();
  const int64_t batch = x.size(0);
  const Tensor x_rows = cuda::aligned(x), weights = cuda::aligned(weight);
  const Tensor biases = bias ? cuda::aligned(*bias) : weights;
  Tensor y = cuda::empty(x, {batch, num_outputs});
  Tensor tape = cuda::empty(x, {tape_rows ? kept_elements(plan, batch) : 0});

  with_float_type(x, [&](auto type) {
    using T = decltype(type);
    using C = Compute<T>;
    const int64_t tile_rows = cuda::forward_rows(plan, tape_rows > 0);
    const int columns = cuda::chosen_tile(plan, batch, tile_rows, sizeof(T), device);
    const cuda::ForwardWorkspace<T> workspace(plan, batch, tape_rows > 0, columns);
    const cuda::Workspace<T> rows(x, workspace.rows.count);
    const cuda::Workspace<cuda::Edge<C>> edges(x, workspace.edges.count);
    const cuda::Workspace<cuda::ForwardNode<C>> nodes(x, workspace.nodes.count);
    const cuda::Workspace<int32_t> begins(x, workspace.begins.count);
    const cuda::ForwardArrays<T> arrays{
        numbers<T>(x_rows),
        numbers<T>(weights),
        bias ? numbers<T>(biases) : nullptr,
        mutable_numbers<T>(y),
        tape_rows ? mutable_numbers<T>(tape) : nullptr,
        rows.data(),
        edges.data(),
        nodes.data(),
        begins.data(),
        batch,
    };
    cuda::run_forward(plan, arrays, columns, guard.stream());
  });
  cuda::check_launches();
  return {y, tape};
}

// No tape: the operator's autograd, where there is one, calls freewire::forward.
Tensor network_cuda(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& plan_words,
                    const std::vector<int64_t>& header, int64_t num_outputs, int64_t, bool) {
  return std::get<0>(forward_cuda(x, weight, bias, plan_words, header, num_outputs, 0));
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CUDA, m) {
  m.impl("forward", TORCH_BOX(&freewire::forward_cuda));
  m.impl("network", TORCH_BOX(&freewire::network_cuda));
}

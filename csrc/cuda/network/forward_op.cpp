// SPDX-License-Identifier: MIT
// freewire::forward, inference and network on a GPU: launches on the caller's stream. Nothing waits, so it may be
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

// Returns y. Unless tape is null, makes and writes the tape too.
Tensor run(const PlanView& plan, const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
           std::optional<Tensor>* tape) {
  const cuda::DeviceGuard guard(x);
  const cuda::Device device = cuda::usable_device();
  const int64_t batch = x.size(0);
  const Tensor x_rows = cuda::aligned(x), weights = cuda::aligned(weight);
  const Tensor biases = bias ? cuda::aligned(*bias) : weights;
  Tensor y = cuda::empty(x, {batch, plan.num_outputs});
  if (tape) *tape = cuda::empty(x, {kept_elements(plan, batch, false)});

  with_float_type(x, [&](auto type) {
    using T = decltype(type);
    using C = Compute<T>;
    const int64_t tile_rows = cuda::forward_rows(plan, tape != nullptr);
    const int columns = cuda::chosen_tile(plan, batch, tile_rows, sizeof(T), device);
    const cuda::ForwardWorkspace<T> workspace(plan, batch, tape != nullptr, columns);
    const cuda::Workspace<T> rows(x, workspace.rows.count);
    const cuda::Workspace<cuda::Edge<C>> edges(x, workspace.edges.count);
    const cuda::Workspace<cuda::ForwardNode<C>> nodes(x, workspace.nodes.count);
    const cuda::Workspace<int32_t> begins(x, workspace.begins.count);
    const cuda::ForwardArrays<T> arrays{
        numbers<T>(x_rows),
        numbers<T>(weights),
        bias ? numbers<T>(biases) : nullptr,
        mutable_numbers<T>(y),
        tape ? mutable_numbers<T>(**tape) : nullptr,
        rows.data(),
        edges.data(),
        nodes.data(),
        begins.data(),
        batch,
    };
    cuda::run_forward(plan, arrays, columns, guard.stream());
  });
  cuda::check_launches();
  return y;
}

std::tuple<Tensor, Tensor> forward_cuda(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                                        const Tensor& plan_words, const Header& header, int64_t num_outputs,
                                        int64_t tape_rows) {
  const PlanView plan = checked_forward(x, weight, bias, plan_words, header, num_outputs, tape_rows);
  std::optional<Tensor> tape;
  Tensor y = run(plan, x, weight, bias, tape_rows ? &tape : nullptr);
  return {y, tape ? *tape : cuda::empty(x, {0})};
}

Tensor inference_cuda(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                      const Tensor& plan_words, const Header& header, int64_t num_outputs) {
  return run(checked_forward(x, weight, bias, plan_words, header, num_outputs, 0), x, weight, bias, nullptr);
}

// No tape: the operator's autograd, where there is one, calls freewire::forward.
Tensor network_cuda(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& plan_words,
                    const std::vector<int64_t>& header, int64_t num_outputs, int64_t, bool) {
  return inference_cuda(x, weight, bias, plan_words, header, num_outputs);
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CUDA, m) {
  m.impl("forward", TORCH_BOX(&freewire::forward_cuda));
  m.impl("inference", TORCH_BOX(&freewire::inference_cuda));
  m.impl("network", TORCH_BOX(&freewire::network_cuda));
}

// SPDX-License-Identifier: MIT
// freewire::population_forward, population_inference and population_backward on a GPU: launches on the caller's
// stream. Nothing waits, so it may be captured into a CUDA graph.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <limits>
#include <optional>
#include <tuple>
#include <vector>

#include "cuda/common/torch_stream.h"
#include "cuda/network/chosen_tile.h"
#include "cuda/network/population_kernels.h"
#include "population_checks.h"

namespace freewire {
namespace {

using torch::stable::Tensor;

using Limits = std::vector<int64_t>;

// The largest of each size of any member. What the table and the plans say is on the device, and trusted.
PlanSizes largest_sizes(const Limits& limits, int64_t num_inputs, int64_t num_outputs) {
  PlanSizes largest{};
  size_t place = 2;
#define FREEWIRE_SIZE(name) largest.name = limits[place++];
  FREEWIRE_PLAN_SIZES(FREEWIRE_SIZE)
#undef FREEWIRE_SIZE
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();  // blocks count nodes and edges in 32 bits
  for (const int64_t limit : limits) {
    STD_TORCH_CHECK(limit >= 0, "limits: expected sizes of at least 0, got ", limit, ".");
  }
  STD_TORCH_CHECK(largest.num_edges <= kMost && largest.tape_rows <= kMost, "limits: expected members of at most ",
                  kMost, " edges and nodes on a GPU, got ", largest.num_edges, " and ", largest.tape_rows,
                  ". Use net.to(\"cpu\").");
  STD_TORCH_CHECK(limits[0] == 0 || (largest.num_inputs == num_inputs && largest.num_outputs == num_outputs),
                  "limits: expected members of ", num_inputs, " inputs and ", num_outputs, " outputs, got ",
                  largest.num_inputs, " and ", largest.num_outputs, ".");
  return largest;
}

int requested_width() { return cuda::requested_tile().value_or(cuda::kAnyTile); }

// Returns y. Unless tape is null, makes and writes the tape too.
Tensor run(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& plans,
           const Tensor& table, const Limits& limits, int64_t num_outputs, std::optional<Tensor>* tape) {
  const Population all = checked_population_forward(x, weight, bias, plans, table, limits, num_outputs);
  const PlanSizes largest = largest_sizes(limits, all.num_inputs, num_outputs);
  const cuda::DeviceGuard guard(x);
  const cuda::Device device = cuda::usable_device();
  const int64_t batch = x.size(1);
  const bool keep = tape;
  const Tensor xs = cuda::aligned(x), weights = cuda::aligned(weight);
  const Tensor biases = bias ? cuda::aligned(*bias) : weights;
  Tensor y = cuda::empty(x, {all.members, batch, num_outputs});
  if (keep) *tape = cuda::empty(x, {population_kept_elements(all, batch, false)});

  with_float_type(x, [&](auto type) {
    using T = decltype(type);
    const auto tiling = cuda::forward_tiling<T>(largest, all.members, batch, keep, device, requested_width());
    const cuda::PopulationForwardWorkspace<T> space(all.tape_rows, batch, keep, tiling);
    const cuda::Workspace<T> rows(x, space.rows.count);
    const cuda::PopulationForward<T> arrays{
        {all.plans, all.table, numbers<T>(weights), all.members, batch},
        numbers<T>(xs),
        x.size(0) != all.members,
        bias ? numbers<T>(biases) : nullptr,
        mutable_numbers<T>(y),
        keep ? mutable_numbers<T>(**tape) : nullptr,
        rows.data(),
    };
    cuda::population_forward(arrays, tiling, guard.stream());
  });
  cuda::check_launches();
  return y;
}

std::tuple<Tensor, Tensor> forward_cuda(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias,
                                        const Tensor& plans, const Tensor& table, const Limits& limits,
                                        int64_t num_outputs) {
  std::optional<Tensor> tape;
  Tensor y = run(x, weight, bias, plans, table, limits, num_outputs, &tape);
  return {y, *tape};
}

Tensor inference_cuda(const Tensor& x, const Tensor& weight, const std::optional<Tensor>& bias, const Tensor& plans,
                      const Tensor& table, const Limits& limits, int64_t num_outputs) {
  return run(x, weight, bias, plans, table, limits, num_outputs, nullptr);
}

std::tuple<Tensor, Tensor, Tensor> backward_cuda(const Tensor& grad_y, const Tensor& tape, const Tensor& weight,
                                                 const Tensor& plans, const Tensor& table, const Limits& limits,
                                                 int64_t num_inputs, int64_t num_biases, bool need_x,
                                                 bool need_parameters) {
  const Population all =
      checked_population_backward(grad_y, tape, weight, plans, table, limits, num_inputs, num_biases, false);
  const PlanSizes largest = largest_sizes(limits, num_inputs, all.num_outputs);
  const cuda::DeviceGuard guard(grad_y);
  const cuda::Device device = cuda::usable_device();
  const int64_t batch = grad_y.size(1);
  if (!need_parameters) num_biases = 0;
  const Tensor grads = cuda::aligned(grad_y), weights = cuda::aligned(weight), values = cuda::aligned(tape);
  Tensor grad_x = cuda::empty(weights, {need_x ? all.members : 0, batch, num_inputs});
  Tensor grad_weight = cuda::empty(weights, {need_parameters ? all.num_weights : 0});
  Tensor grad_bias = cuda::empty(weights, {num_biases});

  with_float_type(weight, [&](auto type) {
    using T = decltype(type);
    using C = Compute<T>;
    const auto tiling = cuda::backward_tiling<T>(largest, all.members, batch, device, requested_width());
    const cuda::PopulationBackwardWorkspace<T> space(largest, all.members, all.tape_rows, all.num_weights, num_biases,
                                                     batch, need_parameters, tiling);
    const cuda::Workspace<C> rows(weights, space.rows.count), shares(weights, space.shares.count);
    const cuda::Workspace<C> partial(weights, space.partial.count);
    const cuda::PopulationBackward<T> arrays{
        {all.plans, all.table, numbers<T>(weights), all.members, batch},
        numbers<T>(grads),
        numbers<T>(values),
        need_x ? mutable_numbers<T>(grad_x) : nullptr,
        need_parameters ? mutable_numbers<T>(grad_weight) : nullptr,
        num_biases ? mutable_numbers<T>(grad_bias) : nullptr,
        rows.data(),
        shares.data(),
        space.partial.count ? partial.data() : nullptr,
        all.num_weights,
        num_biases,
        space.share_rows,
        need_parameters,
    };
    cuda::population_backward(arrays, tiling, guard.stream());
  });
  cuda::check_launches();
  return {grad_x, grad_weight, grad_bias};
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CUDA, m) {
  m.impl("population_forward", TORCH_BOX(&freewire::forward_cuda));
  m.impl("population_inference", TORCH_BOX(&freewire::inference_cuda));
  m.impl("population_backward", TORCH_BOX(&freewire::backward_cuda));
}

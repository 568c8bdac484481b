// SPDX-License-Identifier: MIT
// freewire::stage_inference on the CPU: one parallel region of torch's pool, or one for each node.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <vector>

#include "cpu/stages/stage_call.h"
#include "cpu/stages/stage_inference.h"
#include "cpu/torch_threads.h"

namespace freewire {
namespace {

using torch::stable::Tensor;

Tensor stage_inference_cpu(const Tensor& x, const Tensor& weight, const std::vector<Tensor>& depthwise,
                           const std::vector<Tensor>& pointwise, const std::optional<Tensor>& scale,
                           const Tensor& shift, const std::vector<int64_t>& in_ptr, const std::vector<int64_t>& in_src,
                           int64_t stride, bool relu) {
  const StageArguments given(x, weight, depthwise, pointwise, in_ptr, in_src, stride);
  if (scale) given.check_per_channel(*scale, "scale");
  given.check_per_channel(shift, "shift");
  Tensor y = given.empty_output();
  with_float_type(x, [&](auto type) {
    using T = decltype(type);
    using C = Compute<T>;
    const cpu::StageCall<T> call{numbers<T>(x),        numbers<C>(weight),
                                 given.weights<T>(),   scale ? numbers<C>(*scale) : nullptr,
                                 numbers<C>(shift),    relu,
                                 mutable_numbers<T>(y)};
    cpu::run_stage(given.plan, given.shape, call, cpu::TorchThreads{});
  });
  return y;
}

}  // namespace
}  // namespace freewire

STABLE_TORCH_LIBRARY_IMPL(freewire, CPU, m) { m.impl("stage_inference", TORCH_BOX(&freewire::stage_inference_cpu)); }

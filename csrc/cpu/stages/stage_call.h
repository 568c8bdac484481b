// SPDX-License-Identifier: MIT
// Converts the arguments of a stage's operators from tensors, and checks them.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "cpu/stages/stage_parameters.h"
#include "gated_sum.h"

namespace freewire {

// How errors show a tensor's shape.
inline std::string shape_of(const torch::stable::Tensor& tensor) {
  std::string shape = "[";
  for (int64_t axis = 0; axis < tensor.dim(); ++axis) {
    shape += (axis ? ", " : "") + std::to_string(tensor.size(axis));
  }
  return shape + "]";
}

// The end of errors about what freewire/ops/stage.py prepares.
constexpr const char* kPrepared = " Call the operator through freewire.ops.stage, which prepares its arguments.";

// The arguments that all operators of a stage have in common.
struct StageArguments {
  using Tensor = torch::stable::Tensor;

  StageArguments(const Tensor& x, const Tensor& weight, const std::vector<Tensor>& depthwise,
                 const std::vector<Tensor>& pointwise, const std::vector<int64_t>& in_ptr,
                 const std::vector<int64_t>& in_src, int64_t stride)
      : plan(checked_plan(in_ptr, in_src)),
        shape(checked_shape(x, pointwise, stride)),
        x(x),
        depthwise(contiguous(depthwise)),
        pointwise(contiguous(pointwise)) {
    const int64_t nodes = plan.num_nodes();
    const cpu::Maps kept = shape.padded_out();
    const int64_t sizes[] = {kept.batch, kept.height, kept.width, kept.channels};
    std::copy_n(sizes, 4, result_sizes_);
    STD_TORCH_CHECK(static_cast<int64_t>(depthwise.size()) == nodes && static_cast<int64_t>(pointwise.size()) == nodes,
                    "depthwise, pointwise: expected a kernel of each for ", nodes, " nodes, got ", depthwise.size(),
                    " and ", pointwise.size(), ".", kPrepared);
    check_wide(weight, "weight");
    STD_TORCH_CHECK(weight.dim() == 1 && weight.size(0) == plan.num_edges(), "weight: expected shape [",
                    plan.num_edges(), "], a number per edge, got ", shape_of(weight), ".", kPrepared);
    for (int64_t node = 0; node < nodes; ++node) {
      const int64_t channels = node < plan.num_inputs ? shape.in.channels : shape.out.channels;
      check_kernel(depthwise[node], "depthwise", {channels, 1, 3, 3});
      check_kernel(pointwise[node], "pointwise", {shape.out.channels, channels, 1, 1});
    }
  }

  // [N, out_channels] in the type that x's is computed in.
  void check_per_channel(const Tensor& tensor, const char* name) const {
    check_wide(tensor, name);
    STD_TORCH_CHECK(tensor.dim() == 2 && tensor.size(0) == plan.num_nodes() && tensor.size(1) == shape.out.channels,
                    name, ": expected shape [", plan.num_nodes(), ", ", shape.out.channels,
                    "], a number per node and channel, got ", shape_of(tensor), ".", kPrepared);
  }

  void check_norms(const Tensor& gamma, const Tensor& beta, const std::vector<double>& epsilon) const {
    check_per_channel(gamma, "gamma");
    check_per_channel(beta, "beta");
    STD_TORCH_CHECK(static_cast<int64_t>(epsilon.size()) == plan.num_nodes(),
                    "epsilon: expected one number for each of ", plan.num_nodes(), " nodes, got ", epsilon.size(), ".",
                    kPrepared);
  }

  void check_gradient(const Tensor& grad_y) const {
    const cpu::Maps& out = shape.out;
    const int64_t sizes[] = {out.batch, out.channels, out.height, out.width};
    const int64_t steps[] = {out.height * out.row(), 1, out.row(), out.channels};
    bool fits = grad_y.dim() == 4 && grad_y.scalar_type() == x.scalar_type() && grad_y.device() == x.device();
    for (int axis = 0; fits && axis < 4; ++axis) {
      fits =
          grad_y.size(axis) == sizes[axis] && (shape.empty() || sizes[axis] == 1 || grad_y.stride(axis) == steps[axis]);
    }
    STD_TORCH_CHECK(fits,
                    "grad_y: expected a gradient of the shape and the strides of y, of the element type and on the "
                    "device of x, got another tensor, of shape ",
                    shape_of(grad_y), ".", kPrepared);
  }

  void check_results(const std::vector<Tensor>& results) const {
    bool fits = static_cast<int64_t>(results.size()) == plan.num_nodes();
    for (const Tensor& each : results) {
      fits = fits && each.dim() == 4 && each.is_contiguous() && each.scalar_type() == x.scalar_type() &&
             each.device() == x.device();
      for (int axis = 0; fits && axis < 4; ++axis) fits = each.size(axis) == result_sizes_[axis];
    }
    STD_TORCH_CHECK(fits, "results: expected what stage_forward has kept, got ", results.size(), " other tensor(s).",
                    kPrepared);
  }

  // Of what the forward keeps of each node, [batch, height, width, padded channels].
  const int64_t (&result_sizes() const)[4] { return result_sizes_; }

  // channels_last, like x.
  Tensor empty_output() const {
    const cpu::Maps& out = shape.out;
    return channels_last({out.batch, out.channels, out.height, out.width});
  }

  template <class T>
  cpu::StageWeights<T> weights() const {
    cpu::StageWeights<T> found;
    for (const Tensor& each : depthwise) found.depthwise.push_back(numbers<T>(each));
    for (const Tensor& each : pointwise) found.pointwise.push_back(numbers<T>(each));
    return found;
  }

  cpu::StagePlan plan;
  cpu::StageShape shape;
  Tensor x;
  std::vector<Tensor> depthwise, pointwise;

 private:
  int64_t result_sizes_[4];

  static cpu::StagePlan checked_plan(const std::vector<int64_t>& in_ptr, const std::vector<int64_t>& in_src) {
    cpu::StagePlan plan(in_ptr, in_src);
    STD_TORCH_CHECK(plan.is_valid(),
                    "in_ptr, in_src: expected the in-edges of nodes that come after their sources, those without "
                    "in-edges first, got ",
                    in_ptr.size(), " and ", in_src.size(), " other numbers.", kPrepared);
    return plan;
  }

  static cpu::StageShape checked_shape(const Tensor& x, const std::vector<Tensor>& pointwise, int64_t stride) {
    STD_TORCH_CHECK(x.dim() == 4, "x: expected [batch, channels, height, width], got ", x.dim(),
                    " dimension(s). Add the others.");
    STD_TORCH_CHECK(x.size(1) >= 1, "x: expected at least one channel, got none. Pass one.");
    STD_TORCH_CHECK(stride >= 1, "stride: expected at least 1, got ", stride, ". Raise it.");
    STD_TORCH_CHECK(!pointwise.empty() && pointwise[0].dim() == 4 && pointwise[0].size(0) > 0,
                    "pointwise: expected kernels [out_channels, channels, 1, 1], got ",
                    pointwise.empty() ? "none" : shape_of(pointwise[0]), ".", kPrepared);
    const cpu::Maps maps{x.size(0), x.size(2), x.size(3), x.size(1)};
    const int64_t steps[] = {maps.height * maps.row(), 1, maps.row(), maps.channels};
    for (int axis = 0; axis < 4; ++axis) {
      STD_TORCH_CHECK(
          x.numel() == 0 || x.size(axis) == 1 || x.stride(axis) == steps[axis],
          "x: expected a channels_last tensor, got another layout. Use contiguous() in that memory format.");
    }
    return {maps, stride, pointwise[0].size(0)};
  }

  static std::vector<Tensor> contiguous(const std::vector<Tensor>& tensors) {
    std::vector<Tensor> found;
    for (const Tensor& each : tensors) {
      found.push_back(each.is_contiguous() ? each : torch::stable::contiguous(each));
    }
    return found;
  }

  void check_wide(const Tensor& tensor, const char* name) const {
    using torch::headeronly::ScalarType;
    const bool is_double = x.scalar_type() == ScalarType::Double;
    STD_TORCH_CHECK(tensor.scalar_type() == (is_double ? ScalarType::Double : ScalarType::Float) &&
                        tensor.device() == x.device() && tensor.is_contiguous(),
                    name,
                    ": expected a contiguous tensor of float32, or float64 for float64 maps, on the device of x, "
                    "got another one, of shape ",
                    shape_of(tensor), ".", kPrepared);
  }

  void check_kernel(const Tensor& kernel, const char* name, const std::vector<int64_t>& sizes) const {
    bool fits = kernel.dim() == 4 && kernel.scalar_type() == x.scalar_type() && kernel.device() == x.device();
    for (int axis = 0; fits && axis < 4; ++axis) fits = kernel.size(axis) == sizes[axis];
    STD_TORCH_CHECK(fits, name, ": expected a kernel [", sizes[0], ", ", sizes[1], ", ", sizes[2], ", ", sizes[3],
                    "] of the element type and on the device of x, got another one, of shape ", shape_of(kernel), ".",
                    kPrepared);
  }

  Tensor channels_last(const std::vector<int64_t>& sizes) const {
    const int64_t strides[] = {sizes[1] * sizes[2] * sizes[3], 1, sizes[1] * sizes[3], sizes[1]};
    int32_t type = 0;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(x.get(), &type));
    AtenTensorHandle made = nullptr;
    TORCH_ERROR_CODE_CHECK(
        aoti_torch_empty_strided(4, sizes.data(), strides, type, aoti_torch_device_type_cpu(), 0, &made));
    return Tensor(made);
  }
};

}  // namespace freewire

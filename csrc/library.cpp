// SPDX-License-Identifier: MIT
// Every operator's schema: the table of contents. Each backend registers its own implementation at the foot
// of its file, freewire/ops/network.py adds fake kernels and autograd.
//
// They carry no autograd: call them through freewire/ops/network.py, or their gradients are silently missing.
//
// Networks of neurons: B samples, I inputs, O outputs, E edges, N computed nodes (biases), R tape rows; T the type of
// x: float, double, bfloat16 or half. plan is Plan.pack(), int64, on x's device; header is its first kPlanHeader words
// where that is not the CPU, since launches are sized on the host, and empty on the CPU.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(freewire, m) {
  // x [B, I], weight [E], bias [N] or None -> y [B, O] and the tape, [tape_rows x B rounded up to whole tiles] where
  // tape_rows is R and [0] where it is 0 (nothing is kept: inference).
  m.def(
      "forward(Tensor x, Tensor weight, Tensor? bias, Tensor plan, int[] header, int num_outputs, int tape_rows) -> "
      "(Tensor, Tensor)");
  // grad_y [B, O], tape as forward made it -> grad_x [B, I], grad_weight [E], grad_bias [num_biases]; those
  // that are not asked for are empty.
  m.def(
      "backward(Tensor grad_y, Tensor tape, Tensor weight, Tensor plan, int[] header, int num_inputs, int num_biases, "
      "bool need_x, bool need_parameters) -> (Tensor, Tensor, Tensor)");

  // Networks of blocks, a node's aggregation: xs, F tensors of one shape, type T and layout without gaps, weight [F] in
  // the type that T is computed in -> sum of sigmoid(weight_i) xs_i, or without weight the mean; with relu no less
  // than 0.
  m.def("gated_sum(Tensor[] xs, Tensor? weight, bool relu) -> Tensor");
  // grad_y like xs -> grad_xs [F], each like xs, and grad_weight [F], empty unless asked for.
  m.def(
      "gated_sum_backward(Tensor grad_y, Tensor[] xs, Tensor? weight, bool relu, bool need_weight) -> "
      "(Tensor[], Tensor)");

  // The same of feature maps [B, C, H, W], channels_last and on the CPU, and a 3x3 convolution of each channel by
  // itself that hears the sum, which is never written to memory: kernel [C, 1, 3, 3] of type T, stride 1, a border of
  // zeros -> y like xs.
  m.def("gated_depthwise(Tensor[] xs, Tensor weight, bool relu, Tensor kernel) -> Tensor");
  // grad_y like xs -> grad_xs [F], each like xs; grad_weight [F] and grad_kernel [C, 1, 3, 3], which are empty unless
  // asked for.
  m.def(
      "gated_depthwise_backward(Tensor grad_y, Tensor[] xs, Tensor weight, bool relu, Tensor kernel, bool need_weight, "
      "bool need_kernel) -> (Tensor[], Tensor, Tensor)");
}

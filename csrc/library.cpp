// SPDX-License-Identifier: MIT
// The schemas of all operators: the table of contents. Each backend registers its implementation at the end of its
// *_op.cpp; freewire/ops adds fake kernels and autograd.
//
// freewire::network, recurrent and gated_sum are differentiable where freewire/ops has been imported, which registers
// their autograd; programs that torch.export and torch.jit.trace make call them. The others have no autograd of their
// own: call them through freewire/ops, or gradients are silently missing.
//
// Networks of neurons: B samples, I inputs, O outputs, E edges, N computed nodes (biases), R tape rows; T is the type
// of x, one of number.h's. plan is Plan.pack(), int64, on the device of x; header is its first kPlanHeader words on a
// GPU, since launches are sized on the host, and None on the CPU.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(freewire, m) {
  // x [B, I], weight [E], bias [N] or None -> y [B, O] and the tape, [kept_elements() of allocations.h].
  // tape_rows is R, or 0 to keep nothing until the backward runs the forward once more.
  m.def(
      "forward(Tensor x, Tensor weight, Tensor? bias, Tensor plan, int[]? header, int num_outputs, int tape_rows) -> "
      "(Tensor, Tensor)");
  // y alone, where no backward follows: an empty tape and a list of no words would take longer than a small network.
  m.def("inference(Tensor x, Tensor weight, Tensor? bias, Tensor plan, int[]? header, int num_outputs) -> Tensor");
  // grad_y [B, O], tape from forward -> grad_x [B, I], grad_weight [E], grad_bias [num_biases]; gradients that are not
  // needed are empty.
  m.def(
      "backward(Tensor grad_y, Tensor tape, Tensor weight, Tensor plan, int[]? header, int num_inputs, int num_biases, "
      "bool need_x, bool need_parameters) -> (Tensor, Tensor, Tensor)");

  // The outputs y [B, O] of forward. A backward keeps the tape of R rows, or with checkpoint runs the forward once
  // more; without one nothing is kept. The arguments are complete wherever the call runs later: header is never None.
  m.def(
      "network(Tensor x, Tensor weight, Tensor? bias, Tensor plan, int[] header, int num_outputs, int tape_rows, "
      "bool checkpoint) -> Tensor");

  // Populations: P networks of different wiring, with the same I and O. x [P, B, I], or [1, B, I] read by all of them;
  // weight, bias: those of the members, one after the other, in the order of the table. plans: their packed plans,
  // int64, anywhere in one vector. table [P, 4], int64: the first word of each member's plan, its first weight, its
  // first bias, and the tape rows of the members before it; both on the device of x. limits: P, the tape rows of all
  // members, the largest of each size of plan_layout.h, and the weights and biases of all members -> y [P, B, O], and
  // the tape, one member after the other.
  m.def(
      "population_forward(Tensor x, Tensor weight, Tensor? bias, Tensor plans, Tensor table, int[] limits, "
      "int num_outputs) -> (Tensor, Tensor)");
  // y alone, where no backward follows.
  m.def(
      "population_inference(Tensor x, Tensor weight, Tensor? bias, Tensor plans, Tensor table, int[] limits, "
      "int num_outputs) -> Tensor");
  // grad_y [P, B, O], tape from population_forward -> grad_x [P, B, I], grad_weight, grad_bias; gradients that are not
  // needed are empty.
  m.def(
      "population_backward(Tensor grad_y, Tensor tape, Tensor weight, Tensor plans, Tensor table, int[] limits, "
      "int num_inputs, int num_biases, bool need_x, bool need_parameters) -> (Tensor, Tensor, Tensor)");

  // Recurrent networks: a sequence of S steps; the plan is that of one step, of whose inputs the last V are states. x
  // [S, B, I - V], states [B, V] before the first step -> y [S, B, num_results], the states after the last step [B, V],
  // and what is kept for the backward, [kept_of_sequence() of allocations.h]: with keep the tape of each step or, if
  // every is not 0, the states before each multiple of it, from which the backward runs the forward once more.
  m.def(
      "sequence(Tensor x, Tensor states, Tensor weight, Tensor? bias, Tensor plan, int[]? header, int num_results, "
      "int tape_rows, int every, bool keep) -> (Tensor, Tensor, Tensor)");
  // The gradients of y and of the last states, what sequence() kept, and its arguments -> grad_x, grad_states,
  // grad_weight, grad_bias; gradients that are not needed are empty.
  m.def(
      "sequence_backward(Tensor grad_y, Tensor grad_last, Tensor kept, Tensor x, Tensor states, Tensor weight, "
      "Tensor? bias, Tensor plan, int[]? header, int every, bool need_x, bool need_states, bool need_parameters) -> "
      "(Tensor, Tensor, Tensor, Tensor)");

  // y and the last states of sequence. A backward keeps the tape of each step, or with every runs the forward once
  // more. The arguments are complete wherever the call runs later: header is never None.
  m.def(
      "recurrent(Tensor x, Tensor states, Tensor weight, Tensor? bias, Tensor plan, int[] header, int num_results, "
      "int tape_rows, int every) -> (Tensor, Tensor)");

  // Networks of blocks, the aggregation of a node: xs, F tensors of one shape, type T and layout without gaps; weight
  // [F] in the type that T is computed in, or None -> the sum of sigmoid(weight_i) xs_i, or without weight the mean;
  // with relu its negative elements are 0.
  m.def("gated_sum(Tensor[] xs, Tensor? weight, bool relu) -> Tensor");
  // grad_y like xs -> grad_xs [F], each like xs, and grad_weight [F], empty unless needed.
  m.def(
      "gated_sum_backward(Tensor grad_y, Tensor[] xs, Tensor? weight, bool relu, bool need_weight) -> "
      "(Tensor[], Tensor)");

  // The gated sum of feature maps [B, C, H, W], followed by a depthwise 3x3 convolution: kernel [C, 1, 3, 3] of type T,
  // stride 1, padding 1 -> y like xs. The sum is never written to memory. CPU and channels_last only.
  m.def("gated_depthwise(Tensor[] xs, Tensor weight, bool relu, Tensor kernel) -> Tensor");
  // grad_y like xs -> grad_xs [F], each like xs; grad_weight [F] and grad_kernel [C, 1, 3, 3], empty unless needed.
  m.def(
      "gated_depthwise_backward(Tensor grad_y, Tensor[] xs, Tensor weight, bool relu, Tensor kernel, bool need_weight, "
      "bool need_kernel) -> (Tensor[], Tensor, Tensor)");

  // A stage of separable convolutions, without a backward: N nodes in an order in which each follows its sources, those
  // without in-edges first; in_ptr [N + 1] and in_src [E], the sources of each node's in-edges; weight [E]. Nodes
  // without in-edges read x [B, in_channels, H, W], with that stride. depthwise, pointwise: each node's kernels
  // [channels, 1, 3, 3] and [out_channels, channels, 1, 1]; scale (or None) and shift [N, out_channels] in the type
  // that T is computed in: what follows its convolutions -> the mean of the nodes that no other reads, [B,
  // out_channels, ceil(H / stride), ceil(W / stride)]. CPU and channels_last only.
  m.def(
      "stage_inference(Tensor x, Tensor weight, Tensor[] depthwise, Tensor[] pointwise, Tensor? scale, Tensor shift, "
      "int[] in_ptr, int[] in_src, int stride, bool relu) -> Tensor");

  // The same with a batch norm after each node's convolutions: gamma and beta [N, out_channels] in the type that T
  // is computed in, epsilon [N]; mean and variance [N, out_channels], or None for those of the batch -> y, what is kept
  // for the backward, N tensors [B, H', W', padded channels], and the mean and the (biased) variance that were used.
  m.def(
      "stage_forward(Tensor x, Tensor weight, Tensor[] depthwise, Tensor[] pointwise, Tensor gamma, Tensor beta, "
      "float[] epsilon, Tensor? mean, Tensor? variance, int[] in_ptr, int[] in_src, int stride, bool relu) -> "
      "(Tensor, Tensor[], Tensor, Tensor)");
  // grad_y like y, and what stage_forward received and returned -> grad_x (empty unless needed), grad_weight,
  // grad_gamma, grad_beta, grad_depthwise and grad_pointwise.
  m.def(
      "stage_backward(Tensor grad_y, Tensor x, Tensor[] results, Tensor mean, Tensor variance, Tensor weight, "
      "Tensor[] depthwise, Tensor[] pointwise, Tensor gamma, Tensor beta, float[] epsilon, int[] in_ptr, int[] in_src, "
      "int stride, bool relu, bool batch_statistics, bool need_x) -> "
      "(Tensor, Tensor, Tensor, Tensor, Tensor[], Tensor[])");
}

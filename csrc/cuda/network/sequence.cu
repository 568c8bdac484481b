// SPDX-License-Identifier: MIT
// The steps of a sequence, forwards and backwards, as launches in order.
//
// Between two steps one kernel moves what passes from one to the other: forwards the results out of the outputs and the
// states out of them into the next step's inputs; backwards the gradients of a step's inputs to those of the features,
// and to those of the outputs whose values the states were. A thread moves one number of one sample, neighbouring
// threads neighbouring numbers; each is read and written once. Race-free: every element has a single writer, and what a
// launch reads earlier launches wrote. No sum has more than two terms: bitwise deterministic.
#include "cuda/common/device.h"
#include "cuda/common/zero.h"
#include "cuda/network/parameter_gradients.h"
#include "cuda/network/sequence.h"

namespace freewire::cuda {
namespace {

constexpr int kThreads = 256;

// What passes between two steps of the forward. Parts that are null do not.
template <class T>
struct Passed {
  const T* x;       // [batch, F] of the step after
  const T* states;  // [batch, V] before the first step, or null
  const T* before;  // [batch, O], the outputs of the step before, otherwise
  T* inputs;        // states go to inputs [batch, width], to the last columns
  int64_t width;
  T* kept;  // and to [pitch, V], with zeros past the batch's end
  T* y;     // [batch, R] of the step before
  int64_t batch;
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    pass_states_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ Passed<T> passed,
                       int64_t samples) {
  const int64_t features = passed.x ? plan.num_inputs - plan.num_states : 0;
  const int64_t states = passed.inputs ? plan.num_states : 0, results = passed.y ? plan.num_results : 0;
  const int64_t all = features + states + results;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, sample = i / all;
  if (sample >= samples) return;
  const int64_t feature = i % all, state = feature - features, result = state - states;
  const bool live = sample < passed.batch;
  if (state < 0) {
    if (live) passed.inputs[sample * passed.width + feature] = passed.x[sample * features + feature];
  } else if (result >= 0) {
    if (live) passed.y[sample * results + result] = passed.before[sample * plan.num_outputs + result];
  } else {
    T value{};
    if (live) {
      value = passed.states ? passed.states[sample * states + state]
                            : passed.before[sample * plan.num_outputs + plan.output_of_slot[plan.state_source[state]]];
      passed.inputs[(sample + 1) * passed.width - states + state] = value;
    }
    if (passed.kept) passed.kept[sample * states + state] = value;
  }
}

// What passes between two steps of the backward. Parts that are null do not.
template <class T>
struct PassedBack {
  const Compute<T>* after;  // [batch, I], the gradients of the inputs of the step after, or null after the last
  const T* grad_last;       // [batch, V], otherwise
  const T* grad_y;          // [batch, R] of the step before
  Compute<T>* outputs;      // [batch, O], the gradients of its outputs
  T* grad_x;                // [batch, F] of the step after
  T* grad_states;           // [batch, V], before the first step
  const int32_t* state_of_output;
  int64_t batch;

  __device__ Compute<T> state(const PlanView& plan, int64_t sample, int64_t i) const {
    if (!after) return widened(grad_last[sample * plan.num_states + i]);
    return after[(sample + 1) * plan.num_inputs - plan.num_states + i];
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads)
    pass_gradients_kernel(const __grid_constant__ PlanView plan, const __grid_constant__ PassedBack<T> passed) {
  const int64_t outputs = passed.outputs ? plan.num_outputs : 0;
  const int64_t features = passed.grad_x ? plan.num_inputs - plan.num_states : 0;
  const int64_t states = passed.grad_states ? plan.num_states : 0;
  const int64_t all = outputs + features + states;
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x, sample = i / all;
  if (sample >= passed.batch) return;
  const int64_t output = i % all, feature = output - outputs, state = feature - features;
  if (feature < 0) {
    Compute<T> grad = 0;
    if (output < plan.num_results) grad = widened(passed.grad_y[sample * plan.num_results + output]);
    if (const int32_t next = passed.state_of_output[output]) grad += passed.state(plan, sample, next - 1);
    passed.outputs[sample * outputs + output] = grad;
  } else if (state < 0) {
    passed.grad_x[sample * features + feature] = narrowed<T>(passed.after[sample * plan.num_inputs + feature]);
  } else {
    passed.grad_states[sample * states + state] = narrowed<T>(passed.state(plan, sample, state));
  }
}

// state_of_output[o] = 1 + the state whose source output o is. One thread per state; no two have one source.
__global__ void __launch_bounds__(kThreads)
    state_of_output_kernel(const __grid_constant__ PlanView plan, int32_t* state_of_output) {
  const int64_t state = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (state >= plan.num_states) return;
  state_of_output[plan.output_of_slot[plan.state_source[state]]] = static_cast<int32_t>(state) + 1;
}

template <class T>
void pass_states(const PlanView& plan, const Passed<T>& passed, Stream stream) {
  const int64_t samples = passed.kept ? pitch_of(passed.batch) : passed.batch;
  const int64_t all = (passed.x ? plan.num_inputs - plan.num_states : 0) + (passed.inputs ? plan.num_states : 0) +
                      (passed.y ? plan.num_results : 0);
  launch<pass_states_kernel<T>>(blocks_of(samples * all, kThreads), kThreads, 0, stream, plan, passed, samples);
}

template <class T>
void pass_gradients(const PlanView& plan, const PassedBack<T>& passed, Stream stream) {
  const int64_t all = (passed.outputs ? plan.num_outputs : 0) +
                      (passed.grad_x ? plan.num_inputs - plan.num_states : 0) +
                      (passed.grad_states ? plan.num_states : 0);
  launch<pass_gradients_kernel<T>>(blocks_of(passed.batch * all, kThreads), kThreads, 0, stream, plan, passed);
}

}  // namespace

template <class T>
void run_sequence(const PlanView& plan, const SequenceArrays<T>& arrays, int columns, Stream stream, bool packed) {
  const int64_t batch = arrays.step.batch, features = plan.num_inputs - plan.num_states, pitch = pitch_of(batch);
  const bool keeps_tapes = arrays.kept && !arrays.every, keeps_states = arrays.kept && arrays.every;
  const auto outputs = [&](int64_t t) {
    return arrays.step_y ? arrays.step_y : arrays.y + t * batch * plan.num_outputs;
  };
  Passed<T> passed{};
  passed.states = arrays.states;
  passed.batch = batch;
  // Of the step before t.
  const auto take_results = [&](int64_t t) {
    if (t == 0) return;
    passed.states = nullptr;
    passed.before = outputs(t - 1);
    passed.y = arrays.step_y && arrays.y ? arrays.y + (t - 1) * batch * plan.num_results : nullptr;
  };
  ForwardArrays<T> step = arrays.step;
  step.x = arrays.step_x;
  for (int64_t t = 0; t < arrays.steps; ++t) {
    take_results(t);
    passed.x = arrays.x + t * batch * features;
    passed.inputs = arrays.step_x;
    passed.width = plan.num_inputs;
    passed.kept =
        keeps_states && t % arrays.every == 0 ? arrays.kept + t / arrays.every * pitch * plan.num_states : nullptr;
    pass_states(plan, passed, stream);
    step.y = outputs(t);
    step.tape = keeps_tapes ? arrays.kept + t * plan.tape_rows * pitch : nullptr;
    run_forward(plan, step, columns, stream, packed || t > 0);
  }
  take_results(arrays.steps);
  passed.x = nullptr;
  passed.inputs = arrays.last_states;
  passed.width = plan.num_states;
  passed.kept = nullptr;
  pass_states(plan, passed, stream);
}

template <class T>
void run_sequence_backward(const PlanView& plan, const SequenceArrays<T>& forward,
                           const SequenceBackwardArrays<T>& arrays, int columns, int forward_columns, Stream stream) {
  const int64_t batch = arrays.step.batch, features = plan.num_inputs - plan.num_states, pitch = pitch_of(batch);
  const int64_t steps = forward.steps, chunk = forward.every ? std::min(forward.every, steps) : steps;
  fill_zero(arrays.state_of_output, plan.num_outputs, stream);
  launch<state_of_output_kernel>(blocks_of(plan.num_states, kThreads), kThreads, 0, stream, plan,
                                 arrays.state_of_output);
  PassedBack<T> passed{};
  passed.grad_last = arrays.grad_last;
  passed.state_of_output = arrays.state_of_output;
  passed.batch = batch;
  // Of the step after t, if there is one.
  const auto take_gradients = [&](int64_t t) {
    if (t + 1 == steps) return;
    passed.after = arrays.step_grad_x;
    passed.grad_x = arrays.grad_x ? arrays.grad_x + (t + 1) * batch * features : nullptr;
  };
  BackwardArrays<T> step = arrays.step;
  if constexpr (kNarrow<T>) {
    step.wide_grad_y = arrays.step_grad_y;
  } else {
    step.grad_y = arrays.step_grad_y;
  }
  SequenceArrays<T> again = forward;
  again.every = 0;
  bool packed = false;
  for (int64_t t = steps - 1; t >= 0; --t) {
    const int64_t first = t / chunk * chunk;
    if (forward.every && (t == steps - 1 || t == first + chunk - 1)) {
      again.x = forward.x + first * batch * features;
      again.states = arrays.kept + first / chunk * pitch * plan.num_states;
      again.steps = t - first + 1;
      run_sequence(plan, again, forward_columns, stream, t < steps - 1);
    }
    take_gradients(t);
    passed.grad_y = arrays.grad_y + t * batch * plan.num_results;
    passed.outputs = arrays.step_grad_y;
    pass_gradients(plan, passed, stream);
    step.tape =
        forward.every ? forward.kept + (t - first) * plan.tape_rows * pitch : arrays.kept + t * plan.tape_rows * pitch;
    // The first step's inputs are the last whose gradients may not be wanted.
    Compute<T>* grad_x = t > 0 || arrays.grad_x || arrays.grad_states ? arrays.step_grad_x : nullptr;
    if constexpr (kNarrow<T>) {
      step.wide_grad_x = grad_x;
    } else {
      step.grad_x = grad_x;
    }
    run_backward_nodes(plan, step, columns, packed, stream);
    packed = true;
    add_step_gradients(plan, step, t == steps - 1, stream);
  }
  take_gradients(-1);
  passed.outputs = nullptr;
  passed.grad_states = arrays.grad_states;
  pass_gradients(plan, passed, stream);
  finish_step_gradients(plan, step, steps > 0 && batch > 0, stream);
}

#define FREEWIRE_INSTANTIATE(T, tag, name)                                                                            \
  template void run_sequence<T>(const PlanView&, const SequenceArrays<T>&, int, Stream, bool);                        \
  template void run_sequence_backward<T>(const PlanView&, const SequenceArrays<T>&, const SequenceBackwardArrays<T>&, \
                                         int, int, Stream);
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cuda

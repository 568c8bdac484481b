// SPDX-License-Identifier: MIT
// Sizes of what the network operators allocate on every device. No torch here: the planner adds them up for
// Network.memory. {cpu,cuda}/network/workspace.h have those of one device.
#pragma once

#include <cstdint>

#include "plan_view.h"

namespace freewire {

// A number of elements of one type that a call allocates.
template <class V>
struct Elements {
  int64_t count;
  constexpr int64_t bytes() const { return count * static_cast<int64_t>(sizeof(V)); }
};

// Samples that a kept tape has room for: whole tiles of the widest kind, so that its size does not depend on the tile.
constexpr int64_t kTapePadding = 64;
constexpr int64_t padded_batch(int64_t batch) { return (batch + kTapePadding - 1) / kTapePadding * kTapePadding; }

// Elements of the tape that a forward keeps for its backward. Few samples have short rows on a CPU, where the tape has
// room for kFewPadding times as many samples. cpu: the operator was called without a header, as on a CPU.
constexpr int64_t kFewPadding = 4;
constexpr int64_t kept_elements(const PlanSizes& plan, int64_t batch, bool cpu) {
  const int64_t padded = padded_batch(batch);
  return plan.tape_rows * (cpu && kFewPadding * batch < padded ? kFewPadding * batch : padded);
}

// Samples in whole tiles of few samples, of which a sequence's are on a CPU, whatever the type.
constexpr int64_t few_columns(int64_t batch) {
  return batch <= 1 ? batch : batch <= 8 ? (batch + 3) / 4 * 4 : (batch + 15) / 16 * 16;
}

// Parts of at most `every` steps that make up a sequence.
constexpr int64_t chunks_of(int64_t steps, int64_t every) { return steps / every + (steps % every != 0); }

// The same over a sequence: the tapes of all steps or, where the forward is run once more, the states before every k-th
// step.
constexpr int64_t kept_of_sequence(const PlanSizes& plan, int64_t batch, int64_t steps, int64_t every, bool cpu) {
  const int64_t rows = every ? chunks_of(steps, every) * plan.num_states : steps * plan.tape_rows;
  return rows * (cpu ? few_columns(batch) : padded_batch(batch));
}

// Which gradients a training step computes.
struct Wanted {
  bool x, parameters;
};

// What an operator returns.
template <class T>
struct Results {
  Results(const PlanSizes& plan, int64_t batch, Wanted wanted, bool cpu)
      : y{batch * plan.num_outputs},
        tape{kept_elements(plan, batch, cpu)},
        grad_x{wanted.x ? batch * plan.num_inputs : 0},
        grad_weight{wanted.parameters ? plan.num_edges : 0},
        grad_bias{wanted.parameters ? plan.num_biases : 0} {}

  // The most that a training step holds at once, given the bytes that its forward and its backward allocate besides
  // their results. The gradient of y, which is as large as y, is held with it until the backward has read it.
  int64_t training_bytes(int64_t forward, int64_t backward) const {
    const int64_t gradients = grad_x.bytes() + grad_weight.bytes() + grad_bias.bytes();
    return 2 * y.bytes() + tape.bytes() + (forward > gradients + backward ? forward : gradients + backward);
  }

  Elements<T> y, tape, grad_x, grad_weight, grad_bias;
};

}  // namespace freewire

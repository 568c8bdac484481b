// SPDX-License-Identifier: MIT
// Runs a population through the CUDA kernels on the CPU, divided among blocks in some way; see cuda_run.h.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "cuda/network/population_kernels.h"
#include "testing/cases/cuda_run.h"
#include "testing/cases/population_case.h"

namespace freewire::testing {

// A way to divide a population: the tile requested (population_workspace.h), and the device that it is divided for.
struct Division {
  int requested, multiprocessors, shared_bytes;
  std::string name() const {
    return ", tiles of " + std::to_string(requested) + ", " + std::to_string(multiprocessors) + " multiprocessors of " +
           std::to_string(shared_bytes) + " bytes";
  }
};

// Rows in shared and in global memory, or either by member; nodes and edges copied, or not; one block per member, or
// more. Fewer of them for sanitizers (FREEWIRE_TWO_TILES), under which a run takes ten times as long.
inline std::vector<Division> divisions(bool quick) {
  constexpr int kUsual = 227 << 10, kSmall = 16 << 10;
  if (quick) return {{cuda::kAnyTile, 132, kUsual}, {2, 1, kUsual}, {0, 1, kSmall}};
#if defined(FREEWIRE_TWO_TILES)
  return {{cuda::kAnyTile, 132, kUsual}, {cuda::kAnyTile, 4, 8 << 10}, {0, 1, kUsual}, {2, 1, kUsual}};
#else
  std::vector<Division> found{{cuda::kAnyTile, 132, kUsual}, {cuda::kAnyTile, 1, kUsual}, {cuda::kAnyTile, 4, 8 << 10}};
  for (const int requested : {0, 2, 8, 32}) found.push_back({requested, 1, kUsual});
  for (const int requested : {0, 2, 32}) found.push_back({requested, 132, kSmall});
  return found;
#endif
}

template <class T>
cuda::Members<T> members_of(const PopulationCase<T>& given) {
  return {given.members.words(), given.members.table(), given.weight.data(), given.count, given.batch};
}

template <class T>
Exact<T> cuda_population(const PopulationCase<T>& given, const cuda::Device& device, int requested,
                         const Exact<T>* tape) {
  const SplitMembers& members = given.members;
  const bool keep = tape;
  const auto tiling = cuda::forward_tiling<T>(members.largest, given.count, given.batch, keep, device, requested);
  const cuda::PopulationForwardWorkspace<T> space(members.tape_rows, given.batch, keep, tiling);
  const Exact<T> rows(space.rows.count);
  Exact<T> y(given.count * given.batch * members.largest.num_outputs);
  cuda::population_forward<T>({members_of(given), given.x.data(), given.shared_x, given.bias.data(), y.data(),
                               tape ? tape->data() : nullptr, rows.data()},
                              tiling, nullptr);
  expect_launched();
  return y;
}

template <class T>
void cuda_population_backward(const PopulationCase<T>& given, const cuda::Device& device, int requested,
                              const Exact<T>& tape, const Exact<T>& grad_x, const Exact<T>& grad_weight,
                              const Exact<T>& grad_bias, bool parameters) {
  using C = Compute<T>;
  const SplitMembers& members = given.members;
  const int64_t num_biases = grad_bias.size();
  const auto tiling = cuda::backward_tiling<T>(members.largest, given.count, given.batch, device, requested);
  const cuda::PopulationBackwardWorkspace<T> space(members.largest, given.count, members.tape_rows, members.num_edges,
                                                   num_biases, given.batch, parameters, tiling);
  const Exact<C> rows(space.rows.count), shares(space.shares.count), partial(space.partial.count);
  cuda::population_backward<T>(
      {members_of(given), given.grad_y.data(), tape.data(), grad_x.data(), grad_weight.data(), grad_bias.data(),
       rows.data(), shares.data(), partial.data(), members.num_edges, num_biases, space.share_rows, parameters},
      tiling, nullptr);
  expect_launched();
}

// y without and with a tape, then x's gradient, the parameters', and all. The backward has another tile than the
// forward where the device chooses.
template <class T>
std::vector<Result<T>> cuda_population_run(const PopulationCase<T>& given, const Division& how) {
  cuda::Device device = cuda::current_device();
  device.multiprocessors = how.multiprocessors;
  device.shared_bytes = how.shared_bytes;
  std::vector<Result<T>> results;
  const auto add = [&](const std::string& name, Exact<T>&& values, const Expected& expected) {
    results.push_back({name + how.name(), std::move(values), &expected});
  };
  const Exact<T> tape(given.members.tape_rows * cuda::population_pitch(given.batch));
  add("y of a population without a tape", cuda_population<T>(given, device, how.requested, nullptr), given.y);
  add("y of a population", cuda_population(given, device, how.requested, &tape), given.y);
  for (int wanted = 1; wanted <= 3; ++wanted) {
    const bool need_x = wanted & 1, parameters = wanted & 2;
    const std::string which = wanted == 3 ? " of all gradients" : " alone";
    Exact<T> grad_x(need_x ? given.grad_x.values.size() : 0), grad_weight(parameters ? given.weight.size() : 0);
    Exact<T> grad_bias(parameters ? given.bias.size() : 0);
    cuda_population_backward(given, device, how.requested, tape, grad_x, grad_weight, grad_bias, parameters);
    if (need_x) add("grad_x" + which, std::move(grad_x), given.grad_x);
    if (!parameters) continue;
    add("grad_weight" + which, std::move(grad_weight), given.grad_weight);
    add("grad_bias" + which, std::move(grad_bias), given.grad_bias);
  }
  return results;
}

}  // namespace freewire::testing

// SPDX-License-Identifier: MIT
// A whole batch through the kernels: which regime, how wide a tile.
//
// Enters: a plan and device arrays. Leaves: launches on a stream, in order; nothing waits, allocates or copies.
#include <limits>

#include "cuda/network/parameter_gradients.h"
#include "cuda/network/resident.h"
#include "cuda/network/streamed.h"

namespace freewire::cuda {

namespace {
constexpr int kNarrowest = 2, kWidest = 32;
}

int widest_tile(const PlanView& plan, int64_t rows, int64_t itemsize, const Device& device) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();  // what packed nodes count edges in
  if (forward_edges(plan) > kMost || backward_edges(plan) > kMost) return 0;
  int columns = kWidest;
  while (columns >= kNarrowest && resident_bytes(plan, rows, columns, itemsize) > device.shared_bytes) columns /= 2;
  return columns < kNarrowest ? 0 : columns;
}

int tile_columns(const PlanView& plan, int64_t batch, int64_t rows, int64_t itemsize, const Device& device) {
  int columns = widest_tile(plan, rows, itemsize, device);
  // Narrow enough that every multiprocessor has a tile: a tile's time hardly depends on its width, the idle ones' does.
  while (columns > kNarrowest && batch <= int64_t{columns / 2} * device.multiprocessors) columns /= 2;
  return columns;
}

template <class T>
void run_forward(const PlanView& plan, const ForwardArrays<T>& arrays, int columns, Stream stream) {
  if (columns) {
    resident_forward(plan, arrays, columns, stream);
  } else {
    streamed_forward(plan, arrays, arrays.tape ? arrays.tape : arrays.rows, stream);
  }
}

template <class T>
void run_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, Stream stream) {
  if (columns) {
    resident_backward(plan, arrays, columns, stream);
  } else {
    streamed_backward(plan, arrays, stream);
  }
  parameter_gradients(plan, arrays, stream);
}

#define FREEWIRE_INSTANTIATE(T, tag, name)                                             \
  template void run_forward<T>(const PlanView&, const ForwardArrays<T>&, int, Stream); \
  template void run_backward<T>(const PlanView&, const BackwardArrays<T>&, int, Stream);
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cuda

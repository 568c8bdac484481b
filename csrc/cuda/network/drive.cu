// SPDX-License-Identifier: MIT
// A whole batch through the kernels of one regime.
//
// The functions take a plan and device arrays, and launch kernels on a stream, in order; nothing waits, allocates or
// copies.
#include "cuda/network/parameter_gradients.h"
#include "cuda/network/resident.h"
#include "cuda/network/streamed.h"

namespace freewire::cuda {

template <class T>
void run_forward(const PlanView& plan, const ForwardArrays<T>& arrays, int columns, Stream stream, bool packed) {
  if (columns) {
    resident_forward(plan, arrays, columns, packed, stream);
  } else {
    streamed_forward(plan, arrays, arrays.tape ? arrays.tape : arrays.rows, stream);
  }
}

template <class T>
void run_backward_nodes(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, bool packed,
                        Stream stream) {
  if (columns) {
    resident_backward(plan, arrays, columns, packed, stream);
  } else {
    streamed_backward(plan, arrays, stream);
  }
}

template <class T>
void run_backward(const PlanView& plan, const BackwardArrays<T>& arrays, int columns, Stream stream) {
  run_backward_nodes(plan, arrays, columns, false, stream);
  parameter_gradients(plan, arrays, stream);
}

#define FREEWIRE_INSTANTIATE(T, tag, name)                                                   \
  template void run_forward<T>(const PlanView&, const ForwardArrays<T>&, int, Stream, bool); \
  template void run_backward<T>(const PlanView&, const BackwardArrays<T>&, int, Stream);     \
  template void run_backward_nodes<T>(const PlanView&, const BackwardArrays<T>&, int, bool, Stream);
FREEWIRE_FOR_EACH_TYPE(FREEWIRE_INSTANTIATE)
#undef FREEWIRE_INSTANTIATE

}  // namespace freewire::cuda

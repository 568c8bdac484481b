// SPDX-License-Identifier: MIT
// Tensors on the CPU, made without torch's dispatcher: torch::stable::new_empty and contiguous look their operators up
// by name at each call, which takes longer than a small network.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/shim_utils.h>

#include <array>
#include <cstdint>

#include "cpu/huge_pages.h"

namespace freewire::cpu {

// The tensor itself, or a copy if it is not contiguous.
inline torch::stable::Tensor contiguous(const torch::stable::Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

// Uninitialised, of the type of a tensor.
template <size_t kDim>
torch::stable::Tensor empty(const torch::stable::Tensor& like, const int64_t (&sizes)[kDim]) {
  int32_t type = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_dtype(like.get(), &type));
  std::array<int64_t, kDim> strides;
  int64_t stride = 1;
  for (size_t i = kDim; i-- > 0;) {
    strides[i] = stride;
    stride *= sizes[i] > 1 ? sizes[i] : 1;
  }
  AtenTensorHandle made = nullptr;
  TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(kDim, sizes, strides.data(), type, aoti_torch_device_type_cpu(), 0, &made));
  torch::stable::Tensor tensor(made);
  advise_huge_pages(tensor.mutable_data_ptr(), tensor.numel() * static_cast<int64_t>(tensor.element_size()));
  return tensor;
}

}  // namespace freewire::cpu

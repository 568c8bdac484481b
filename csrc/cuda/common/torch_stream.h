// SPDX-License-Identifier: MIT
// torch's device, stream and memory for the CUDA kernels, and the checks of the device. Shared by the CUDA bindings.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/shim_utils.h>

#include <cstdint>
#include <exception>
#include <initializer_list>

#include "cuda/common/host.h"

namespace freewire::cuda {

constexpr int kOldestCapability = 75;

// Makes a tensor's GPU the current one during its lifetime, so that kernels run and torch allocates there; the previous
// GPU is current again afterwards.
class DeviceGuard {
 public:
  explicit DeviceGuard(const torch::stable::Tensor& tensor) : device_(tensor.get_device_index()) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_create_cuda_guard(device_, &guard_));
  }
  ~DeviceGuard() { aoti_torch_delete_cuda_guard(guard_); }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

  // The caller's stream, which is also the stream of memory from torch's allocator.
  Stream stream() const {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_, &stream));
    return static_cast<Stream>(stream);
  }

 private:
  int32_t device_;
  CUDAGuardHandle guard_;
};

// The current device; raises if our kernels cannot run on it.
inline Device usable_device() {
  const Device device = current_device();
  STD_TORCH_CHECK(device.driver / 1000 >= device.runtime / 1000, "CUDA driver: expected one for CUDA ",
                  device.runtime / 1000, ", which freewire was built with, or newer, got one for CUDA ",
                  device.driver / 1000, ".", device.driver % 1000 / 10,
                  ". Update the driver, or rebuild freewire with an older nvcc.");
  STD_TORCH_CHECK(device.capability >= kOldestCapability,
                  "GPU: expected compute capability 7.5 (Turing) or newer, got ", device.capability / 10, ".",
                  device.capability % 10, ". Use net.to(\"cpu\").");
  return device;
}

inline void check_launches() {
  const char* why = last_error();
  STD_TORCH_CHECK(!why, "CUDA: expected every kernel to start, got \"", why ? why : "", "\".");
}

// Returns make(), which allocates that many bytes on the GPU. The stable ABI does not distinguish failures, and running
// out of memory is the only one of an allocation.
template <class Make>
torch::stable::Tensor allocated(int64_t bytes, Make&& make) {
  try {
    return make();
  } catch (const std::exception&) {
    STD_TORCH_CHECK(false, "CUDA out of memory: expected ", bytes,
                    " bytes to be free on the GPU, got fewer. Use a smaller batch, or checkpoint=True.");
  }
}

inline torch::stable::Tensor empty(const torch::stable::Tensor& like, std::initializer_list<int64_t> sizes) {
  int64_t bytes = like.element_size();
  for (const int64_t size : sizes) bytes *= size;
  return allocated(bytes, [&] { return torch::stable::new_empty(like, sizes); });
}

// The tensor itself, or a copy if it is not contiguous or not aligned to 16 bytes (a view into a larger tensor).
inline torch::stable::Tensor aligned(const torch::stable::Tensor& tensor) {
  const bool fits = reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0;
  if (tensor.is_contiguous() && fits) return tensor;
  return allocated(tensor.numel() * static_cast<int64_t>(tensor.element_size()), [&] {
    return tensor.is_contiguous() ? torch::stable::clone(tensor) : torch::stable::contiguous(tensor);
  });
}

// Uninitialised memory for count values on the device of a tensor, from torch's allocator.
template <class V>
class Workspace {
 public:
  Workspace(const torch::stable::Tensor& like, int64_t count)
      : bytes_(allocated(count * static_cast<int64_t>(sizeof(V)), [&] {
          return torch::stable::new_empty(like, {count * static_cast<int64_t>(sizeof(V))},
                                          torch::headeronly::ScalarType::Byte);
        })) {}
  V* data() const { return reinterpret_cast<V*>(bytes_.mutable_data_ptr<uint8_t>()); }

 private:
  torch::stable::Tensor bytes_;
};

}  // namespace freewire::cuda

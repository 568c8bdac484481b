// SPDX-License-Identifier: MIT
// torch's device and stream, as cuda/kernels.h wants them.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>
#include <torch/headeronly/util/shim_utils.h>

#include <cstdint>
#include <cstdlib>
#include <exception>
#include <initializer_list>
#include <string>

#include "checks.h"
#include "cuda/network/kernels.h"

namespace freewire::cuda {

constexpr int kOldestCapability = 75;
static_assert(kPitchColumns == kTapePadding,
              "the tape has the size that freewire/ops/network.py and its fake kernels give it");

// Makes a tensor's GPU the current one while it lives, so that launches, and the memory that torch hands out, are that
// GPU's; the one before is current again afterwards.
class DeviceGuard {
 public:
  explicit DeviceGuard(const torch::stable::Tensor& tensor) : device_(tensor.get_device_index()) {
    TORCH_ERROR_CODE_CHECK(aoti_torch_create_cuda_guard(device_, &guard_));
  }
  ~DeviceGuard() { aoti_torch_delete_cuda_guard(guard_); }
  DeviceGuard(const DeviceGuard&) = delete;
  DeviceGuard& operator=(const DeviceGuard&) = delete;

  // The stream that the caller works on, which is also the one that torch's allocator hands memory out for.
  Stream stream() const {
    void* stream = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(device_, &stream));
    return static_cast<Stream>(stream);
  }

 private:
  int32_t device_;
  CUDAGuardHandle guard_;
};

// The guarded device; raises where no kernel of ours could run there.
inline Device usable_device() {
  const Device device = current_device();
  STD_TORCH_CHECK(device.driver / 1000 >= device.runtime / 1000, "CUDA driver: expected one for CUDA ",
                  device.runtime / 1000, ", which freewire was built with, or newer, got one for CUDA ",
                  device.driver / 1000, ".", device.driver % 1000 / 10,
                  ". Update the driver, or build freewire again with an older nvcc.");
  STD_TORCH_CHECK(device.capability >= kOldestCapability,
                  "GPU: expected compute capability 7.5 (Turing) or newer, got ", device.capability / 10, ".",
                  device.capability % 10, ". Use net.to(\"cpu\").");
  return device;
}

// tile_columns(), unless $FREEWIRE_CUDA_TILE says how many (0: streamed); raises where those do not fit.
inline int chosen_tile(const PlanView& plan, int64_t batch, int64_t rows, int64_t itemsize, const Device& device) {
  const char* asked = std::getenv("FREEWIRE_CUDA_TILE");
  if (!asked) return tile_columns(plan, batch, rows, itemsize, device);
  const std::string text(asked);
  const int widest = widest_tile(plan, rows, itemsize, device);
  for (const int columns : {0, 2, 4, 8, 16, 32}) {
    if (text != std::to_string(columns)) continue;
    STD_TORCH_CHECK(columns <= widest, "FREEWIRE_CUDA_TILE: expected at most ", widest,
                    " columns, which is what this GPU's shared memory holds of this network's ", rows, " rows, got ",
                    columns, ". Set it to 0 to stream, or unset it.");
    return columns;
  }
  STD_TORCH_CHECK(false, "FREEWIRE_CUDA_TILE: expected 0, 2, 4, 8, 16 or 32, got \"", text, "\". Unset it.");
  return 0;
}

inline void check_launches() {
  const char* why = last_error();
  STD_TORCH_CHECK(!why, "CUDA: expected every kernel to start, got \"", why ? why : "", "\".");
}

// What make() returns, which asks torch for so many bytes of the GPU. The stable ABI tells no failure from another, and
// asking for memory has one.
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

// The tensor itself, or a copy where its elements do not stand side by side, or not at an address that loads of 16
// bytes can take (a view into a larger one).
inline torch::stable::Tensor aligned(const torch::stable::Tensor& tensor) {
  const bool fits = reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0;
  if (tensor.is_contiguous() && fits) return tensor;
  return allocated(tensor.numel() * static_cast<int64_t>(tensor.element_size()), [&] {
    return tensor.is_contiguous() ? torch::stable::clone(tensor) : torch::stable::contiguous(tensor);
  });
}

// Uninitialised memory for count values on a tensor's device, from torch's allocator.
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

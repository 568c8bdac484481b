// SPDX-License-Identifier: MIT
// The functions of torch's CUDA build that csrc/cuda/common/torch_stream.h calls, for a torch without CUDA: guards and
// streams, which are only counted.
//
// For ctypes (tests/support/simt_torch.py) it exports the counts, the options of the emulated device, and the kernels
// that ran.
#include <torch/csrc/inductor/aoti_torch/c/shim.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "testing/simt/simt.h"

namespace {

constexpr int32_t kNoDevice = -2;
int32_t guarded = kNoDevice;  // tensors on the CPU have device -1
int64_t guards = 0, strays = 0;
char guard_in_use, stream_in_use;

}  // namespace

extern "C" {

AOTITorchError aoti_torch_create_cuda_guard(int32_t device, CUDAGuardHandle* guard) {
  ++guards;
  guarded = device;
  *guard = reinterpret_cast<CUDAGuardHandle>(&guard_in_use);
  return AOTI_TORCH_SUCCESS;
}

AOTITorchError aoti_torch_delete_cuda_guard(CUDAGuardHandle) {
  guarded = kNoDevice;
  return AOTI_TORCH_SUCCESS;
}

AOTITorchError aoti_torch_get_current_cuda_stream(int32_t device, void** stream) {
  if (device != guarded) ++strays;
  *stream = &stream_in_use;
  return AOTI_TORCH_SUCCESS;
}

// The number of guards so far, and of requests for a stream outside of a guard.
__attribute__((visibility("default"))) int64_t simt_guards() { return guards; }
__attribute__((visibility("default"))) int64_t simt_strays() { return strays; }

// Sets an option of the emulated device and returns its previous value, or -1 if there is no such option.
__attribute__((visibility("default"))) int64_t simt_option(const char* name, int64_t value) {
  const auto swap = [&](auto& option) {
    const auto before = static_cast<int64_t>(option);
    option = static_cast<std::remove_reference_t<decltype(option)>>(value);
    return before;
  };
  simt::Options& all = simt::options();
  if (!std::strcmp(name, "seed")) return swap(all.seed);
  if (!std::strcmp(name, "multiprocessors")) return swap(all.multiprocessors);
  if (!std::strcmp(name, "shared_bytes")) return swap(all.shared_bytes);
  if (!std::strcmp(name, "capability")) return swap(all.capability);
  if (!std::strcmp(name, "driver")) return swap(all.driver);
  if (!std::strcmp(name, "refuse")) return swap(all.refuse);
  return -1;
}

// One line "kernel times" per kernel, as the programs of tests/support/simt.py print them.
__attribute__((visibility("default"))) const char* simt_launches() {
  static thread_local std::string lines;
  lines.clear();
  for (const auto& [kernel, times] : simt::launches()) lines += kernel + " " + std::to_string(times) + "\n";
  return lines.c_str();
}

}  // extern "C"

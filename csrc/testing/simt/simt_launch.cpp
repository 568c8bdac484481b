// SPDX-License-Identifier: MIT
// The host's part of the shim: options, and launches, which are refused, or run and counted.
//
// A launch returns when the kernel has finished, on as many CPU threads as the options say. Never compile it with
// -fsanitize=thread (see simt_fiber.h).
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <numeric>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "testing/simt/simt_block.h"

namespace simt {

Options& options() {
  const auto from_environment = [](const char* name, long otherwise) {
    const char* text = std::getenv(name);
    return text ? std::atol(text) : otherwise;
  };
  static Options all{static_cast<uint64_t>(from_environment("FREEWIRE_SIMT_SEED", 1)),
                     static_cast<int>(from_environment("FREEWIRE_SIMT_THREADS", 1)),
                     132,
                     227 << 10,
                     90,
                     kRuntimeVersion,
                     0};
  return all;
}

std::mutex kernels_mutex;
std::deque<Kernel>& all_kernels = *new std::deque<Kernel>;
thread_local std::string error, reported_error;

// "... [with auto Kernel = freewire::{anonymous}::fill_kernel<float>]" (GCC), "... [Kernel =
// &freewire::(anonymous namespace)::fill_kernel<float>]" (Clang).
Kernel& kernel_named(const char* pretty_name) {
  std::string name(pretty_name);
  name.erase(0, name.find("Kernel = ") + 9);
  name.pop_back();
  for (const char* noise : {"&", "{anonymous}::", "(anonymous namespace)::"}) {
    for (size_t at; (at = name.find(noise)) != std::string::npos;) name.erase(at, std::strlen(noise));
  }
  const std::lock_guard lock(kernels_mutex);
  for (Kernel& kernel : all_kernels) {
    if (kernel.name == name) return kernel;
  }
  return all_kernels.emplace_back(std::move(name));
}

std::map<std::string, int64_t> launches() {
  std::map<std::string, int64_t> counts;
  const std::lock_guard lock(kernels_mutex);
  for (const Kernel& kernel : all_kernels) {
    if (kernel.launches) counts[kernel.name] = kernel.launches;
  }
  return counts;
}

const char* last_error() {
  reported_error.clear();
  std::swap(reported_error, error);
  return reported_error.empty() ? nullptr : reported_error.c_str();
}

// Why a device would refuse the launch, as the end of a message; empty if it would not.
std::string refusal(const Launch& launch) {
  const auto got = [](auto number) { return ", got " + std::to_string(number) + "."; };
  const dim3 &grid = launch.grid, &block = launch.block;
  if (options().refuse) return "device: expected to start kernels, got the option to refuse them.";
  const uint64_t threads = uint64_t{block.x} * block.y * block.z, blocks = uint64_t{grid.x} * grid.y * grid.z;
  for (const unsigned side : {block.x, block.y, block.z}) {
    if (side == 0 || side > kMaxThreads) return "block: expected sides of 1 to 1024 threads" + got(side);
  }
  if (threads > kMaxThreads) return "block: expected at most 1024 threads" + got(threads);
  if (block.z > 64) return "block: expected at most 64 threads in z" + got(block.z);
  if (grid.x > 0x7fffffff) return "grid: expected at most 2147483647 blocks in x" + got(grid.x);
  if (std::max(grid.y, grid.z) > 65535)
    return "grid: expected at most 65535 blocks in y and z" + got(std::max(grid.y, grid.z));
  const size_t most = options().shared_bytes;
  if (launch.shared_bytes > most) {
    return "shared_bytes: expected at most " + std::to_string(most) + got(launch.shared_bytes);
  }
  const uint64_t resident = uint64_t(options().multiprocessors) * (kResidentThreads / threads);
  if (launch.cooperative && blocks > resident) {
    return "grid: expected at most " + std::to_string(resident) + " blocks at once" + got(blocks);
  }
  return "";
}

void run(const Launch& launch) {
  if (const std::string why = refusal(launch); !why.empty()) {
    error = launch.kernel.name + ": " + why;
    return;
  }
  ++launch.kernel.launches;
  const dim3 grid = launch.grid;
  const uint64_t seed = (options().seed + 1) * 0x9e3779b97f4a7c15;
  Progress progress{launch, uint64_t{grid.x} * grid.y * grid.z, 1, 0, {0}, 0, 0};
  // Any stride that is coprime to the number of blocks visits every block once.
  progress.stride = seed % progress.blocks;
  progress.offset = (seed >> 32) % progress.blocks;
  while (std::gcd(progress.stride, progress.blocks) != 1) ++progress.stride;

  const uint64_t many = launch.cooperative ? 1 : std::max(1, options().cpu_threads);
  std::vector<std::thread> others;
  for (uint64_t i = 1; i < std::min(many, progress.blocks); ++i) {
    others.emplace_back([&progress, seed, i] { Worker(progress, seed + i).run_blocks(); });
  }
  Worker(progress, seed).run_blocks();
  for (std::thread& other : others) other.join();
  acquire(&progress.after);
}

}  // namespace simt

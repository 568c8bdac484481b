// SPDX-License-Identifier: MIT
// Block, a running block of fibers, and Worker, the part of a launch that one CPU thread runs. Implemented in
// testing/simt/simt_runtime.cpp.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <new>
#include <span>
#include <string>
#include <vector>

#include "testing/simt/simt_fiber.h"

namespace simt {

constexpr unsigned kWarp = 32;
constexpr unsigned kMaxThreads = 1024;         // per block
constexpr unsigned kResidentThreads = 2048;    // per multiprocessor, in a cooperative launch
constexpr size_t kMaxStaticShared = 48 << 10;  // bytes
constexpr int kMaxStaticArrays = 32;           // per block

// ---- blocks ----

// Memory of an exact number of bytes, which start as NaN in every type. Under ThreadSanitizer they start as zero, so
// that a race is reported before an index that was not yet written is used.
struct SharedArray {
  void allocate(size_t size, size_t align) {
    const Unseen unseen;
    alignment = std::align_val_t(align);
    bytes = ::operator new(size, alignment);
    std::memset(bytes, races_are_watched() ? 0 : 0xff, size);
  }
  void free() {
    const Unseen unseen;
    if (bytes) ::operator delete(bytes, alignment);
  }
  const void* key = nullptr;
  void* bytes = nullptr;
  std::align_val_t alignment{16};
};

// The addresses by which ThreadSanitizer identifies a barrier. Two alternate: with one, a thread that leaves late would
// seem to be ordered after writes of a quicker thread on its way to the next barrier.
struct Tags {
  void* turn(unsigned passed) { return &tags[passed % 2]; }
  char tags[2];
};

struct Block {
  uint3 index{};
  Team* team = nullptr;
  std::span<Fiber*> fibers;               // of the team, one per thread
  unsigned at_barrier = 0, barriers = 0;  // threads that wait; barriers passed
  unsigned returned = 0;
  // One bit per lane of each warp: lanes that wait for others, and lanes that will not arrive any more.
  std::array<unsigned, kMaxThreads / kWarp> arrived{}, gone{};
  SharedArray dynamic, statics[kMaxStaticArrays];
  int num_statics = 0;
  size_t static_bytes = 0;
  Tags barrier_tags, warp_tags[kMaxThreads / kWarp];
};

// ---- a launch ----

// The state of one launch that its CPU threads share.
struct Progress {
  const Launch& launch;
  uint64_t blocks, stride, offset;  // the i-th block to run is number (i * stride + offset) % blocks
  std::atomic<uint64_t> next;       // i of the next block
  char before, after;               // tags: everything before the launch, and the end of the kernel
};

// One CPU thread's part of a launch.
class Worker {
 public:
  Worker(Progress& progress, uint64_t seed) : progress_(progress), launch_(progress.launch), random_(seed) {
    threads_ = launch_.block.x * launch_.block.y * launch_.block.z;
    host_.worker = this;
    if (__tsan_get_current_fiber) host_.identity = __tsan_get_current_fiber();
  }
  void run_blocks();
  // These are called by fibers.
  void run_thread();
  void sync_threads(Site site);
  void sync_grid(Site site);
  uint64_t exchange(Collective what, unsigned mask, uint64_t bits, int source, Site site);
  void* static_shared(const void* key, size_t bytes, size_t alignment);
  Fiber& current() { return *current_; }
  Fiber& previous() { return *previous_; }
  [[noreturn, gnu::format(printf, 2, 3)]] void fail(const char* format, ...);

 private:
  Block* begin(uint64_t number);
  void end(Block* block);
  Fiber& draw();
  void leave();
  void make_ready(Fiber* fiber);
  void complete(Fiber* const* lanes, const Fiber& last);
  [[noreturn]] void fail_missing(const Fiber& waits, const Fiber& missing);
  [[noreturn]] void fail_stuck();

  Progress& progress_;
  const Launch& launch_;
  uint64_t random_;
  unsigned threads_;  // per block
  Fiber host_;        // this CPU thread outside of all fibers
  Fiber *current_ = &host_, *previous_ = &host_;
  std::vector<Fiber*> ready_;
  std::vector<Block*> blocks_;  // running now: one, or all of a cooperative launch
  uint64_t live_ = 0, at_grid_barrier_ = 0;
  unsigned grid_barriers_ = 0;  // passed
  Tags grid_tags_;
};

}  // namespace simt

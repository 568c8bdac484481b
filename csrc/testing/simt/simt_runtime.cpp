// SPDX-License-Identifier: MIT
// Runs CUDA kernels on the CPU: one fiber per CUDA thread, blocks in a shuffled order, a random next fiber at every
// wait.
//
// An error ends the program, by a message from here or a sanitizer's report. Never compile it with -fsanitize=thread
// (see simt_fiber.h).
//
// Found here: threads that do not meet at the same barrier or warp operation, a lane missing from a shuffle, a shuffle
// from outside its mask, grid_sync without launch_cooperative, launches that a device would refuse. Found by
// AddressSanitizer: accesses outside an array. Each static shared array, and dynamic shared memory as a whole, is a
// heap allocation of exactly its size. By UndefinedBehaviorSanitizer: misaligned vector loads.
// Found by ThreadSanitizer, even on one CPU thread: each fiber is a thread to it, and fibers are ordered only by what
// orders threads on a device: __syncthreads for a block, __syncwarp for a warp, grid_sync for a grid, and one launch
// after another. Races between blocks of more than about 100 threads are found only with $FREEWIRE_SIMT_RACES=blocks
// (see simt_fiber.h). Found by wrong results: reads of shared memory that was never written (it starts as NaN), and a
// dependence on the order of blocks or threads. Not modelled: weak memory order in race-free code, registers, spinning
// on a flag (it hangs).
#include <algorithm>
#include <bit>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "testing/simt/simt_block.h"

namespace simt {

thread_local Worker* running = nullptr;
Pool& pool = *new Pool;  // never destroyed: a fiber's stack may outlive main

void fiber_main() {
  Fiber& self = running->current();
  switched(self, self.worker->previous());
  for (;;)
    self.worker->run_thread();  // the worker of each kernel in turn, not `running`, which belongs to a CPU thread
}

// Runs all ready fibers, then those that they wake, until all have returned.
void Worker::run_blocks() {
  Worker* const outer = running;
  running = this;
  blockDim = launch_.block;
  gridDim = launch_.grid;
  for (uint64_t i; (i = progress_.next++) < progress_.blocks;) {
    blocks_.push_back(begin((i * progress_.stride + progress_.offset) % progress_.blocks));
    if (launch_.cooperative && i + 1 < progress_.blocks) continue;
    release(&progress_.before);
    leave();
    for (Block* block : blocks_) end(block);
    blocks_.clear();
  }
  running = outer;
}

// Names the fiber after its CUDA thread, or its block, in ThreadSanitizer's reports.
void name(const Fiber& fiber) {
  if (!__tsan_set_fiber_name) return;
  const uint3 &block = fiber.block->index, &thread = fiber.thread;
  char text[96];
  int length = std::snprintf(text, sizeof text, "block (%u,%u,%u)", block.x, block.y, block.z);
  if (!pool.by_block()) {
    std::snprintf(text + length, sizeof text - length, " thread (%u,%u,%u)", thread.x, thread.y, thread.z);
  }
  __tsan_set_fiber_name(fiber.identity, text);
}

Block* Worker::begin(uint64_t number) {
  const dim3 &grid = launch_.grid, &threads = launch_.block;
  Block* block = new Block;
  block->index = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
                  static_cast<unsigned>(number / grid.x / grid.y)};
  block->team = pool.take(threads_);
  block->fibers = std::span(block->team->fibers).first(threads_);
  block->gone.fill(~0u);
  live_ += threads_;
  ready_.reserve(live_);
  for (unsigned i = 0; i < threads_; ++i) {
    Fiber* fiber = block->fibers[i];
    fiber->worker = this;
    fiber->block = block;
    fiber->number = i;
    fiber->thread = {i % threads.x, i / threads.x % threads.y, i / threads.x / threads.y};
    fiber->warp_syncs = 0;
    name(*fiber);
    block->gone[i / kWarp] &= ~(1u << i % kWarp);
    make_ready(fiber);
  }
  if (launch_.shared_bytes) block->dynamic.allocate(launch_.shared_bytes, 16);
  return block;
}

void Worker::end(Block* block) {
  pool.give_back(block->team);
  block->dynamic.free();
  for (int i = 0; i < block->num_statics; ++i) block->statics[i].free();
  delete block;
}

void Worker::make_ready(Fiber* fiber) {
  fiber->state = State::kReady;
  ready_.push_back(fiber);
}

Fiber& Worker::draw() {
  if (ready_.empty()) {
    if (live_) fail_stuck();
    return host_;
  }
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  std::swap(ready_[(random_ >> 32) * ready_.size() >> 32], ready_.back());
  Fiber* next = ready_.back();
  ready_.pop_back();
  return *next;
}

// Switches from the running fiber to a ready one, until its turn comes again.
void Worker::leave() {
  Fiber &self = *current_, &next = draw();
  if (&next == &self) return;
  previous_ = &self;
  current_ = &next;
  if (next.block) {
    threadIdx = next.thread;
    blockIdx = next.block->index;
  }
  switch_fiber(self, next);
  switched(self, self.worker->previous());  // self.worker may be another worker by now
}

// Whether one fiber waits for the other.
bool awaits(const Fiber& one, const Fiber& other) {
  if (one.state == State::kGridBarrier) return true;
  if (one.block != other.block) return false;
  if (one.state == State::kBlockBarrier) return true;
  return one.state == State::kWarpOperation && one.number / kWarp == other.number / kWarp &&
         one.mask >> other.number % kWarp & 1;
}

void Worker::run_thread() {
  acquire(&progress_.before);
  launch_.call(launch_.arguments);
  release(&progress_.after);
  Fiber& self = *current_;
  Block& block = *self.block;
  const unsigned warp = self.number / kWarp, lane = self.number % kWarp;
  self.state = State::kReturned;
  ++block.returned;
  --live_;
  block.gone[warp] |= 1u << lane;
  if (block.at_barrier || block.arrived[warp] || at_grid_barrier_) {
    for (const Block* any : blocks_) {
      for (const Fiber* other : any->fibers) {
        if (awaits(*other, self)) fail_missing(*other, self);
      }
    }
  }
  leave();
}

bool same(const Site& one, const Site& other) {
  return one.line == other.line && (one.file == other.file || std::strcmp(one.file, other.file) == 0);
}

// ---- barriers ----

void Worker::sync_threads(Site site) {
  Fiber& self = *current_;
  Block& block = *self.block;
  self.state = State::kBlockBarrier;
  self.site = site;
  void* const tag = block.barrier_tags.turn(block.barriers);
  release(tag);
  if (block.returned) {
    for (const Fiber* other : block.fibers) {
      if (other->state == State::kReturned) fail_missing(self, *other);
    }
  }
  if (++block.at_barrier == threads_) {
    block.at_barrier = 0;
    ++block.barriers;
    for (Fiber* other : block.fibers) {
      if (!same(other->site, site)) fail_missing(self, *other);
    }
    for (Fiber* other : block.fibers) make_ready(other);
  }
  leave();
  acquire(tag);
}

void Worker::sync_grid(Site site) {
  Fiber& self = *current_;
  self.state = State::kGridBarrier;
  self.site = site;
  if (!launch_.cooperative) fail("grid_sync() at %s:%d needs launch_cooperative.", site.file, site.line);
  void* const tag = grid_tags_.turn(grid_barriers_);
  release(tag);
  const uint64_t all = progress_.blocks * threads_;
  if (live_ < all) {
    for (const Block* block : blocks_) {
      for (const Fiber* other : block->fibers) {
        if (other->state == State::kReturned) fail_missing(self, *other);
      }
    }
  }
  if (++at_grid_barrier_ == all) {
    at_grid_barrier_ = 0;
    ++grid_barriers_;
    for (Block* block : blocks_) {
      for (Fiber* other : block->fibers) make_ready(other);
    }
  }
  leave();
  acquire(tag);
}

// ---- warps ----

uint64_t Worker::exchange(Collective what, unsigned mask, uint64_t bits, int source, Site site) {
  Fiber& self = *current_;
  Block& block = *self.block;
  const unsigned warp = self.number / kWarp, lane = self.number % kWarp;
  self.state = State::kWarpOperation;
  self.what = what;
  self.mask = mask;
  self.bits = bits;
  self.source = source;
  self.site = site;
  if (!(mask >> lane & 1)) {
    fail("lane %u is not in the mask 0x%08x that it passes at %s:%d.", lane, mask, site.file, site.line);
  }
  if (const unsigned missing = mask & block.gone[warp]) {
    const unsigned number = warp * kWarp + std::countr_zero(missing);
    if (number < threads_) fail_missing(self, *block.fibers[number]);
    fail("the mask 0x%08x at %s:%d holds lane %u, which a block of %u threads does not have.", mask, site.file,
         site.line, number % kWarp, threads_);
  }
  // Shuffles and ballots order no memory.
  void* const tag = what == Collective::kSync ? block.warp_tags[warp].turn(self.warp_syncs++) : nullptr;
  if (tag) release(tag);
  block.arrived[warp] |= 1u << lane;
  if ((block.arrived[warp] & mask) == mask) {
    block.arrived[warp] &= ~mask;
    complete(&block.fibers[warp * kWarp], self);
  }
  leave();
  if (tag) acquire(tag);
  return self.answer;
}

// All lanes of the mask have arrived: checks that they wait for the same operation, sets their answers and wakes them.
void Worker::complete(Fiber* const* lanes, const Fiber& last) {
  uint64_t ballot = 0;
  for (unsigned left = last.mask; left; left &= left - 1) {
    const Fiber& one = *lanes[std::countr_zero(left)];
    if (one.what != last.what || one.mask != last.mask || !same(one.site, last.site)) fail_missing(last, one);
    if (one.bits) ballot |= 1u << std::countr_zero(left);
  }
  for (unsigned left = last.mask; left; left &= left - 1) {
    Fiber& one = *lanes[std::countr_zero(left)];
    if (last.what == Collective::kShuffle && !(last.mask >> (one.source % kWarp) & 1)) {
      fail("thread (%u,%u,%u) reads lane %d at %s:%d, which is not in the mask 0x%08x.", one.thread.x, one.thread.y,
           one.thread.z, one.source, one.site.file, one.site.line, one.mask);
    }
    one.answer = last.what == Collective::kShuffle ? lanes[one.source % kWarp]->bits : ballot;
    make_ready(&one);
  }
}

// ---- shared memory ----

void* Worker::static_shared(const void* key, size_t bytes, size_t alignment) {
  Block& block = *current_->block;
  for (int i = 0; i < block.num_statics; ++i) {
    if (block.statics[i].key == key) return block.statics[i].bytes;
  }
  block.static_bytes += bytes;
  if (block.static_bytes > kMaxStaticShared || block.static_bytes + launch_.shared_bytes > options().shared_bytes) {
    fail("static shared memory: expected at most %zu bytes and %zu with the dynamic, got %zu and %zu.",
         kMaxStaticShared, options().shared_bytes, block.static_bytes, block.static_bytes + launch_.shared_bytes);
  }
  if (block.num_statics == kMaxStaticArrays) fail("static shared arrays: expected at most %d.", kMaxStaticArrays);
  SharedArray& array = block.statics[block.num_statics++];
  array.key = key;
  array.allocate(bytes, alignment);
  return array.bytes;
}

// ---- messages ----

// No std::string here: this code runs in fibers, where ThreadSanitizer sees the standard library's templates.
struct Words {
  [[gnu::format(printf, 2, 3)]] void add(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add(format, arguments);
    va_end(arguments);
  }
  void add(const char* format, va_list arguments) {
    const int more = std::vsnprintf(text + length, sizeof text - length, format, arguments);
    length = std::min(sizeof text - 1, length + static_cast<size_t>(std::max(more, 0)));
  }
  void add_thread(const Fiber& fiber) { add("thread (%u,%u,%u)", fiber.thread.x, fiber.thread.y, fiber.thread.z); }
  // What the fiber is doing.
  void add_state(const Fiber& fiber) {
    if (fiber.state == State::kReturned) return add("has returned");
    if (fiber.state == State::kReady) return add("runs");
    add("waits in ");
    if (fiber.state == State::kBlockBarrier) add("__syncthreads()");
    if (fiber.state == State::kGridBarrier) add("grid_sync()");
    if (fiber.state == State::kWarpOperation) {
      add("%s of mask 0x%08x",
          fiber.what == Collective::kSync      ? "__syncwarp()"
          : fiber.what == Collective::kShuffle ? "a shuffle"
                                               : "a ballot",
          fiber.mask);
    }
    add(" at %s:%d", fiber.site.file, fiber.site.line);
  }
  char text[2048] = "";
  size_t length = 0;
};

void Worker::fail(const char* format, ...) {
  Words words;
  const uint3 index = current_->block ? current_->block->index : uint3{};
  words.add("simt: %s, block (%u,%u,%u): ", launch_.kernel.name.c_str(), index.x, index.y, index.z);
  va_list arguments;
  va_start(arguments, format);
  words.add(format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "%s\n", words.text);
  std::fflush(stderr);
  std::abort();
}

void Worker::fail_missing(const Fiber& waits, const Fiber& missing) {
  Words words;
  words.add_thread(waits);
  words.add(" ");
  words.add_state(waits);
  words.add(", where ");
  words.add_thread(missing);
  if (missing.block != waits.block) {
    words.add(" of block (%u,%u,%u)", missing.block->index.x, missing.block->index.y, missing.block->index.z);
  }
  words.add(" does not come: it ");
  words.add_state(missing);
  fail("%s.", words.text);
}

// A deadlock: every thread that has not returned waits. The message names one thread per place.
void Worker::fail_stuck() {
  Words words;
  std::vector<const Fiber*> named;
  for (const Block* block : blocks_) {
    for (const Fiber* one : block->fibers) {
      const auto same = [&](const Fiber* other) {
        return other->state == one->state && other->site.line == one->site.line && other->mask == one->mask;
      };
      if (one->state == State::kReturned || std::any_of(named.begin(), named.end(), same)) continue;
      words.add(named.empty() ? "no thread can go on: " : ", ");
      words.add_thread(*one);
      words.add(" ");
      words.add_state(*one);
      named.push_back(one);
    }
  }
  fail("%s.", words.text);
}

// ---- called by kernels ----

void* dynamic_shared() { return running->current().block->dynamic.bytes; }
void* static_shared(const void* key, size_t bytes, size_t alignment) {
  return running->static_shared(key, bytes, alignment);
}
void sync_threads(Site site) { running->sync_threads(site); }
void sync_grid(Site site) { running->sync_grid(site); }
uint64_t exchange(Collective what, unsigned mask, uint64_t bits, int source, Site site) {
  return running->exchange(what, mask, bits, source, site);
}
int lane() { return static_cast<int>(running->current().number % kWarp); }
int segment(int width, Site site) {
  if (width < 1 || width > warpSize || (width & (width - 1))) {
    running->fail("width at %s:%d: expected a power of two up to 32, got %d.", site.file, site.line, width);
  }
  return lane() & ~(width - 1);
}

}  // namespace simt

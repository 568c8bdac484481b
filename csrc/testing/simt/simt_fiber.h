// SPDX-License-Identifier: MIT
// Fibers: stacks between which a CPU thread switches, and which the sanitizers know about.
//
// Every fiber runs fiber_main(), which never returns. Used only by simt_runtime.cpp and simt_launch.cpp, which may be
// compiled with AddressSanitizer's flags but never with -fsanitize=thread: ThreadSanitizer is to watch the kernels, not
// the state of the runtime. Which sanitizer is linked is detected at run time.
#pragma once

#include <sys/mman.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <mutex>
#include <vector>

#include "testing/simt/simt.h"

#if defined(__x86_64__) && defined(__linux__) && !defined(FREEWIRE_SIMT_UCONTEXT)
#define FREEWIRE_SIMT_SWITCH 1
#else
#include <ucontext.h>
#endif

// The sanitizers' functions for fibers; null if that sanitizer is not linked.
extern "C" {
[[gnu::weak]] void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t bytes);
[[gnu::weak]] void __sanitizer_finish_switch_fiber(void* fake_stack, const void** old_bottom, size_t* old_bytes);
[[gnu::weak]] void* __tsan_create_fiber(unsigned flags);
[[gnu::weak]] void* __tsan_get_current_fiber();
[[gnu::weak]] void __tsan_set_fiber_name(void* fiber, const char* name);
[[gnu::weak]] void __tsan_switch_to_fiber(void* fiber, unsigned flags);
[[gnu::weak]] void __tsan_acquire(void* tag);
[[gnu::weak]] void __tsan_release(void* tag);
[[gnu::weak]] void __tsan_ignore_thread_begin();
[[gnu::weak]] void __tsan_ignore_thread_end();
}

namespace simt {

constexpr size_t kStackBytes = 256 << 10;  // also holds the frames of a sanitizer's report
constexpr size_t kGuardBytes = 64 << 10;   // below each stack
// Stacks start at different offsets within a page, or all would use the same few lines of every cache.
constexpr size_t kShades = 61, kShadeBytes = 1088;
constexpr size_t kFibers = 16384;  // beyond this, teams are reused

// The number of fibers that ThreadSanitizer tells apart before teams are reused. Its newer runtime has 255 slots for
// threads; with more threads it would take the barriers of a later block for an order between blocks.
#if defined(__clang__) ? __clang_major__ >= 15 : __GNUC__ >= 13
constexpr size_t kIdentities = 240;
#else
constexpr size_t kIdentities = 1024;
#endif

// ---- ThreadSanitizer ----

inline bool races_are_watched() { return __tsan_switch_to_fiber != nullptr; }

// With $FREEWIRE_SIMT_RACES=blocks each block is one thread to ThreadSanitizer, which then finds races between blocks
// of any size, but none within a block. Otherwise each CUDA thread is one.
inline bool races_between_blocks() {
  const char* unit = std::getenv("FREEWIRE_SIMT_RACES");
  return unit && std::strcmp(unit, "blocks") == 0;
}

// Everything before release(tag) is visible after acquire(tag).
inline void release(void* tag) {
  if (__tsan_release) __tsan_release(tag);
}
inline void acquire(void* tag) {
  if (__tsan_acquire) __tsan_acquire(tag);
}

// Memory allocated or freed during the lifetime of an Unseen is new to ThreadSanitizer, regardless of its previous use.
struct Unseen {
  Unseen() {
    if (__tsan_ignore_thread_begin) __tsan_ignore_thread_begin();
  }
  ~Unseen() {
    if (__tsan_ignore_thread_end) __tsan_ignore_thread_end();
  }
};

// ---- one fiber ----

[[noreturn]] void fiber_main();

#if defined(FREEWIRE_SIMT_SWITCH)
extern "C" void freewire_simt_switch(void** save, void* load);
// Pushes the registers that the calling convention preserves, exchanges the stack pointers, and pops them.
asm(R"(.text
.p2align 4
.type freewire_simt_switch, @function
freewire_simt_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size freewire_simt_switch, .-freewire_simt_switch
)");

struct Context {
  void prepare(char* stack) {
    void** top = reinterpret_cast<void**>(stack + kStackBytes);
    *--top = nullptr;  // fiber_main's return address: where every backtrace ends
    *--top = reinterpret_cast<void*>(fiber_main);
    pointer = top - 6;  // registers, zero in new memory
  }
  void switch_to(Context& next) { freewire_simt_switch(&pointer, next.pointer); }
  void* pointer = nullptr;
};
#else
struct Context {
  void prepare(char* stack) {
    getcontext(&all);
    all.uc_stack.ss_sp = stack;
    all.uc_stack.ss_size = kStackBytes;
    all.uc_link = nullptr;
    makecontext(&all, fiber_main, 0);
  }
  void switch_to(Context& next) { swapcontext(&all, &next.all); }
  ucontext_t all{};
};
#endif

enum class State : uint8_t { kReady, kBlockBarrier, kWarpOperation, kGridBarrier, kReturned };
struct Block;
class Worker;

// A CUDA thread while its kernel runs; between kernels it is idle in the pool.
struct Fiber {
  Context context;
  const void* stack = nullptr;  // its lowest address
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
  void* identity = nullptr;    // ThreadSanitizer's, for this fiber or its team

  Worker* worker = nullptr;
  Block* block = nullptr;
  unsigned number = 0;  // within the block; warp and lane follow
  uint3 thread{};
  State state = State::kReady;
  Site site{};  // the place where it waits
  Collective what{};
  unsigned mask = 0;
  int source = 0;
  uint64_t bits = 0, answer = 0;
  unsigned warp_syncs = 0;  // completed in this kernel
};

// Switches from the running fiber to another. Returns when the first is switched to again, possibly in another kernel.
inline void switch_fiber(Fiber& from, Fiber& to) {
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&from.fake_stack, to.stack, to.stack_bytes);
  if (__tsan_switch_to_fiber) {
    constexpr unsigned kNoOrder = 1;  // a switch must not order the two fibers' accesses
    __tsan_switch_to_fiber(to.identity, kNoOrder);
  }
  from.context.switch_to(to.context);
}

// Must be called first by the fiber that was switched to, with the previous one; it also records the stack of a CPU
// thread.
inline void switched(Fiber& self, Fiber& before) {
  if (__sanitizer_finish_switch_fiber) {
    __sanitizer_finish_switch_fiber(self.fake_stack, &before.stack, &before.stack_bytes);
  }
}

// ---- all fibers ----

// The fibers of a block, never fewer than it has threads.
struct Team {
  std::vector<Fiber*> fibers;
  void* identity = nullptr;  // shared by all of them if ThreadSanitizer tells blocks apart
};

// Idle teams, kept for the life of the program. ThreadSanitizer orders the accesses of a fiber with its own in earlier
// blocks, which hides races between those blocks, so the team that was idle longest is taken first.
class Pool {
 public:
  Team* take(unsigned threads) {
    const std::lock_guard lock(mutex_);
    const unsigned more = by_block_ ? 1 : threads;
    Team* team = nullptr;
    if (idle_.empty() || (races_are_watched() && identities_ + more <= kIdentities && fibers_ < kFibers)) {
      team = new Team;
      if (by_block_) team->identity = new_identity();
    } else if (races_are_watched()) {
      team = idle_.front();
      idle_.pop_front();
    } else {
      team = idle_.back();
      idle_.pop_back();
    }
    while (team->fibers.size() < threads) {
      team->fibers.push_back(make());
      if (races_are_watched()) team->fibers.back()->identity = by_block_ ? team->identity : new_identity();
    }
    return team;
  }
  void give_back(Team* team) {
    const std::lock_guard lock(mutex_);
    idle_.push_back(team);
  }
  bool by_block() const { return by_block_; }

 private:
  void* new_identity() {
    ++identities_;
    return __tsan_create_fiber(0);
  }
  Fiber* make() {
    const size_t shade = fibers_++ % kShades * kShadeBytes;
    const size_t bytes = kGuardBytes + kShades * kShadeBytes + kStackBytes;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, kGuardBytes, PROT_NONE)) {
      std::perror("simt: stack of a fiber");
      std::abort();
    }
    Fiber* fiber = new Fiber;
    char* stack = static_cast<char*>(memory) + kGuardBytes + shade;
    fiber->stack = stack;
    fiber->stack_bytes = kStackBytes;
    fiber->context.prepare(stack);
    return fiber;
  }

  const bool by_block_ = races_are_watched() && races_between_blocks();
  std::mutex mutex_;
  std::deque<Team*> idle_;
  size_t identities_ = 0, fibers_ = 0;
};

}  // namespace simt

// SPDX-License-Identifier: MIT
// The cost model: what decides how a call runs, besides plan, batch and threads. Every constant was measured;
// docs/performance.md has how. None of them changes a bit of the results, but for kFewParts and kFewPartEdges, which
// are the same on every machine.
//
// With FREEWIRE_TINY_NETWORKS, for test programs, what pays in large networks only is done in all.
#pragma once

#include <unistd.h>

#include <cstdint>

namespace freewire::cpu {

#if defined(FREEWIRE_TINY_NETWORKS)
constexpr bool kAlways = true;
#else
constexpr bool kAlways = false;
#endif

// Parts that a stage's nodes are cut into in the backward of few samples, each with gradients of its own, and the edges
// from which on they pay.
constexpr int64_t kFewParts = 2, kFewPartEdges = kAlways ? 0 : 500000;

// Several threads in one tile: nanoseconds for them to meet after a stage, and picoseconds of an edge in a row of up to
// 64 bytes.
constexpr int64_t kStageNs = kAlways ? 0 : 1200, kEdgePs = 600;
// In-edges of an item of a stage, at least: claiming one takes as long as some hundred.
constexpr int64_t kFewestItemEdges = kAlways ? 1 : 256;
// The fewest nodes for a task that computes weight gradients of a dense block, since every task transposes the values.
constexpr int64_t kFewestBlockNodes = 24;
// Populations: what starting a member costs, in edges of one sample; the edges and samples below which waking other
// threads takes longer than the work; and how often a thread claims members.
constexpr int64_t kMemberEdges = 100, kFewestPopulationEdges = kAlways ? 0 : 10000, kClaims = 8;
// Edges and samples of a member up to which the next one's plan is fetched early.
constexpr int64_t kFetchedEdges = 4000;
// Edges of a task that copies parameters: with fewer, starting it costs more.
constexpr int64_t kEdgesPerTask = 32768;

// Bytes of a core's second cache; 1 MiB where the system does not tell.
inline int64_t second_cache_bytes() {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  static const int64_t found = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (found > 0) return found;
#endif
  return int64_t{1} << 20;
}

// Whether fetching rows early pays: where they come from past the second cache, on processors of AMD (there it is up to
// 1.7 times as fast; those of Intel have fewer fetches in flight, and take 1.3 times as long).
template <class V>
bool fetches_early(int64_t rows, int64_t columns) {
#if defined(__x86_64__)
  static const bool pays = kAlways || __builtin_cpu_is("amd");
  return pays && (kAlways || rows * columns * static_cast<int64_t>(sizeof(V)) > second_cache_bytes());
#else
  return kAlways;
#endif
}

}  // namespace freewire::cpu

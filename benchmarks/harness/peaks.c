// SPDX-License-Identifier: MIT
// How fast one core can multiply and read rows; benchmarks/harness/peaks.py compiles this file and runs it on all
// cores.
//
// Vectors are an extension of GCC and clang. They are as wide as the widest registers of common processors; where the
// processor's are narrower, the compiler splits them.
#include <stdint.h>
#include <string.h>
#include <time.h>

#if defined(__AVX512F__)
#define LANES 16
#else
#define LANES 8
#endif
#define ROW 64                // floats per row: 256 bytes
#define PIECES (ROW / LANES)  // vectors per row
// Independent sums: enough to hide the latency of an FMA, few enough to stay in registers.
#define SUMS 8
#define PEAK_SUMS 12
#define AT_ONCE (SUMS / PIECES)  // rows

typedef float Vector __attribute__((vector_size(4 * LANES)));

static double seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

// Both functions run for at least `least` seconds. The factors are read from `numbers` and the sums are written behind
// them, so that the compiler can neither fold nor drop anything.

// Multiplies and adds in registers. Returns floating-point operations per second.
double fma_rate(double least, float* numbers) {
  Vector sum[PEAK_SUMS];
  for (int i = 0; i < PEAK_SUMS; ++i) sum[i] = (Vector){0} + (float)i;
  const Vector factor = (Vector){0} + numbers[0], term = (Vector){0} + numbers[1];
  const int steps = 1 << 14;  // between two readings of the clock
  const double begin = seconds();
  double took = 0, done = 0;
  do {
    for (int step = 0; step < steps; ++step)
      for (int i = 0; i < PEAK_SUMS; ++i) sum[i] = sum[i] * factor + term;
    done += steps;
    took = seconds() - begin;
  } while (took < least);
  for (int i = 1; i < PEAK_SUMS; ++i) sum[0] += sum[i];
  memcpy(numbers + 2, &sum[0], sizeof(Vector));
  return 2.0 * LANES * PEAK_SUMS * done / took;
}

// Reads rows[order[0]], rows[order[1]], ..., each element with one multiplication and one addition, as the edges of a
// network do. `rows` is aligned to a row's size, `count` is even. If `ahead` is not 0, rows are first fetched into the
// second cache, so many rows ahead, and `order` has so many entries more than `count`. Returns bytes of rows per
// second.
double row_rate(double least, const float* rows, const int32_t* order, int64_t count, int64_t ahead, float* numbers) {
  Vector sum[SUMS];
  memset(sum, 0, sizeof sum);
  const Vector factor = (Vector){0} + numbers[0];
  const int64_t passes = (1 << 16) / count + 1;  // between two readings of the clock
  const double begin = seconds();
  double took = 0, read = 0;
  do {
    for (int64_t pass = 0; pass < passes; ++pass)
      for (int64_t e = 0; e < count; e += AT_ONCE)
        for (int r = 0; r < AT_ONCE; ++r) {
          if (ahead) {
            const char* next = (const char*)(rows + (int64_t)order[e + r + ahead] * ROW);
            for (int line = 0; line < 4; ++line) __builtin_prefetch(next + 64 * line, 0, 2);
          }
          const Vector* row = (const Vector*)(rows + (int64_t)order[e + r] * ROW);
          for (int i = 0; i < PIECES; ++i) sum[r * PIECES + i] += row[i] * factor;
        }
    read += (double)(passes * count);
    took = seconds() - begin;
  } while (took < least);
  for (int i = 1; i < SUMS; ++i) sum[0] += sum[i];
  memcpy(numbers + 2, &sum[0], sizeof(Vector));
  return 4.0 * ROW * read / took;
}

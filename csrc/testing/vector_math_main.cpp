// SPDX-License-Identifier: MIT
// Measures the error of cpu/simd/vector_math.h, compared with the C library's double functions.
//
// The first argument is the mode: "sample", the default (22 million floats over all functions, the special values, and
// double), "sweep" (all 2^32 floats) or "time" (ns for 64 columns). Then come the names of functions, by default all.
// Prints one line per function; the exit status is 1, with the reason on stderr, if a bound is exceeded. The header
// promises an accuracy for each instruction set, which depends on the compiler's flags, so compile it once for each
// set; it measures the widest register.
#include <algorithm>
#include <cfloat>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "cpu/simd/vector_math.h"

namespace {

#if defined(__AVX512F__)
constexpr int kBytes = 64;
#elif defined(__AVX2__)
constexpr int kBytes = 32;
#else
constexpr int kBytes = 16;
#endif
constexpr int kLanes = kBytes / sizeof(float);
using V = freewire::cpu::Vec<float, kLanes>;
using D = freewire::cpu::Vec<double, kBytes / sizeof(double)>;

// A function to measure. The bounds are the figures in the table of vector_math.h, rounded up. The function is not
// constant inside [low, high], where half of the samples lie; limit bounds |value|.
#define FREEWIRE_FUNCTION(Type, function, bound, low, high, limit)                    \
  struct Type {                                                                       \
    static constexpr const char* kName = #function;                                   \
    static constexpr double kBound = bound, kLow = low, kHigh = high, kLimit = limit; \
    template <class X>                                                                \
    static FREEWIRE_INLINE X value(X x) {                                             \
      return freewire::Math<X>::function(x);                                          \
    }                                                                                 \
    static double reference(double x) { return std::function(x); }                    \
  };
FREEWIRE_FUNCTION(Exp, exp, 1.1, -104, 89, INFINITY)
FREEWIRE_FUNCTION(Expm1, expm1, 1.8, -18, 89, INFINITY)
FREEWIRE_FUNCTION(Log1p, log1p, 1.3, -1, 63, INFINITY)
FREEWIRE_FUNCTION(Tanh, tanh, 1.4, -10, 10, 1)
FREEWIRE_FUNCTION(Sin, sin, 2.1, -6400, 6400, 1)
FREEWIRE_FUNCTION(Cos, cos, 2.1, -6400, 6400, 1)
FREEWIRE_FUNCTION(Erf, erf, 2.0, -4, 4, 1)
#undef FREEWIRE_FUNCTION

float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// |got - want| in units of the spacing of floats at want. An infinite result counts as 2^128.
double ulps(float got, double want) {
  if (std::isnan(want) || std::isnan(got)) return std::isnan(want) && std::isnan(got) ? 0 : INFINITY;
  const double finite = std::isinf(got) ? std::copysign(0x1p128, got) : got;
  want = std::clamp(want, -0x1p128, 0x1p128);
  if (finite == want) return 0;
  int exponent;
  std::frexp(want, &exponent);
  return std::fabs(finite - want) * std::ldexp(1.0, FLT_MANT_DIG - std::max(exponent, FLT_MIN_EXP));
}

// The point of largest error of one function so far.
template <class F>
struct Report {
  double error = 0;
  float x = 0, got = 0;
  bool passed = true;

  void add(const float* in, const float* out) {
    for (int i = 0; i < kLanes; ++i) {
      const double want = F::reference(in[i]), e = ulps(out[i], want);
      const bool wrong_zero = out[i] == 0 && std::signbit(out[i]) != std::signbit(want);
      if (passed && (e > F::kBound || std::fabs(out[i]) > F::kLimit || wrong_zero)) {
        passed = false;
        std::fprintf(stderr,
                     "%s: expected %a within %.2f ulp and at most %g, got %a (%.3f ulp). x = %a, lane %d of %d\n",
                     F::kName, want, F::kBound, F::kLimit, out[i], e, in[i], i, kLanes);
      }
      if (e > error) error = e, x = in[i], got = out[i];
    }
  }

  void run(const float* in) {
    float out[kLanes];
    F::value(V::load(in)).store(out);
    add(in, out);
  }
};

// Checks each special value in each lane, next to lanes that take the path of small angles and that of huge ones: the
// result must be the same next to both.
template <class F>
void check_special(Report<F>& report) {
  const float values[] = {0.f,      INFINITY,  NAN,       FLT_TRUE_MIN, FLT_MIN,   0x1.fffffcp-127f, FLT_EPSILON,
                          0.5f,     1.f,       2.f,       FLT_MAX,      88.72283f, 88.722839f,       87.3365479f,
                          103.972f, 103.9721f, 6400.f,    6400.001f,    0x1p23f,   0x1p24f,          0x1p31f,
                          0x1p127f, 0.55f,     0.550001f, 1.17f,        1.170001f, 0x1.fffffep-1f,   3.1415927f};
  std::vector<float> points;
  for (const float value : values) points.insert(points.end(), {value, -value});
  for (int i = 0; i < 400; ++i) points.push_back(0.37f * i);
  for (const float point : points) {
    float in[kLanes], alone[kLanes], mixed[kLanes];
    std::fill(in, in + kLanes, point);
    F::value(V::load(in)).store(alone);
    for (const float neighbour : {0.375f, -1e6f}) {
      for (int lane = 0; lane < kLanes; ++lane) {
        std::fill(in, in + kLanes, neighbour);
        in[lane] = point;
        F::value(V::load(in)).store(mixed);
        report.add(in, mixed);
        if (std::memcmp(&mixed[lane], &alone[lane], sizeof point) == 0 || std::isnan(alone[lane])) continue;
        report.passed = false;
        std::fprintf(stderr, "%s: expected %a for any value of the other lanes, got %a next to %a. x = %a, lane %d\n",
                     F::kName, alone[lane], mixed[lane], neighbour, point, lane);
      }
    }
  }
  for (const uint32_t payload : {0x7f800001u, 0x7fc001ffu, 0xffffffffu}) {  // low bits that survive a shift
    float in[kLanes];
    std::fill(in, in + kLanes, float_of(payload));
    report.run(in);
  }
}

// Checks the bit patterns i * stride: with a large odd stride they cover every exponent and both signs, and mix small
// and huge angles.
template <class F>
void check_bits(Report<F>& report, uint64_t count, uint32_t stride) {
  float in[kLanes];
  for (uint64_t i = 0; i < count; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) in[k] = float_of(static_cast<uint32_t>(i + k) * stride);
    report.run(in);
  }
}

template <class F>
void check_interval(Report<F>& report, int count) {
  float in[kLanes];
  for (int i = 0; i < count; i += kLanes) {
    for (int k = 0; k < kLanes; ++k) in[k] = static_cast<float>(F::kLow + (F::kHigh - F::kLow) * (i + k) / count);
    report.run(in);
  }
}

template <class F>
bool check_double() {
  for (int i = 0; i < 4000; i += D::kLanes) {
    double in[D::kLanes], out[D::kLanes];
    for (int k = 0; k < D::kLanes; ++k) in[k] = -2 + (i + k) * 1e-3;
    F::value(D::load(in)).store(out);
    for (int k = 0; k < D::kLanes; ++k) {
      const double want = F::reference(in[k]);
      if (out[k] == want || (std::isnan(out[k]) && std::isnan(want))) continue;
      std::fprintf(stderr, "%s of double: expected %a, got %a. x = %a\n", F::kName, want, out[k], in[k]);
      return false;
    }
  }
  return true;
}

template <class F>
bool check(bool sweep) {
  Report<F> report;
  bool passed = true;
  if (sweep) {
    check_bits(report, uint64_t{1} << 32, 1);
  } else {
    check_special(report);
    check_bits(report, 1600000, 0x9e3779b1u);
    check_interval(report, 1600000);
    passed = check_double<F>();
  }
  std::printf("%-6s %2d lanes  %.3f ulp at most (bound %.1f), at x = %a: %a\n", F::kName, kLanes, report.error,
              F::kBound, report.x, report.got);
  std::fflush(stdout);  // a sweep takes minutes
  return report.passed && passed;
}

template <class F>
[[gnu::noinline]] void run_columns(const float* in, float* out, int columns) {
  for (int i = 0; i < columns; i += kLanes) F::value(V::load(in + i)).store(out + i);
}

template <class F>
void time_columns() {
  constexpr int kColumns = 64, kCalls = 20000, kRounds = 25;
  float in[kColumns], out[kColumns];
  for (int i = 0; i < kColumns; ++i) in[i] = 8.f * i / kColumns - 0.99f;
  std::vector<double> times;
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int call = 0; call < kCalls; ++call) {
      run_columns<F>(in, out, kColumns);
      asm volatile("" : : "r"(in), "r"(out) : "memory");
    }
    times.push_back(std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count() /
                    kCalls);
  }
  std::sort(times.begin(), times.end());
  std::printf("%-6s %2d lanes  %6.2f ns for %d columns (fastest %.2f, slowest %.2f of %d)\n", F::kName, kLanes,
              times[kRounds / 2], kColumns, times.front(), times.back(), kRounds);
}

template <class F>
bool run(const std::string& mode, const std::vector<std::string>& names) {
  if (!names.empty() && std::find(names.begin(), names.end(), F::kName) == names.end()) return true;
  if (mode == "time") {
    time_columns<F>();
    return true;
  }
  return check<F>(mode == "sweep");
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "sample";
  const std::vector<std::string> names(argv + std::min(argc, 2), argv + argc);
  if (mode != "sample" && mode != "sweep" && mode != "time") {
    std::fprintf(stderr, "mode: expected sample, sweep or time, got %s.\n", mode.c_str());
    return 2;
  }
  bool passed = true;
  passed &= run<Exp>(mode, names);
  passed &= run<Expm1>(mode, names);
  passed &= run<Log1p>(mode, names);
  passed &= run<Tanh>(mode, names);
  passed &= run<Sin>(mode, names);
  passed &= run<Cos>(mode, names);
  passed &= run<Erf>(mode, names);
  return passed ? 0 : 1;
}

// SPDX-License-Identifier: MIT
// Elementary functions of Vec<float, N> and Vec<double, N>, lane by lane: exp, expm1, log1p, tanh, sin, cos, erf.
//
// Activations can take longer than the sums they are applied to; the C library computes one lane at a time, and a
// vector library would be a dependency.
//
// float: free of branches except for huge angles, built from + - * /, comparisons, shifts and masks, so that one source
// serves every instruction set, and a lane's result does not depend on its neighbours. Each polynomial is a weighted
// minimax fit (Remez exchange in 160-bit arithmetic) whose coefficients were rounded to float one by one, lowest first,
// refitting the rest after each. Comments give the fitted function, degree, interval and relative error. Constants
// split into parts have so few bits that products with the leading parts are exact: fused multiply-add changes the last
// digits, not the accuracy.
//
// Largest error in ulp over all 2^32 floats, compared with the C library's double functions (glibc 2.36, GCC 12;
// `vector_math_main sweep` of csrc/testing):
//
//            exp    expm1  log1p  tanh   sin    cos    erf
//   no FMA   1.02   1.72   1.28   1.37   2.00   2.06   2.00
//   FMA      1.05   1.59   1.27   1.35   1.96   2.06   1.60
//
// NaN gives NaN; infinities, overflow, gradual underflow and the sign of zero are as in C; |tanh|, |sin|, |cos| and
// |erf| never exceed 1. double: through the C library, for gradient checks.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "cpu/simd/vec.h"

namespace freewire {

template <class V>
struct Math;  // scalars: node_math.h

template <int N>
struct Math<cpu::Vec<float, N>> {
  using V = cpu::Vec<float, N>;

  // e^x = 2^n e^r, r = x - n ln 2. The power of two is applied as two factors: n reaches 128 and -150, out of range for
  // one float, and the only rounding into the subnormals is that of the second product.
  static FREEWIRE_INLINE V exp(V x) {
    const V t = x * V(kLog2E) + V(kRound + 254.f);
    const V n = t - V(kRound + 254.f);
    const V e = expm1_reduced((x - n * V(kLn2High)) - n * V(kLn2Low));
    const Words half = bits(n * V(0.5f) + V(kRound + 127.f));
    const V first = from_bits(half << 23), second = from_bits((bits(t) - half) << 23);
    const V y = (e * first + first) * second;
    return select(x > V(kExpMax), V(kInfinity), select(x < V(-104.f), V(0.f), y));
  }

  // 2^n (e^r - 1) + (2^n - 1), at half size so that n = 128 is in range; n = 0 keeps every bit of a small x.
  static FREEWIRE_INLINE V expm1(V x) {
    const V t = x * V(kLog2E) + V(kRound + 126.f);
    const V n = t - V(kRound + 126.f);
    const V e = expm1_reduced((x - n * V(kLn2High)) - n * V(kLn2Low));
    const V scale = from_bits(bits(t) << 23);  // 2^(n-1)
    const V half = e * scale + (scale - V(0.5f));
    const V y = select(n == V(0.f), e, half + half);
    return with_sign(select(x > V(kExpMax), V(kInfinity), select(x < V(-18.f), V(-1.f), y)), x);
  }

  // 1 + x = 2^k (1 + m), 0.75 <= 1 + m < 1.5. m = 2^-k x + (2^-k - 1) is computed from x itself, not from the rounded
  // 1 + x.
  static FREEWIRE_INLINE V log1p(V x) {
    const Words exponent = (bits(V(1.f) + x) - 0x3f400000u) & 0xff800000u;  // k << 23; 0x3f400000 is 0.75
    // 2^-k, computed through 2^(2-k), since 2^-128 is subnormal.
    const V inverse = from_bits(0x40800000u - exponent) * V(0.25f);
    const V m = from_bits(bits(x) - exponent) + (inverse - V(1.f));
    const V k = V(__builtin_convertvector(reinterpret_cast<Integers>(exponent), Native));  // k 2^23
    // (log(1 + m) - m) / m^2: degree 8 on [-0.25, 0.5], 2^-27.4 of log(1 + m).
    const V m2 = m * m;
    // Even and odd powers are two chains that run side by side.
    V even = V(-0x1.79077ep-5f), odd = V(0x1.b1bd86p-4f);
    even = even * m2 + V(-0x1.0e8242p-3f);
    odd = odd * m2 + V(0x1.287424p-3f);
    even = even * m2 + V(-0x1.54d6e0p-3f);
    odd = odd * m2 + V(0x1.996724p-3f);
    even = even * m2 + V(-0x1.000082p-2f);
    odd = odd * m2 + V(0x1.5555acp-2f);
    even = even * m2 + V(-0.5f);
    const V log_m = (odd * m + even) * m2 + m;
    V y = with_sign(k * V(kLn2High * 0x1p-23f) + (k * V(kLn2Low * 0x1p-23f) + log_m), x);
    y = select(x <= V(std::numeric_limits<float>::max()), y, x);  // inf and NaN
    const V outside = select(x == V(-1.f), V(-kInfinity), V(std::numeric_limits<float>::quiet_NaN()));
    return select(x > V(-1.f), y, outside);
  }

  // An odd polynomial below 0.55; 1 - 2 / (e^2a + 1) above, where at most half of the quotient's error remains.
  static FREEWIRE_INLINE V tanh(V x) {
    const V a = magnitude(x);
    // (tanh a - a) / a^3: degree 3 in z = a^2 on [0, 0.55^2], 2^-24.7 of tanh a.
    const V z = a * a;
    const V p = polynomial(z, 0x1.0d5174p-6f, -0x1.af7d36p-5f, 0x1.10cefcp-3f, -0x1.555452p-2f);
    const V small = p * (a * z) + a;

    const V t = a * V(2.f * kLog2E) + V(kRound + 127.f);
    const V n = t - V(kRound + 127.f);
    // One part of ln 2 suffices: its product is exact for n < 8, and beyond that 2 / (e^2a + 1) is below 0.01.
    const V e = expm1_reduced(a + a - n * V(0x1.62e43p-1f));
    const V scale = from_bits(bits(t) << 23);
    const V large = V(1.f) - V(2.f) / (e * scale + (scale + V(1.f)));
    return with_sign(select(a < V(0.55f), small, select(a > V(10.f), V(1.f), large)), x);
  }

  // |x| = n pi + r: sin |x| = (-1)^n sin r.
  static FREEWIRE_INLINE V sin(V x) {
    const V a = magnitude(x);
    const V t = a * V(kInversePi) + V(kRound);
    const V n = t - V(kRound);
    const V y = from_bits(bits(sin_reduced(a, n)) ^ (bits(t) << 31) ^ (bits(x) & kSign));
    if (__builtin_expect(any(a > V(kMaxAngle)), 0)) return far_lanes<false>(x, y);
    return y;
  }

  // |x| = (n + 1/2) pi + r: cos |x| = -(-1)^n sin r.
  static FREEWIRE_INLINE V cos(V x) {
    const V a = magnitude(x);
    const V t = (a * V(kInversePi) - V(0.5f)) + V(kRound);
    const V n = (t - V(kRound)) + V(0.5f);
    const V y = from_bits(bits(sin_reduced(a, n)) ^ (~bits(t) << 31));
    if (__builtin_expect(any(a > V(kMaxAngle)), 0)) return far_lanes<true>(x, y);
    return y;
  }

  // An odd polynomial below 1.17; 1 - q^8 above: the eighth root of erfc is smooth enough for a short polynomial, and
  // erfc(1.17) < 0.1 absorbs the eightfold relative error of q.
  static FREEWIRE_INLINE V erf(V x) {
    const V a = magnitude(x);
    // erf(a) / a - 1: degree 6 in z = a^2 on [0, 1.17^2], 2^-26.0 of erf a.
    const V z = a * a;
    const V p = polynomial(z, 0x1.1911e0p-14f, -0x1.8ff140p-11f, 0x1.50e3aap-8f, -0x1.b7841ep-6f, 0x1.ce251ap-4f,
                           -0x1.81270ap-2f, 0x1.06eba6p-3f);
    const V small = a * p + a;
    // erfc(a)^(1/8): degree 6 on [1.17, 4], 2^-27.2 of erf a.
    const V q = polynomial(a, 0x1.6480p-13f, -0x1.603dc8p-9f, 0x1.c707a2p-7f, -0x1.bd57dap-7f, -0x1.e00f50p-5f,
                           -0x1.2cf22ep-3f, 0x1.00587cp+0f);
    const V q2 = q * q, q4 = q2 * q2;
    const V large = V(1.f) - q4 * q4;
    return with_sign(select(a < V(1.17f), small, select(a > V(4.f), V(1.f), large)), x);
  }

 private:
  using Native = typename V::Native;
  using Integers = typename V::Mask::Native;
  // Unsigned, since signed overflow is undefined in vectors too.
  typedef uint32_t Words __attribute__((vector_size(4 * N)));

  static constexpr uint32_t kSign = 0x80000000u;
  static constexpr float kInfinity = std::numeric_limits<float>::infinity();
  // Adding kRound rounds to an integer n, which the low bits of the sum then hold. If kRound + bias is added instead,
  // shifting those bits up by 23 gives the float 2^(n + bias - 127).
  static constexpr float kRound = 0x1.8p23f;
  static constexpr float kLog2E = 0x1.715476p+0f;
  static constexpr float kLn2High = 0x1.62e4p-1f, kLn2Low = 0x1.7f7d1cp-20f;  // 15 bits: n has 8
  static constexpr float kExpMax = 0x1.62e42ep+6f;                            // the last x whose e^x is finite
  static constexpr float kInversePi = 0x1.45f306p-2f;
  static constexpr float kMaxAngle = 6400.f;  // n + 1/2 has 12 bits up to here

  static FREEWIRE_INLINE Words bits(V x) { return reinterpret_cast<Words>(x.v); }
  static FREEWIRE_INLINE V from_bits(Words w) { return V(reinterpret_cast<Native>(w)); }
  static FREEWIRE_INLINE V magnitude(V x) { return from_bits(bits(x) & ~kSign); }
  // y with the sign of x, for a y that already has that sign or is +0.
  static FREEWIRE_INLINE V with_sign(V y, V x) { return from_bits(bits(y) | (bits(x) & kSign)); }

  // The polynomial in x with these coefficients, highest first, by Horner's rule.
  template <class... Coefficients>
  static FREEWIRE_INLINE V polynomial(V x, float highest, Coefficients... others) {
    V value(highest);
    ((value = value * x + V(others)), ...);
    return value;
  }

  // e^r - 1 for |r| <= ln 2 / 2. (e^r - 1 - r) / r^2: degree 4, 2^-26.1 of e^r - 1.
  static FREEWIRE_INLINE V expm1_reduced(V r) {
    const V r2 = r * r;
    const V low = r * V(0x1.5554aap-3f) + V(0x1.fffffep-2f);
    const V high = r2 * V(0x1.6acab6p-10f) + (r * V(0x1.122bf6p-7f) + V(0x1.555798p-5f));
    return (high * r2 + low) * r2 + r;
  }

  // sin(a - n pi), for |a - n pi| <= pi / 2. Products with the first three parts of pi (8, 12 and 10 bits) and the
  // first two differences are exact, so r keeps its relative accuracy next to a multiple of pi. The fourth part is
  // added to the small term, where its rounding does not matter. (sin r - r) / r^3: degree 3 in z = r^2, 2^-27.2 of sin
  // r.
  static FREEWIRE_INLINE V sin_reduced(V a, V n) {
    const V r = ((a - n * V(0x1.92p+1f)) - n * V(0x1.fb6p-11f)) - n * V(-0x1.778p-24f);
    const V z = r * r;
    const V q = polynomial(z, 0x1.5dc754p-19f, -0x1.9f70e2p-13f, 0x1.110edap-7f, -0x1.55554cp-3f);
    return ((r * z) * q - n * V(0x1.68c234p-38f)) + r;
  }

  static FREEWIRE_INLINE bool any(typename V::Mask m) {
    if constexpr (N > 8) {  // narrowing takes one instruction in AVX-512 and many without it
      typedef int8_t Bytes __attribute__((vector_size(N)));
      return any_bit(__builtin_convertvector(m.v, Bytes));
    } else {
      return any_bit(m.v);
    }
  }
  template <class Lanes>
  static FREEWIRE_INLINE bool any_bit(Lanes lanes) {
    uint64_t words[sizeof(Lanes) / 8], some = 0;
    std::memcpy(words, &lanes, sizeof lanes);
    for (const uint64_t word : words) some |= word;
    return some != 0;
  }

  // y with the lanes past kMaxAngle replaced. Not inlined: it is rare, and would crowd the kernels' registers.
  template <bool kCosine>
  [[gnu::noinline, gnu::cold]] static V far_lanes(V x, V y) {
    for (int i = 0; i < N; ++i) {
      const double angle = x.v[i];
      if (std::fabs(angle) <= kMaxAngle) continue;
      y.v[i] = static_cast<float>(kCosine ? std::cos(angle) : std::sin(angle));
    }
    return y;
  }
};

template <int N>
struct Math<cpu::Vec<double, N>> {
  using V = cpu::Vec<double, N>;

  static FREEWIRE_INLINE V exp(V x) { return lanewise<std::exp>(x); }
  static FREEWIRE_INLINE V expm1(V x) { return lanewise<std::expm1>(x); }
  static FREEWIRE_INLINE V log1p(V x) { return lanewise<std::log1p>(x); }
  static FREEWIRE_INLINE V tanh(V x) { return lanewise<std::tanh>(x); }
  static FREEWIRE_INLINE V sin(V x) { return lanewise<std::sin>(x); }
  static FREEWIRE_INLINE V cos(V x) { return lanewise<std::cos>(x); }
  static FREEWIRE_INLINE V erf(V x) { return lanewise<std::erf>(x); }

 private:
  template <double (*kFunction)(double)>
  static FREEWIRE_INLINE V lanewise(V x) {
    for (int i = 0; i < N; ++i) x.v[i] = kFunction(x.v[i]);
    return x;
  }
};

// One lane: of four alike, which take half as long as the C library, and have the bits that wider registers have.
template <>
struct Math<cpu::Vec<float, 1>> {
  using V = cpu::Vec<float, 1>;
  using Wide = cpu::Vec<float, 4>;
  static FREEWIRE_INLINE V exp(V x) { return Math<Wide>::exp(Wide(x.v)).v[0]; }
  static FREEWIRE_INLINE V expm1(V x) { return Math<Wide>::expm1(Wide(x.v)).v[0]; }
  static FREEWIRE_INLINE V log1p(V x) { return Math<Wide>::log1p(Wide(x.v)).v[0]; }
  static FREEWIRE_INLINE V tanh(V x) { return Math<Wide>::tanh(Wide(x.v)).v[0]; }
  static FREEWIRE_INLINE V sin(V x) { return Math<Wide>::sin(Wide(x.v)).v[0]; }
  static FREEWIRE_INLINE V cos(V x) { return Math<Wide>::cos(Wide(x.v)).v[0]; }
  static FREEWIRE_INLINE V erf(V x) { return Math<Wide>::erf(Wide(x.v)).v[0]; }
};

// double: the C library's functions.
template <>
struct Math<cpu::Vec<double, 1>> {
  using V = cpu::Vec<double, 1>;
  static FREEWIRE_INLINE V exp(V x) { return std::exp(x.v); }
  static FREEWIRE_INLINE V expm1(V x) { return std::expm1(x.v); }
  static FREEWIRE_INLINE V log1p(V x) { return std::log1p(x.v); }
  static FREEWIRE_INLINE V tanh(V x) { return std::tanh(x.v); }
  static FREEWIRE_INLINE V sin(V x) { return std::sin(x.v); }
  static FREEWIRE_INLINE V cos(V x) { return std::cos(x.v); }
  static FREEWIRE_INLINE V erf(V x) { return std::erf(x.v); }
};

}  // namespace freewire

// SPDX-License-Identifier: MIT
// The mathematics of one node: every activation, aggregation and derivative, once for all kernels.
//
// V is float or double (a CUDA thread, a scalar loop) or a cpu::Vec of them (a SIMD register of batch columns), so host
// and device code share each formula. Definitions follow torch, including NaN: a NaN among a node's sources makes its
// value NaN, except for step, which is 1 if z > 0 and 0 otherwise. docs/nodes.md lists them all.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "platform.h"

namespace freewire {

// The codes are stored in plans and files; freewire/graph lists the same names in the same order.
enum class Activation : uint8_t {
  kLinear,
  kRelu,
  kLeakyRelu,
  kElu,
  kSelu,
  kGelu,
  kSilu,
  kSoftplus,
  kSigmoid,
  kTanh,
  kSin,
  kCos,
  kGaussian,
  kAbs,
  kSquare,
  kStep,
  kHardTanh,
  kHardSigmoid,
};

enum class Aggregation : uint8_t { kSum, kMean, kProduct, kMax, kMin, kMaxabs };

// Elementary functions by value type; cpu/simd/vector_math.h specialises it for SIMD registers.
template <class V>
struct Math {
  static FREEWIRE_INLINE V exp(V x) { return std::exp(x); }
  static FREEWIRE_INLINE V expm1(V x) { return std::expm1(x); }
  static FREEWIRE_INLINE V log1p(V x) { return std::log1p(x); }
  static FREEWIRE_INLINE V tanh(V x) { return std::tanh(x); }
  static FREEWIRE_INLINE V sin(V x) { return std::sin(x); }
  static FREEWIRE_INLINE V cos(V x) { return std::cos(x); }
  static FREEWIRE_INLINE V erf(V x) { return std::erf(x); }
};

template <class T>
FREEWIRE_INLINE T select(bool condition, T a, T b) {
  return condition ? a : b;
}

template <class V>
FREEWIRE_INLINE auto is_infinite(V v) {
  return (v == V(INFINITY)) | (v == V(-INFINITY));
}

template <class V>
FREEWIRE_INLINE V sigmoid(V z) {
  return V(1) / (V(1) + Math<V>::exp(-z));
}

// Klambauer et al. 2017, Self-Normalizing Neural Networks, section 2.
constexpr double kSeluScale = 1.0507009873554804934193349852946;
constexpr double kSeluAlpha = 1.6732632423543772848170429916717;
constexpr double kLeakySlope = 0.01;

template <Activation A, class V>
FREEWIRE_INLINE V activate(V z) {
  const V zero(0), one(1);
  if constexpr (A == Activation::kLinear) return z;
  // "zero > z" instead of "z > zero", here and below, so that a NaN gives z.
  if constexpr (A == Activation::kRelu) return select(zero > z, zero, z);
  if constexpr (A == Activation::kLeakyRelu) return select(z > zero, z, z * V(kLeakySlope));
  if constexpr (A == Activation::kElu) return select(z > zero, z, Math<V>::expm1(z));
  if constexpr (A == Activation::kSelu) {
    // One constant for negative z, so that at -1 the value is exactly where derivative() is 0.
    return select(z > zero, V(kSeluScale) * z, V(kSeluScale * kSeluAlpha) * Math<V>::expm1(z));
  }
  if constexpr (A == Activation::kGelu) return V(0.5) * z * (one + Math<V>::erf(z * V(M_SQRT1_2)));
  if constexpr (A == Activation::kSilu) return z / (one + Math<V>::exp(-z));
  if constexpr (A == Activation::kSoftplus) {
    return select(z > V(20), z, Math<V>::log1p(Math<V>::exp(z)));  // torch's threshold
  }
  if constexpr (A == Activation::kSigmoid) return sigmoid(z);
  if constexpr (A == Activation::kTanh) return Math<V>::tanh(z);
  if constexpr (A == Activation::kSin) return Math<V>::sin(z);
  if constexpr (A == Activation::kCos) return Math<V>::cos(z);
  if constexpr (A == Activation::kGaussian) return Math<V>::exp(-z * z);
  if constexpr (A == Activation::kAbs) return select(zero > z, -z, z);
  if constexpr (A == Activation::kSquare) return z * z;
  if constexpr (A == Activation::kStep) return select(z > zero, one, zero);
  if constexpr (A == Activation::kHardTanh) return select(z > one, one, select(-one > z, -one, z));
  if constexpr (A == Activation::kHardSigmoid) {
    const V shifted = z + V(3);
    return select(shifted > V(6), V(6), select(zero > shifted, zero, shifted)) / V(6);
  }
}

// The derivative is computed from v: the activation's value a if that determines it, and else the pre-activation z (for
// which the plan then keeps a row: freewire/graph/fields.py lists them).
template <Activation A, class V>
FREEWIRE_INLINE V derivative(V v) {
  const V zero(0), one(1);
  if constexpr (A == Activation::kLinear) return one;
  if constexpr (A == Activation::kRelu) return select(v <= zero, zero, one);
  if constexpr (A == Activation::kLeakyRelu) return select(v > zero, one, V(kLeakySlope));
  if constexpr (A == Activation::kElu) return select(v <= zero, v + one, one);
  if constexpr (A == Activation::kSelu) {
    return select(v <= zero, v + V(kSeluScale * kSeluAlpha), V(kSeluScale));
  }
  if constexpr (A == Activation::kGelu) {  // from z: Phi(z) + z phi(z)
    constexpr double kInverseRoot2Pi = 0.39894228040143267793994605993438;
    return V(0.5) * (one + Math<V>::erf(v * V(M_SQRT1_2))) + v * V(kInverseRoot2Pi) * Math<V>::exp(V(-0.5) * v * v);
  }
  if constexpr (A == Activation::kSilu) {  // from z
    const V s = sigmoid(v);
    return s * (one + v * (one - s));
  }
  if constexpr (A == Activation::kSoftplus) return select(v > V(20), one, sigmoid(v));  // from z
  if constexpr (A == Activation::kSigmoid) return v * (one - v);
  if constexpr (A == Activation::kTanh) return one - v * v;
  if constexpr (A == Activation::kSin) return Math<V>::cos(v);                // from z
  if constexpr (A == Activation::kCos) return -Math<V>::sin(v);               // from z
  if constexpr (A == Activation::kGaussian) {                                 // from z
    return select(is_infinite(v), zero, V(-2) * (v * Math<V>::exp(-v * v)));  // 2 v may be infinite for a finite v
  }
  if constexpr (A == Activation::kAbs) return select(v > zero, one, select(zero > v, -one, zero));  // from z
  if constexpr (A == Activation::kSquare) return V(2) * v;                                          // from z
  if constexpr (A == Activation::kStep) return zero;
  if constexpr (A == Activation::kHardTanh) {
    return select(v <= -one, zero, select(v >= one, zero, one));
  }
  if constexpr (A == Activation::kHardSigmoid) {
    return select(v > zero, select(one > v, V(1.0 / 6.0), zero), zero);
  }
}

// The gradient of the pre-activation from that of the value; v as for derivative(). Where a function is flat the result
// is 0 even if grad is infinite or NaN, as in torch.
template <Activation A, class V>
FREEWIRE_INLINE V through_activation(V grad, V v) {
  const V zero(0), one(1);
  if constexpr (A == Activation::kLinear) return grad;
  if constexpr (A == Activation::kRelu) return select(v <= zero, zero, grad);
  if constexpr (A == Activation::kSquare) {  // 2 v or 2 grad may be infinite
    const V half = grad * v;
    return half + half;
  }
  if constexpr (A == Activation::kGaussian) return select(is_infinite(v), zero, grad * derivative<A>(v));
  if constexpr (A == Activation::kStep) return zero;
  if constexpr (A == Activation::kHardTanh) return select(v * v >= one, zero, grad);
  if constexpr (A == Activation::kHardSigmoid) return select((v > zero) & (one > v), grad * V(1.0 / 6.0), zero);
  return grad * derivative<A>(v);
}

// Whether the gradient of every in-edge is that of the node times one factor (1, or 1 / fan-in), so that sources can
// gather it.
FREEWIRE_INLINE constexpr bool is_linear(Aggregation aggregation) {
  return aggregation == Aggregation::kSum || aggregation == Aggregation::kMean;
}

// Whether a term replaces the best so far. The comparison is strict, so that the first edge wins a tie; a NaN always
// wins. Among several NaNs the backward lets the first one win; here that would be one more comparison for another NaN.
template <Aggregation A, class V>
FREEWIRE_INLINE auto replaces(V term, V best) {
  if constexpr (A == Aggregation::kMax) return (term > best) | (term != term);
  if constexpr (A == Aggregation::kMin) return (best > term) | (term != term);
  if constexpr (A == Aggregation::kMaxabs) {
    return (activate<Activation::kAbs>(term) > activate<Activation::kAbs>(best)) | (term != term);
  }
}

// Adds a term to a running aggregate, for aggregations that are not linear.
template <Aggregation A, class V>
FREEWIRE_INLINE V combine(V best, V term) {
  if constexpr (A == Aggregation::kProduct) {
    return best * term;
  } else {
    return select(replaces<A>(term, best), term, best);
  }
}

constexpr int kNumActivations = static_cast<int>(Activation::kHardSigmoid) + 1;
constexpr int kNumAggregations = static_cast<int>(Aggregation::kMaxabs) + 1;

// Calls body(std::integral_constant<Activation, code>{}), which makes the code a template argument.
template <class Body, int... kCodes>
FREEWIRE_INLINE void with_activation(Activation code, Body&& body, std::integer_sequence<int, kCodes...>) {
  (void)((static_cast<int>(code) == kCodes &&
          (body(std::integral_constant<Activation, static_cast<Activation>(kCodes)>{}), true)) ||
         ...);
}
template <class Body>
FREEWIRE_INLINE void with_activation(Activation code, Body&& body) {
  with_activation(code, body, std::make_integer_sequence<int, kNumActivations>{});
}

// The same for an aggregation that is not linear; for a linear one body is not called.
template <class Body>
FREEWIRE_INLINE void with_nonlinear(Aggregation code, Body&& body) {
  switch (code) {
    case Aggregation::kSum:
    case Aggregation::kMean:
      return;
    case Aggregation::kProduct:
      return body(std::integral_constant<Aggregation, Aggregation::kProduct>{});
    case Aggregation::kMax:
      return body(std::integral_constant<Aggregation, Aggregation::kMax>{});
    case Aggregation::kMin:
      return body(std::integral_constant<Aggregation, Aggregation::kMin>{});
    case Aggregation::kMaxabs:
      return body(std::integral_constant<Aggregation, Aggregation::kMaxabs>{});
  }
}

}  // namespace freewire

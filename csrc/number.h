// SPDX-License-Identifier: MIT
// The types that numbers are stored in, and those that they are computed in.
//
// float and double are both. The 16-bit types are for storage only: sums, activations and gradients of nodes are float,
// and a number is rounded once, where it is stored, to the nearest (ties to even). A NaN stays one.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>

#include "platform.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace freewire {

struct BFloat16 {
  uint16_t bits;
};
struct Half {
  uint16_t bits;
};

template <class T>
struct ComputeOf {
  using Type = T;
};
template <>
struct ComputeOf<BFloat16> {
  using Type = float;
};
template <>
struct ComputeOf<Half> {
  using Type = float;
};
template <class T>
using Compute = typename ComputeOf<T>::Type;
template <class T>
constexpr bool kNarrow = !std::is_same_v<T, Compute<T>>;

// ---- in integers ----
//
// Bits: uint32_t, or a register of them that holds each 16-bit number in a lane. Value: float, or a register of those.
// Written once, for scalars and for registers whose processor has no instruction for it.

template <class To, class From>
FREEWIRE_INLINE To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "a change of type, not of size");
  To to;
  memcpy(&to, &from, sizeof to);
  return to;
}

template <class Value, class Bits>
FREEWIRE_INLINE Value bfloat16_to_float(Bits h) {
  return same_bits<Value>(h << 16);
}

template <class Bits, class Value>
FREEWIRE_INLINE Bits float_to_bfloat16(Value f) {
  const Bits u = same_bits<Bits>(f);
  const Bits rounded = (u + (((u >> 16) & 1) + 0x7fff)) >> 16;
  return (u & 0x7fffffff) > 0x7f800000 ? (u >> 16 | 0x40) : rounded;
}

// to_value(integers, floats of that value). No subnormal float arises, so flushing them changes nothing.
template <class Value, class Bits, class ToValue>
FREEWIRE_INLINE Value half_to_float(Bits h, const ToValue& to_value) {
  const Bits size = (h & 0x7fff) << 13;
  Value count;
  to_value(h & 0x3ff, count);
  const Bits subnormal = same_bits<Bits>(Value(count * 0x1p-24f));
  const Bits normal = size + ((size >= 0x0f800000) ? (size - size + 0x70000000) : (size - size + 0x38000000));
  return same_bits<Value>((size < 0x00800000 ? subnormal : normal) | (h & 0x8000) << 16);
}

template <class Bits, class Value>
FREEWIRE_INLINE Bits float_to_half(Value f) {
  const Bits u = same_bits<Bits>(f), size = u & 0x7fffffff, zero = u - u;
  const Bits rounded = (size + (((size >> 13) & 1) + 0xfff) - 0x38000000) >> 13;
  // Below 2^-14 the result counts in units of 2^-24: adding 2^23 leaves that count in the low bits.
  const Bits count = same_bits<Bits>(Value(same_bits<Value>(size) * 0x1p24f + 0x1p23f)) - 0x4b000000;
  const Bits finite = size < 0x38800000 ? count : rounded;
  const Bits large = size > 0x7f800000 ? (zero + 0x7e00) : (zero + 0x7c00);
  return (size >= 0x477ff000 ? large : finite) | (u >> 16 & 0x8000);  // from 65520 on: infinity, or a NaN
}

// ---- one number ----

template <class T>
FREEWIRE_INLINE Compute<T> widened(T value) {
  if constexpr (!kNarrow<T>) {
    return value;
  } else {
#if defined(__CUDA_ARCH__)
    if constexpr (std::is_same_v<T, Half>) return __half2float(same_bits<__half>(value.bits));
#else
    if constexpr (std::is_same_v<T, Half>) {
      return half_to_float<float>(uint32_t{value.bits}, [](uint32_t n, float& to) { to = static_cast<float>(n); });
    }
#endif
    if constexpr (std::is_same_v<T, BFloat16>) return bfloat16_to_float<float>(uint32_t{value.bits});
  }
}

template <class T>
FREEWIRE_INLINE T narrowed(Compute<T> value) {
  if constexpr (!kNarrow<T>) {
    return value;
  } else {
#if defined(__CUDA_ARCH__)
    if constexpr (std::is_same_v<T, Half>) return {same_bits<uint16_t>(__float2half_rn(value))};
    if constexpr (std::is_same_v<T, BFloat16>) return {same_bits<uint16_t>(__float2bfloat16_rn(value))};
#else
    if constexpr (std::is_same_v<T, Half>) return {static_cast<uint16_t>(float_to_half<uint32_t>(value))};
    if constexpr (std::is_same_v<T, BFloat16>) return {static_cast<uint16_t>(float_to_bfloat16<uint32_t>(value))};
#endif
  }
}

// What a row stored as From holds, to be stored as To: the same number, rounded if To is narrower.
template <class To, class From>
FREEWIRE_INLINE To stored_as(From value) {
  return narrowed<To>(widened(value));
}

}  // namespace freewire

// SPDX-License-Identifier: MIT
// The number types: the list of all of them, the type each is computed in, and the conversions between the two.
//
// float and double are stored and computed in. The 16-bit types are for storage only: sums, activations and gradients
// of nodes are float, and a number is rounded once, when it is stored, to nearest with ties to even. A NaN stays a NaN.
//
// To add a type: its struct, its line in the list and its conversions here; its registers in cpu/simd/narrow.h; its
// largest number in testing/cases/results.h; DTYPES in freewire/ops/dtypes.py; and the tests' DTYPES.
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
  using ComputeType = float;
  uint16_t bits;
};
struct Half {
  using ComputeType = float;
  uint16_t bits;
};

// X(the type, its name in torch's ScalarType, its name as a torch dtype), once for each number type.
#define FREEWIRE_FLOAT(X) X(float, Float, "float32")
#define FREEWIRE_DOUBLE(X) X(double, Double, "float64")
#define FREEWIRE_BFLOAT16(X) X(BFloat16, BFloat16, "bfloat16")
#define FREEWIRE_HALF(X) X(Half, Half, "float16")

// With -DFREEWIRE_ONLY_TYPE=FREEWIRE_HALF, say, an object file holds the kernels of that type only, so that a compiler
// can make the objects of one source in parallel. Every source of kernels allows it, but those with functions that are
// no templates (cuda/network/drive.cu, cuda/common/host.cu).
#if defined(FREEWIRE_ONLY_TYPE)
#define FREEWIRE_FOR_EACH_TYPE(X) FREEWIRE_ONLY_TYPE(X)
#else
#define FREEWIRE_FOR_EACH_TYPE(X) FREEWIRE_FLOAT(X) FREEWIRE_DOUBLE(X) FREEWIRE_BFLOAT16(X) FREEWIRE_HALF(X)
#endif

template <class T>
struct ComputeOf {
  using Type = T;
};
template <class T>
  requires requires { typename T::ComputeType; }
struct ComputeOf<T> {
  using Type = typename T::ComputeType;
};
// The type that sums, activations and gradients of numbers of type T are computed in.
template <class T>
using Compute = typename ComputeOf<T>::Type;
template <class T>
constexpr bool kNarrow = !std::is_same_v<T, Compute<T>>;

// ---- in integers ----
//
// Bits is uint32_t, or a register of them with a 16-bit number in each lane; Value is float, or a register of floats.
// One source serves scalars and the registers of processors without an instruction for the conversion.

template <class To, class From>
FREEWIRE_INLINE To same_bits(From from) {
  static_assert(sizeof(To) == sizeof(From), "the type changes, the size does not");
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

// to_value(integers, values) sets values to the integers, converted. No subnormal float arises, so flushing subnormals
// to zero changes nothing.
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
  // Below 2^-14 the result is a count of units of 2^-24: adding 2^23 leaves that count in the low bits.
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

// A number of type From as one of type To, rounded if To is narrower.
template <class To, class From>
FREEWIRE_INLINE To stored_as(From value) {
  return narrowed<To>(widened(value));
}

}  // namespace freewire

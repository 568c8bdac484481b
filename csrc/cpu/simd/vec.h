// SPDX-License-Identifier: MIT
// Vec<T, N>: one SIMD register of N lanes of float or double, as a value type.
//
// It uses the vector extensions of GCC and Clang, with no intrinsics except to convert 16-bit numbers, so that kernels
// are written once and compiled for SSE2 or NEON (16 bytes), AVX2 (32 bytes) and AVX-512 (64 bytes). All of it lies in
// a namespace of its own for each of those builds (registers.h), so that one library holds them all.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "cpu/simd/narrow.h"
#include "cpu/simd/registers.h"
#include "platform.h"

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

// The compiler's own register types: N lanes of T, and as many integers of the same size.
template <class T, int N>
struct NativeOf {
  using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef T Values __attribute__((vector_size(sizeof(T) * N)));
  typedef Int Bits __attribute__((vector_size(sizeof(T) * N)));
};

// Lanes of integers: the result of a comparison (all ones or all zeros per lane), or the bits of a Vec.
template <class T, int N>
struct IntVec {
  using Native = typename NativeOf<T, N>::Bits;
  Native v;
};

template <class T, int N>
struct Vec {
  static constexpr int kLanes = N;
  using Scalar = T;
  using Mask = IntVec<T, N>;
  using Native = typename NativeOf<T, N>::Values;
  Native v;

  Vec() = default;
  FREEWIRE_INLINE Vec(Native native) : v(native) {}
  FREEWIRE_INLINE Vec(T scalar) : v(scalar - Native{}) {}  // broadcast: x - 0 is x, also for -0 and NaN

  static FREEWIRE_INLINE Vec load(const T* from) {  // no alignment needed
    Vec r;
    std::memcpy(&r.v, from, sizeof r.v);
    return r;
  }
  FREEWIRE_INLINE void store(T* to) const { std::memcpy(to, &v, sizeof v); }

  // The same for numbers stored in 16 bits, which are rounded when stored.
  template <class S>
    requires kNarrow<S>
  static FREEWIRE_INLINE Vec load(const S* from) {
    typename Narrow<N>::Floats wide;
    Narrow<N>::load(from, wide);
    return Vec(same_bits<Native>(wide));
  }
  template <class S>
    requires kNarrow<S>
  FREEWIRE_INLINE void store(S* to) const {
    Narrow<N>::store(to, same_bits<typename Narrow<N>::Floats>(v));
  }

  // Fewer numbers than lanes; the missing lanes are 0.
  template <class S>
  static FREEWIRE_INLINE Vec load_some(const S* from, int64_t count) {
    S some[N] = {};
    std::memcpy(some, from, static_cast<size_t>(count) * sizeof(S));
    return load(some);
  }
  template <class S>
  FREEWIRE_INLINE void store_some(S* to, int64_t count) const {
    S some[N];
    store(some);
    std::memcpy(to, some, static_cast<size_t>(count) * sizeof(S));
  }

  // Friends, not templates, so that a scalar on either side converts.
  friend FREEWIRE_INLINE Vec operator+(Vec a, Vec b) { return Vec(a.v + b.v); }
  friend FREEWIRE_INLINE Vec operator-(Vec a, Vec b) { return Vec(a.v - b.v); }
  friend FREEWIRE_INLINE Vec operator*(Vec a, Vec b) { return Vec(a.v * b.v); }
  friend FREEWIRE_INLINE Vec operator/(Vec a, Vec b) { return Vec(a.v / b.v); }
  friend FREEWIRE_INLINE Vec operator-(Vec a) { return Vec(-a.v); }
  friend FREEWIRE_INLINE Mask operator<(Vec a, Vec b) { return {a.v < b.v}; }
  friend FREEWIRE_INLINE Mask operator>(Vec a, Vec b) { return {a.v > b.v}; }
  friend FREEWIRE_INLINE Mask operator<=(Vec a, Vec b) { return {a.v <= b.v}; }
  friend FREEWIRE_INLINE Mask operator>=(Vec a, Vec b) { return {a.v >= b.v}; }
  friend FREEWIRE_INLINE Mask operator==(Vec a, Vec b) { return {a.v == b.v}; }
  friend FREEWIRE_INLINE Mask operator!=(Vec a, Vec b) { return {a.v != b.v}; }
  friend FREEWIRE_INLINE Vec select(Mask m, Vec a, Vec b) { return Vec(m.v ? a.v : b.v); }
};

// One lane is a plain number; a comparison is all ones or all zeros, as in wider registers.
template <class T>
struct NativeOf<T, 1> {
  using Int = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  using Values = T;
  using Bits = Int;
};

template <class T>
struct Vec<T, 1> {
  static constexpr int kLanes = 1;
  using Scalar = T;
  using Mask = IntVec<T, 1>;
  using Native = T;
  T v;

  Vec() = default;
  FREEWIRE_INLINE Vec(T scalar) : v(scalar) {}

  template <class S>
  static FREEWIRE_INLINE Vec load(const S* from) {
    return Vec(widened(*from));
  }
  template <class S>
  FREEWIRE_INLINE void store(S* to) const {
    *to = stored_as<S>(v);
  }

  friend FREEWIRE_INLINE Vec operator+(Vec a, Vec b) { return Vec(a.v + b.v); }
  friend FREEWIRE_INLINE Vec operator-(Vec a, Vec b) { return Vec(a.v - b.v); }
  friend FREEWIRE_INLINE Vec operator*(Vec a, Vec b) { return Vec(a.v * b.v); }
  friend FREEWIRE_INLINE Vec operator/(Vec a, Vec b) { return Vec(a.v / b.v); }
  friend FREEWIRE_INLINE Vec operator-(Vec a) { return Vec(-a.v); }
  friend FREEWIRE_INLINE Mask operator<(Vec a, Vec b) { return {-(a.v < b.v)}; }
  friend FREEWIRE_INLINE Mask operator>(Vec a, Vec b) { return {-(a.v > b.v)}; }
  friend FREEWIRE_INLINE Mask operator<=(Vec a, Vec b) { return {-(a.v <= b.v)}; }
  friend FREEWIRE_INLINE Mask operator>=(Vec a, Vec b) { return {-(a.v >= b.v)}; }
  friend FREEWIRE_INLINE Mask operator==(Vec a, Vec b) { return {-(a.v == b.v)}; }
  friend FREEWIRE_INLINE Mask operator!=(Vec a, Vec b) { return {-(a.v != b.v)}; }
  friend FREEWIRE_INLINE Vec select(Mask m, Vec a, Vec b) { return m.v ? a : b; }
};

// The value itself, complete in a register. Compilers repeat a load that several instructions could each do by
// themselves, and take a product and a sum apart to select between the sum and something else.
template <class T, int N>
FREEWIRE_INLINE Vec<T, N> in_register(Vec<T, N> value) {
#if defined(__x86_64__)
  if constexpr (N > 1) asm("" : "+v"(value.v));
#elif defined(__aarch64__)
  if constexpr (N > 1) asm("" : "+w"(value.v));
#endif
  return value;
}

template <class T, int N>
FREEWIRE_INLINE IntVec<T, N> operator|(IntVec<T, N> a, IntVec<T, N> b) {
  return {a.v | b.v};
}
template <class T, int N>
FREEWIRE_INLINE IntVec<T, N> operator&(IntVec<T, N> a, IntVec<T, N> b) {
  return {a.v & b.v};
}

template <class T, int N>
FREEWIRE_INLINE IntVec<T, N> operator~(IntVec<T, N> a) {
  return {~a.v};
}

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

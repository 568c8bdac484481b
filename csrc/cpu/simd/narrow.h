// SPDX-License-Identifier: MIT
// Loads 16-bit numbers from memory into registers of floats, and stores them back.
//
// Registers of 8 and 16 lanes are those of AVX2 and AVX-512, whose processors convert halves in one instruction (F16C);
// everything else is integer arithmetic in the compiler's vector extensions.
#pragma once

#include <cstdint>
#include <cstring>

#include "cpu/simd/registers.h"
#include "number.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace freewire::cpu {
inline namespace FREEWIRE_REGISTERS {

// One specialisation per width, since GCC forgets that a type is a register's if its size depends on a template
// argument.
template <int N>
struct NarrowTypes;
#define FREEWIRE_NARROW_TYPES(N)                                \
  template <>                                                   \
  struct NarrowTypes<N> {                                       \
    typedef uint16_t Words __attribute__((vector_size(2 * N))); \
    typedef uint32_t Bits __attribute__((vector_size(4 * N)));  \
    typedef int32_t Signed __attribute__((vector_size(4 * N))); \
    typedef float Floats __attribute__((vector_size(4 * N)));   \
  };
FREEWIRE_NARROW_TYPES(4)
FREEWIRE_NARROW_TYPES(8)
FREEWIRE_NARROW_TYPES(16)
#undef FREEWIRE_NARROW_TYPES

template <int N>
struct Narrow : NarrowTypes<N> {
  using typename NarrowTypes<N>::Words, typename NarrowTypes<N>::Bits, typename NarrowTypes<N>::Signed,
      typename NarrowTypes<N>::Floats;

  // The result is passed by reference: GCC warns that a returned register depends on the instruction set.
  static FREEWIRE_INLINE void load(const BFloat16* from, Floats& to) {
#if defined(__x86_64__)
    if constexpr (N == 8) {  // one instruction where GCC emits four
      const __m256i words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
      to = same_bits<Floats>(_mm256_slli_epi32(words, 16));
      return;
    }
    if constexpr (N == 16) {
      const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      to = same_bits<Floats>(_mm512_maskz_slli_epi32(kAll, _mm512_maskz_cvtepu16_epi32(kAll, words), 16));
      return;
    }
#endif
    Bits bits;
    get(from, bits);
    to = bfloat16_to_float<Floats>(bits);
  }
  static FREEWIRE_INLINE void load(const Half* from, Floats& to) {
#if defined(__x86_64__)
    if constexpr (N == 8) {
      to = same_bits<Floats>(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
      return;
    }
    if constexpr (N == 16) {  // maskz: GCC 12 warns about its own header for the plain ones
      const __m256i words = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
      to = same_bits<Floats>(_mm512_maskz_cvtph_ps(kAll, words));
      return;
    }
#endif
    // Through signed integers, which every instruction set converts.
    Bits bits;
    get(from, bits);
    to = half_to_float<Floats>(
        bits, [](const Bits& n, Floats& value) { value = __builtin_convertvector(same_bits<Signed>(n), Floats); });
  }

  static FREEWIRE_INLINE void store(BFloat16* to, const Floats& value) { put(to, float_to_bfloat16<Bits>(value)); }
  static FREEWIRE_INLINE void store(Half* to, const Floats& value) {
#if defined(__x86_64__)
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    if constexpr (N == 8) {
      return _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(same_bits<__m256>(value), kNearest));
    }
    if constexpr (N == 16) {
      return _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                                 _mm512_maskz_cvtps_ph(kAll, same_bits<__m512>(value), kNearest));
    }
#endif
    put(to, float_to_half<Bits>(value));
  }

 private:
#if defined(__x86_64__)
  static constexpr __mmask16 kAll = 0xffff;
#endif
  template <class T>
  static FREEWIRE_INLINE void get(const T* from, Bits& to) {
    Words words;
    std::memcpy(&words, from, sizeof words);
    to = __builtin_convertvector(words, Bits);
  }
  template <class T>
  static FREEWIRE_INLINE void put(T* to, const Bits& value) {
    const Words words = __builtin_convertvector(value, Words);
    std::memcpy(to, &words, sizeof words);
  }
};

}  // namespace FREEWIRE_REGISTERS
}  // namespace freewire::cpu

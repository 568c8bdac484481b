// SPDX-License-Identifier: MIT
// From here to target_end.h functions may use the instruction sets in FREEWIRE_TARGET, if that is defined.
#pragma once

// Standard headers come before the target changes: an inline function of theirs compiled for another instruction set
// could be the copy that the linker keeps for the whole library.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(FREEWIRE_TARGET)
#define FREEWIRE_PRAGMA(...) _Pragma(#__VA_ARGS__)
#define FREEWIRE_EXPANDED_PRAGMA(...) FREEWIRE_PRAGMA(__VA_ARGS__)
#if defined(__clang__)
FREEWIRE_EXPANDED_PRAGMA(clang attribute push(__attribute__((target(FREEWIRE_TARGET))), apply_to = function))
#else
FREEWIRE_EXPANDED_PRAGMA(GCC target(FREEWIRE_TARGET))
#endif
#endif

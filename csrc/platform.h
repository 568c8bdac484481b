// SPDX-License-Identifier: MIT
// What differs between host and device compilers, named once.
#pragma once

#if defined(__CUDACC__)
#define FREEWIRE_INLINE __host__ __device__ __forceinline__
#else
#define FREEWIRE_INLINE inline __attribute__((always_inline))
#endif

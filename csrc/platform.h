// SPDX-License-Identifier: MIT
// The differences between host and device compilers.
#pragma once

#if defined(__CUDACC__)
#define FREEWIRE_INLINE __host__ __device__ __forceinline__
#else
#define FREEWIRE_INLINE inline __attribute__((always_inline))
#endif

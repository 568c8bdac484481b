// SPDX-License-Identifier: MIT
// The end of what target_begin.h began. GCC's pragma lasts until the end of the file.
#pragma once

#if defined(FREEWIRE_TARGET) && defined(__clang__)
FREEWIRE_PRAGMA(clang attribute pop)
#endif

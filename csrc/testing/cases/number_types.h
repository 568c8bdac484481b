// SPDX-License-Identifier: MIT
// The list of number types (number.h) at run time, for the test programs.
#pragma once

#include <type_traits>

#include "number.h"

namespace freewire::testing {

#define FREEWIRE_NAME(T, tag, name) name,
constexpr const char* kTypeNames[] = {FREEWIRE_FOR_EACH_TYPE(FREEWIRE_NAME)};
#undef FREEWIRE_NAME
constexpr int kNumTypes = sizeof(kTypeNames) / sizeof(kTypeNames[0]);

// Calls body(T{}) for each number type, in the order of kTypeNames.
template <class Body>
constexpr void for_each_type(Body&& body) {
#define FREEWIRE_CALL(T, tag, name) body(T{});
  FREEWIRE_FOR_EACH_TYPE(FREEWIRE_CALL)
#undef FREEWIRE_CALL
}

// The place of a type in kTypeNames.
template <class T>
constexpr int type_index() {
  int index = 0, found = kNumTypes;
  for_each_type([&](auto number) {
    if (std::is_same_v<T, decltype(number)>) found = index;
    ++index;
  });
  return found;
}

}  // namespace freewire::testing

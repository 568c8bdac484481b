// SPDX-License-Identifier: MIT
// The planner's checks of its arguments, which throw std::invalid_argument (Python's ValueError).
//
// Callers have checked user input; these checks keep every read and write inside its array for any arguments.
#pragma once

#include <stdexcept>
#include <string>

namespace freewire::planner {

inline void require(bool holds, const char* message) {
  if (!holds) [[unlikely]]
    throw std::invalid_argument(message);
}

}  // namespace freewire::planner

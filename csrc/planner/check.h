// SPDX-License-Identifier: MIT
// What the planner says of arrays that do not fit: enters a condition, leaves std::invalid_argument (Python's
// ValueError).
//
// Callers have checked what users gave; these checks are what keeps every read and write inside its array whatever
// comes.
#pragma once

#include <stdexcept>
#include <string>

namespace freewire::planner {

inline void require(bool holds, const char* message) {
  if (!holds) [[unlikely]]
    throw std::invalid_argument(message);
}

}  // namespace freewire::planner

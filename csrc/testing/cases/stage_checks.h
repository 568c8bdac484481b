// SPDX-License-Identifier: MIT
// Checks of whole stages, in a source of their own (testing/sanitize_stages.cpp), since they take long to compile.
#pragma once

#include <cstdint>
#include <string>

namespace freewire::testing {

// Runs all cases, and returns their number; std::runtime_error if a result is wrong or depends on the number of
// threads.
int64_t check_stages();

// Runs a stage with a bug injected (testing/cases/injected_bugs.h). Returns false if the bug is not one of stages.
bool inject_into_stage(const std::string& bug);

}  // namespace freewire::testing

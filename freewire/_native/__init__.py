# SPDX-License-Identifier: MIT
"""Compiled code and the tools that make it: compilers, the build of the CUDA library, the planner. No torch here."""

# SPDX-License-Identifier: MIT
"""What the suites share: workloads, correctness, timing, health probe, machine, command lines, tables, plots, page."""

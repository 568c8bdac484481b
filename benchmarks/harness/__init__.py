# SPDX-License-Identifier: MIT
"""Parts that the suites share: workloads, correctness, timing, the machine, tables, plots, the generated page."""

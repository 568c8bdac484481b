# SPDX-License-Identifier: MIT
"""Benchmarks, one command each: ``python -m benchmarks.suites.<name>``."""

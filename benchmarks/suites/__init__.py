# SPDX-License-Identifier: MIT
"""The benchmarks, one command each: ``python -m benchmarks.suites.<name>``.

To add one, write a module whose ``main`` checks its candidates before it times them (`benchmarks.harness.measure`) and,
if its figures belong in the docs, a section in `benchmarks.harness.report`.
"""

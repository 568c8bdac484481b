# SPDX-License-Identifier: MIT
"""What freewire costs compared with other ways to run the same network.

`suites` holds the commands (``python -m benchmarks.suites.cpu`` is the comparison behind `make bench`), `peers` the
other ways, `harness` what the commands share, and `results` the recorded measurements, from which
``python -m benchmarks.harness.report`` writes docs/benchmarks.md.

Nothing is timed before its results have been compared with `freewire.reference`, and the peers take turns, so that
disturbances by the rest of the machine affect all of them. Only freewire's public names are used here.
"""

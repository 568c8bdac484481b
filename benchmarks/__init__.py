# SPDX-License-Identifier: MIT
"""What freewire costs beside other ways to run the same network; ``python -m benchmarks.suites.run`` measures all of it.

Nothing is timed before its results have been compared with `freewire.reference`, and the peers take turns, so that
whatever else the machine does falls on all of them. Only freewire's public names are used here.
"""

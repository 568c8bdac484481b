# SPDX-License-Identifier: MIT
"""``python -m freewire``: the command line of `freewire.cli`."""

import sys

from freewire.cli import main

if __name__ == "__main__":
    sys.exit(main())

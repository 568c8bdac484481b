# SPDX-License-Identifier: MIT
"""The operators as torch sees them: fake kernels, autograd, and plain-torch references. Torch starts here."""

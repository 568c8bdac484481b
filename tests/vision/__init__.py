# SPDX-License-Identifier: MIT
"""What needs torchvision and timm: run by ``make test-vision``, in an environment of its own."""

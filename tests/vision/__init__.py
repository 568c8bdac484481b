# SPDX-License-Identifier: MIT
"""Tests that need torchvision and timm; ``make test-vision`` runs them in an environment of their own."""

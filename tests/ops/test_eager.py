# SPDX-License-Identifier: MIT
"""`eager` under torch.compile: the function runs untraced, and nothing is compiled a second time because of it."""

from __future__ import annotations

import numpy as np
import torch
from torch._dynamo.testing import CompileCounter

from freewire.ops.eager import eager


def test_it_is_not_traced_and_compiled_once():
    traced = []

    @eager
    def count(start: float, *, by: float) -> torch.Tensor:
        """Count."""
        traced.append(torch.compiler.is_compiling())
        return torch.from_numpy(np.full(3, start + by * len(traced)))

    def double(x: torch.Tensor) -> torch.Tensor:
        return x * 2 + count(10.0, by=0.5)

    compiler = CompileCounter()
    compiled = torch.compile(double, backend=compiler)
    assert [compiled(torch.ones(3, dtype=torch.float64))[0].item() for _ in range(12)] == [
        12 + 0.5 * call for call in range(1, 13)
    ]
    assert traced == [False] * 12
    assert compiler.frame_count <= 4  # of the first two calls: before and after the break
    assert double(torch.zeros(3))[0] == 16.5
    assert count.__doc__ == "Count."

# SPDX-License-Identifier: MIT
"""The numba loop: plain loops over nodes and edges, compiled by numba, in parallel over tiles of the batch.

`LoopPeer` is what a numerate user writes without C++: one tape ``[rows, samples]`` per tile, batch-last so that the
inner loop is vectorised, with a hand-written forward and backward.

Tried and found slower: tiles that are slices of a wider tape, which numba does not vectorise (14 times the forward);
tiles of 16, 32 and 64 samples (5, 1.8 and 1.2 times); one edge per pass (1.3 to 1.8 times) and four (1.1); a backward
that gathers over the reversed graph, and one that does four weight gradients per pass (1.2 to 1.4 times the backward).
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

import freewire as fw
from benchmarks.peers.base import FlatPeer, missing

__all__ = ["LoopPeer"]

_WIDEST = 128  # samples per tile


class _Function(torch.autograd.Function):
    """(x, weight, bias) -> y; the tape is kept for the backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, peer: LoopPeer) -> Tensor:
        tape = x.new_empty(peer.tape_shape(x))
        y = peer.run(x, tape)
        ctx.peer = peer
        ctx.save_for_backward(tape)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        return *ctx.peer.run_backward(grad_y.contiguous(), *ctx.saved_tensors), None


class LoopPeer(FlatPeer):
    """The whole network for one tile of the batch at a time, in numba."""

    label = "numba loop"

    def __init__(self, net: fw.Network) -> None:
        super().__init__(net)
        layout = self.layout
        self.graph_arrays = (
            layout.in_ptr,
            layout.src.astype(np.int32),
            layout.activation.astype(np.int32),
            layout.outputs,
        )
        self.parameter_arrays = self.weight.detach().numpy(), self.bias.detach().numpy()  # the same memory
        self.kernels = _kernels()

    @classmethod
    def refusal(cls, net: fw.Network) -> str | None:
        """See `Peer`."""
        if (absent := missing("numba", "numba>=0.60")) is not None:
            return absent
        if net.weight.device.type != "cpu":
            return "its loops run on the CPU only"
        return super().refusal(net)

    def tape_shape(self, x: Tensor) -> tuple[int, int, int]:
        """The number of tiles, rows R, and samples per tile W."""
        batch = x.shape[0]
        width = max(1, min(_WIDEST, -(-batch // torch.get_num_threads())))
        return -(-batch // width), self.layout.num_rows, width

    def run(self, x: Tensor, tape: Tensor) -> Tensor:
        """The outputs ``[B, O]``; every row's value is written to the tape, ``[tiles, R, W]``."""
        y = x.new_empty(x.shape[0], len(self.layout.outputs))
        x_array, tape_array, y_array = x.detach().numpy(), tape.numpy(), y.numpy()
        if len(tape) == 1:  # waking the threads would take longer than one tile
            self.kernels.forward_tile(x_array, *self.parameter_arrays, *self.graph_arrays, tape_array[0], y_array)
        else:
            self.kernels.forward(x_array, *self.parameter_arrays, *self.graph_arrays, tape_array, y_array)
        return y

    def run_backward(self, grad_y: Tensor, tape: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of x ``[B, I]``, weight ``[M]`` and bias ``[R - I]``."""
        tiles, layout = tape.shape[0], self.layout
        grad_x = grad_y.new_empty(grad_y.shape[0], layout.num_inputs)
        grad_weight = grad_y.new_empty(tiles, len(layout.src))
        grad_bias = grad_y.new_empty(tiles, len(layout.activation))
        self.kernels.backward(
            grad_y.numpy(),
            self.parameter_arrays[0],
            *self.graph_arrays,
            tape.numpy(),
            torch.empty_like(tape).numpy(),
            grad_x.numpy(),
            grad_weight.numpy(),
            grad_bias.numpy(),
        )
        return grad_x, grad_weight.sum(0), grad_bias.sum(0)

    def forward(self, x: Tensor) -> Tensor:
        """See `Peer`."""
        if torch.is_grad_enabled():
            y: Tensor = _Function.apply(x, self.weight, self.bias, self)
            return y
        return self.run(x, self.kept_tape(x, *self.tape_shape(x)))


def _kernels() -> ModuleType:
    """The compiled loops, imported here since numba is optional."""
    import numba

    from benchmarks.peers import loop_kernels

    threads = torch.get_num_threads()
    most: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    numba.set_num_threads(min(threads, most))  # starts numba's threads, which may change torch's OpenMP setting
    torch.set_num_threads(threads)
    return loop_kernels

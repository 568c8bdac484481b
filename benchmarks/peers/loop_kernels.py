# SPDX-License-Identifier: MIT
"""The numba loops of `benchmarks.peers.loop`: one tile of the batch through the whole network, forward and backward.

All arguments are numpy arrays. A tile's tape and its gradient are ``[R, W]``, one row per node and one column per
sample (R rows, of which I are inputs, W samples, M edges, O outputs). The last tile may have fewer samples than
columns; its arrays are still passed whole, since a slice of columns would not be contiguous and its loops would not be
vectorised. The arrays of a graph are those of `Layout`; they are separate arguments because unpacking a tuple of them
would slow a call with one sample. Importing this module needs numba; the compiled code is cached
beside the file.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, prange

from benchmarks.peers.layout import RELU, TANH

__all__ = ["backward", "forward", "forward_tile"]

# Sums may be reordered and contracted, as freewire's and MKL's are; NaN and infinity keep their meaning.
_MATHS = {"contract", "reassoc", "nsz", "arcp"}
_RELU, _TANH = RELU, TANH
Array = Any


@njit(fastmath=_MATHS, error_model="numpy", cache=True)
def forward_tile(
    x: Array,
    weight: Array,
    bias: Array,
    in_ptr: Array,
    src: Array,
    activation: Array,
    outputs: Array,
    tape: Array,
    y: Array,
) -> None:
    """One tile: x ``[samples, I]`` -> tape ``[R, W]`` and y ``[samples, O]``."""
    width, num_inputs = x.shape
    for i in range(num_inputs):
        for j in range(width):
            tape[i, j] = x[j, i]
    for v in range(len(activation)):
        z = tape[num_inputs + v]
        for j in range(width):
            z[j] = bias[v]
        e, end = in_ptr[v], in_ptr[v + 1]
        while e + 8 <= end:  # eight edges per pass: z is loaded and stored once for all of them
            w0, w1, w2, w3 = weight[e], weight[e + 1], weight[e + 2], weight[e + 3]
            w4, w5, w6, w7 = weight[e + 4], weight[e + 5], weight[e + 6], weight[e + 7]
            a0, a1, a2, a3 = tape[src[e]], tape[src[e + 1]], tape[src[e + 2]], tape[src[e + 3]]
            a4, a5, a6, a7 = tape[src[e + 4]], tape[src[e + 5]], tape[src[e + 6]], tape[src[e + 7]]
            for j in range(width):
                low = w0 * a0[j] + w1 * a1[j] + w2 * a2[j] + w3 * a3[j]
                high = w4 * a4[j] + w5 * a5[j] + w6 * a6[j] + w7 * a7[j]
                z[j] += low + high
            e += 8
        for rest in range(e, end):
            w0, a0 = weight[rest], tape[src[rest]]
            for j in range(width):
                z[j] += w0 * a0[j]
        if activation[v] == _RELU:
            for j in range(width):
                z[j] = max(z[j], 0)
        elif activation[v] == _TANH:
            for j in range(width):
                z[j] = np.tanh(z[j])
    for o in range(len(outputs)):
        for j in range(width):
            y[j, o] = tape[outputs[o], j]


@njit(fastmath=_MATHS, error_model="numpy", cache=True)
def _backward_tile(
    grad_y: Array,
    weight: Array,
    in_ptr: Array,
    src: Array,
    activation: Array,
    outputs: Array,
    tape: Array,
    grad: Array,
    grad_x: Array,
    grad_weight: Array,
    grad_bias: Array,
) -> None:
    width, num_inputs = grad_x.shape
    zero = weight[:1].sum() * 0  # in the weights' dtype
    grad[:] = 0
    for o in range(len(outputs)):
        for j in range(width):
            grad[outputs[o], j] += grad_y[j, o]
    for v in range(len(activation) - 1, -1, -1):
        g, a = grad[num_inputs + v], tape[num_inputs + v]
        if activation[v] == _RELU:
            for j in range(width):
                g[j] = g[j] if a[j] > 0 else zero
        elif activation[v] == _TANH:
            for j in range(width):
                g[j] *= 1 - a[j] * a[j]
        total = zero
        for j in range(width):
            total += g[j]
        grad_bias[v] = total
        for e in range(in_ptr[v], in_ptr[v + 1]):  # one load of g feeds the weight's gradient and the source's
            w, source, to = weight[e], tape[src[e]], grad[src[e]]
            total = zero
            for j in range(width):
                total += g[j] * source[j]
                to[j] += w * g[j]
            grad_weight[e] = total
    for i in range(num_inputs):
        for j in range(width):
            grad_x[j, i] = grad[i, j]


@njit(parallel=True, cache=True)
def forward(
    x: Array,
    weight: Array,
    bias: Array,
    in_ptr: Array,
    src: Array,
    activation: Array,
    outputs: Array,
    tape: Array,
    y: Array,
) -> None:
    """All tiles, in parallel: x ``[B, I]`` -> tape ``[tiles, R, W]`` and y ``[B, O]``."""
    width = tape.shape[2]
    for t in prange(tape.shape[0]):
        begin, end = t * width, min((t + 1) * width, len(x))
        forward_tile(x[begin:end], weight, bias, in_ptr, src, activation, outputs, tape[t], y[begin:end])


@njit(parallel=True, cache=True)
def backward(
    grad_y: Array,
    weight: Array,
    in_ptr: Array,
    src: Array,
    activation: Array,
    outputs: Array,
    tape: Array,
    grad: Array,
    grad_x: Array,
    grad_weight: Array,
    grad_bias: Array,
) -> None:
    """All tiles, in parallel: -> grad_x ``[B, I]``, and per tile its part of grad_weight ``[tiles, M]``, grad_bias."""
    width = tape.shape[2]
    for t in prange(tape.shape[0]):
        begin, end = t * width, min((t + 1) * width, len(grad_y))
        _backward_tile(
            grad_y[begin:end],
            weight,
            in_ptr,
            src,
            activation,
            outputs,
            tape[t],
            grad[t],
            grad_x[begin:end],
            grad_weight[t],
            grad_bias[t],
        )

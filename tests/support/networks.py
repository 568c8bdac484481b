# SPDX-License-Identifier: MIT
"""Networks in tests: comparing them, and reading and writing the raw contents of their files."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import networkx as nx
import torch
from safetensors.torch import load_file
from torch import Tensor

import freewire as fw
from tests.support.graphs import assert_same_graph

Tensors = dict[str, Tensor]
Metadata = dict[str, str]
FORMAT = "freewire network 1"


def named(*names: Hashable) -> fw.Network:
    """A network whose graph is a chain of nodes of these names."""
    wires = nx.DiGraph(itertools.pairwise(names))
    wires.add_nodes_from(names)
    return fw.Network(fw.Graph.from_networkx(wires, outputs=names[-1:]))


def assert_same_network(a: fw.Network, b: fw.Network) -> None:
    """Assert equal wiring, names, parameters and outputs, bit for bit, NaN included."""
    assert_same_graph(a.graph.with_values(), b.graph.with_values())
    assert a.checkpoint == b.checkpoint
    assert [name for name, _ in a.named_parameters()] == [name for name, _ in b.named_parameters()]
    for one, other in zip(a.parameters(), b.parameters(), strict=True):
        assert one.dtype == other.dtype
        assert one.requires_grad == other.requires_grad
        assert bits_of(one) == bits_of(other)
    x = torch.linspace(-2, 2, 5 * len(a.graph.inputs), dtype=a.weight.dtype).reshape(5, -1)
    assert bits_of(a(x)) == bits_of(b(x))


def bits_of(tensor: Tensor) -> bytes:
    return tensor.detach().contiguous().view(torch.uint8).numpy().tobytes()  # numpy knows no bfloat16


def read(path: Path) -> tuple[Tensors, dict[str, Any]]:
    """The tensors and the header of a file."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    return load_file(path), json.loads(raw[8 : 8 + size])


def write_raw(path: Path, header: Any, payload: bytes = b"") -> None:
    """Write a file in safetensors' layout: length of the header, header as JSON, bytes."""
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + payload)


def save_sample(path: Path) -> Path:
    """A small file: the chain 'x' -> ('h', 1) -> 2.5 -> 'y' with biases; edge e goes from node e to node e + 1."""
    fw.save(named("x", ("h", 1), 2.5, "y"), path)
    return path

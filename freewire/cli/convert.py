# SPDX-License-Identifier: MIT
"""``convert FILE OUT``: a graph or a network in another format."""

from __future__ import annotations

import argparse
import os
from typing import Any

import torch

from freewire.cli.subjects import NETWORK_SUFFIX, add_reading_options, check_option, read, wiring
from freewire.errors import InputError, shown
from freewire.files import write_graph
from freewire.graph import Graph
from freewire.nn import Network, Recurrent, save

__all__ = ["EXAMPLES", "HELP", "add_options", "run"]

HELP = "write a graph or a network in another format"
EXAMPLES = """\
examples:
  python -m freewire convert connectome.csv wires.json --activation tanh
  python -m freewire convert net.safetensors net.graphml        # a graph file with the learnt weights
  python -m freewire convert wires.json net.safetensors --seed 1  # a network, ready for fw.load
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_reading_options(parser)
    parser.add_argument(
        "out",
        metavar="OUT",
        help=f"the file to write; its suffix names the format, as FILE's does. {NETWORK_SUFFIX}: a network with the "
        "graph's stored weights and biases; weights that are not stored are drawn (He et al. 2015), biases are 0",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the weights that are drawn (0)")


def run(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Read FILE, write OUT; return the text to print and the same for ``--json``."""
    check_option(options, "seed", 0, 2**63 - 1)
    if os.path.realpath(options.file) == os.path.realpath(options.out):
        raise InputError(f"OUT: expected another file than FILE, got {shown(options.out)} twice. Choose another name.")
    found = read(options)
    if options.out.lower().endswith(NETWORK_SUFFIX):
        if isinstance(found, Graph):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(options.seed)
                found = Recurrent(found) if found.recurrent else Network(found)
        save(found, options.out)
        graph = found.graph
    else:
        graph = wiring(found)
        write_graph(graph, options.out)
    record = {"file": options.file, "out": options.out, "nodes": graph.num_nodes, "edges": graph.num_edges}
    return f"{options.out}: {graph.num_nodes:,} nodes, {graph.num_edges:,} edges, from {options.file}", record

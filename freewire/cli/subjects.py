# SPDX-License-Identifier: MIT
"""The file that a command is about: the options that say how to read it, and reading it."""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from freewire.errors import FileFormatError, shown
from freewire.files import read_graph
from freewire.files.formats import FORMATS, GZIP
from freewire.graph import ACTIVATIONS, Graph
from freewire.nn import Network, load

__all__ = ["NETWORK_SUFFIX", "add_reading_options", "default_output", "read", "wiring"]

NETWORK_SUFFIX = ".safetensors"
GRAPH_SUFFIXES = (*FORMATS, *(suffix + GZIP for suffix in FORMATS))

_WHOLE = re.compile(r"-?(0|[1-9][0-9]*)")


def add_reading_options(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add FILE and the options that say how a graph file is to be read; they are `read_graph`'s arguments."""
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs=None if required else "?",
        help=f"a graph ({', '.join(FORMATS)}, each perhaps with {GZIP}) or a network that fw.save wrote "
        f"({NETWORK_SUFFIX})",
    )
    group = parser.add_argument_group("how to read a graph file (a network's file says all of this itself)")
    names = "node names, separated by commas, in order; quote a name that has a comma"
    group.add_argument("--inputs", metavar="A,B,...", help=f"{names}. Default: the nodes without in-edges")
    group.add_argument("--outputs", metavar="A,B,...", help="likewise. Default: the nodes without out-edges")
    group.add_argument(
        "--activation", metavar="NAME", choices=ACTIVATIONS, help="of nodes that have none in the file (relu)"
    )
    group.add_argument(
        "--output-activation", metavar="NAME", choices=ACTIVATIONS, help="of outputs that have none (linear)"
    )
    group.add_argument(
        "--source", metavar="COLUMN", help="CSV: the column of an edge's source, by name or number from 0"
    )
    group.add_argument("--target", metavar="COLUMN", help="CSV: the column of its target")
    group.add_argument("--header", choices=("yes", "no"), help="CSV: whether the first row names the columns")


def read(options: argparse.Namespace) -> Graph | Network:
    """Read the file that the command line names.

    Args:
        options: With the attributes that `add_reading_options` adds.

    Raises:
        FileFormatError: An option for graph files with a network's file; or as `read_graph` and `load`.
    """
    given: dict[str, Any] = {
        "inputs": _names(options.inputs),
        "outputs": _names(options.outputs),
        "activation": options.activation,
        "output_activation": options.output_activation,
        "source": _column(options.source),
        "target": _column(options.target),
        "header": None if options.header is None else options.header == "yes",
    }
    given = {name: value for name, value in given.items() if value is not None}
    if not options.file.lower().endswith(NETWORK_SUFFIX):
        return read_graph(options.file, **given)
    if given:
        option = f"--{next(iter(given)).replace('_', '-')}"
        raise FileFormatError(
            f"{option}: expected a graph file with it, got the network {shown(options.file)}, which has its own. "
            f"Omit {option}."
        )
    return load(options.file)


def wiring(found: Graph | Network) -> Graph:
    """The graph; that of a network has its weights and biases as the stored ones."""
    if isinstance(found, Graph):
        return found
    weight, bias = found._values(found.weight, found.bias)
    return found.graph.with_values(weight, bias)


def default_output(file: str, suffix: str) -> str:
    """FILE's name in the current folder, with another suffix."""
    name = Path(file).name
    known = (*GRAPH_SUFFIXES, NETWORK_SUFFIX)
    ending = max((each for each in known if name.lower().endswith(each)), key=len, default="")
    return name[: len(name) - len(ending)] + suffix


def _names(text: str | None) -> list[Hashable] | None:
    """Names on a command line: integers if all of them look like integers, as in files."""
    if text is None:
        return None
    names = next(csv.reader([text], skipinitialspace=True), [])
    return [int(name) for name in names] if all(map(_WHOLE.fullmatch, names)) else list(names)


def _column(text: str | None) -> str | int | None:
    return int(text) if text is not None and _WHOLE.fullmatch(text) else text

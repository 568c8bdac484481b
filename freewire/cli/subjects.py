# SPDX-License-Identifier: MIT
"""The file that a command is about: the options that say how to read it, and reading it."""

from __future__ import annotations

import argparse
import csv
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import numpy as np

from freewire.errors import FileFormatError, InputError, shown
from freewire.files import read_graph
from freewire.files.formats import FORMATS, GZIP
from freewire.graph import ACTIVATIONS, Graph
from freewire.graph.arguments import show
from freewire.nn import Network, Recurrent, load
from freewire.pictures import subject

__all__ = ["NETWORK_SUFFIX", "add_reading_options", "check_option", "default_output", "read", "wiring"]

NETWORK_SUFFIX = ".safetensors"
#: Those that may be compressed, each with `GZIP` too, and the others.
GRAPH_SUFFIXES = (*FORMATS, *(suffix + GZIP for suffix, form in FORMATS.items() if not form.opened))
FILES = (
    ", ".join(suffix for suffix, form in FORMATS.items() if not form.opened)
    + f", each perhaps with {GZIP}; "
    + (", ".join(suffix for suffix, form in FORMATS.items() if form.opened))
)

_NUMBER = re.compile(r"[0-9]{1,9}")


def add_reading_options(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add FILE and the options that say how a graph file is to be read; they are `read_graph`'s arguments."""
    parser.add_argument(
        "file",
        metavar="FILE",
        nargs=None if required else "?",
        help=f"a graph ({FILES}) or a network that fw.save wrote ({NETWORK_SUFFIX})",
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
        "--source",
        metavar="COLUMN",
        help="tables (CSV, Parquet, Feather): the column of an edge's source, by name or number from 0",
    )
    group.add_argument("--target", metavar="COLUMN", help="tables: the column of its target")
    group.add_argument("--weight", metavar="COLUMN", help="tables: the column of its weight")
    group.add_argument("--no-weight", action="store_true", help="tables: none of the columns is a weight")
    group.add_argument("--sign", metavar="COLUMN", help="tables: the column of its sign, -1, 0 or 1")
    group.add_argument("--nodes", metavar="TABLE", help="tables, .npz: a table of all nodes in order, with their names")
    group.add_argument("--header", choices=("yes", "no"), help="CSV: whether the first row names the columns")
    group.add_argument("--recurrent", action="store_true", help="allow cycles")


def read(options: argparse.Namespace) -> Graph | Network | Recurrent:
    """Read the file that the command line names.

    Args:
        options: With the attributes that `add_reading_options` adds.

    Raises:
        FileFormatError: An option for graph files with a network's file; or as `read_graph` and `load`.
    """
    given: dict[str, Any] = {
        "inputs": _names("inputs", options.inputs),
        "outputs": _names("outputs", options.outputs),
        "activation": options.activation,
        "output_activation": options.output_activation,
        "source": _column(options.source),
        "target": _column(options.target),
        "weight": _weight(options),
        "sign": _column(options.sign),
        "nodes": options.nodes,
        "header": None if options.header is None else options.header == "yes",
        "recurrent": options.recurrent or None,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if options.file.lower().endswith(NETWORK_SUFFIX):
        if given:
            option = f"--{next(iter(given)).replace('_', '-')}"
            raise FileFormatError(
                f"{option}: expected a graph file with it, got the network {shown(options.file)}, which has its own. "
                f"Omit {option}."
            )
        return load(options.file)
    named: dict[str, Any] = {what: given.pop(what) for what in ("inputs", "outputs") if what in given}
    graph = read_graph(options.file, **given)
    if not named:
        return graph
    # Only the nodes tell whether 1 is a number or text, so they are read first.
    named = {what: _nodes(what, texts, graph) for what, texts in named.items()}
    return read_graph(options.file, **given, **named)


def wiring(found: Graph | Network | Recurrent) -> Graph:
    """The graph; that of a network has its weights and biases as the stored ones."""
    if isinstance(found, Graph):
        return found
    values = subject(found)
    return values.graph.with_values(values.weight, values.bias)


def check_option(options: argparse.Namespace, name: str, least: float, most: float) -> None:
    """Raise `InputError` unless the number of an option, if there is one, is within this range."""
    value = getattr(options, name)
    if value is not None and not least <= value <= most:
        raise InputError(f"--{name}: expected a number from {least:,} to {most:,}, got {shown(value)}. Choose one.")


def default_output(file: str, suffix: str) -> str:
    """FILE's name in the current folder, with another suffix."""
    name = Path(file).name
    known = (*GRAPH_SUFFIXES, NETWORK_SUFFIX)
    ending = max((each for each in known if name.lower().endswith(each)), key=len, default="")
    return name[: len(name) - len(ending)] + suffix


def _names(what: str, text: str | None) -> list[str] | None:
    """The names in the text of an option, which is a line of CSV; None if it was omitted."""
    if text is None:
        return None
    try:
        names = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error:  # a quote without its second one, or a line break
        names = []
    if not names:
        raise InputError(
            f"--{what}: expected node names with commas between them, got {shown(text)}. "
            "Quote a name that has a comma or a quote, as in CSV."
        )
    return names


def _nodes(what: str, texts: list[str], graph: Graph) -> list[Hashable]:
    """The nodes that a command line names: those whose names are these texts, or else look like them."""
    known: dict[str, Hashable] = {str(name): name for name in graph.nodes if not isinstance(name, str)}
    known |= {name: name for name in graph.nodes if isinstance(name, str)}
    found = []
    for text in texts:
        name = text if text in known else text.strip()
        if name not in known:
            raise InputError(
                f"--{what}: expected names of nodes, got {shown(text)}. Use those of this graph: "
                f"{show(np.arange(graph.num_nodes), graph.nodes)}."
            )
        found.append(known[name])
    return found


def _weight(options: argparse.Namespace) -> str | int | None:
    """The column of the weights; False for none of them."""
    if options.no_weight and options.weight is not None:
        raise InputError(
            f"--no-weight: expected no --weight with it, got {shown(options.weight)}. Omit one of the two options."
        )
    return False if options.no_weight else _column(options.weight)


def _column(text: str | None) -> str | int | None:
    return int(text) if text is not None and _NUMBER.fullmatch(text) else text

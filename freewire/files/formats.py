# SPDX-License-Identifier: MIT
"""Reading and writing graphs, in the format that a file's suffix names.

In all formats a file is data only: nothing in it is executed, and its contents are checked as a caller's arguments are.
Networks with their weights are files of `freewire.nn.serialization`.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Collection, Hashable, Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import IO, Any, NamedTuple, TypeVar, cast

from freewire.errors import FileFormatError, GraphError, shown
from freewire.files.arrow_format import read_arrow
from freewire.files.atomic import replacing
from freewire.files.compression import compressed, decompress, refuse_compressed
from freewire.files.csv_format import read_csv, write_csv
from freewire.files.edge_tables import Nodes
from freewire.files.graphml import read_graphml, write_graphml
from freewire.files.json_format import read_json, write_json
from freewire.files.node_tables import read_arrow_nodes, read_csv_nodes, read_node_names
from freewire.files.npz_format import read_npz
from freewire.files.paths import memory_for, open_to_read, path_name
from freewire.graph import Graph
from freewire.graph.arguments import check_flag
from freewire.graph.data import GraphData

__all__ = ["read_graph", "write_graph"]

_Names = Iterable[Hashable] | None
_Read = TypeVar("_Read")


class Format(NamedTuple):
    """How one format is read and written.

    Attributes:
        read: Makes arrays from a path (for errors), the file's bytes, and the caller's inputs and outputs; raises
            `FileFormatError` or `GraphError`.
        write: Writes a graph to an open binary file; raises `GraphError` if the format cannot hold it. None: such
            files are only read.
        options: The further arguments of `read_graph` that ``read`` accepts.
        read_nodes: Reads a table of nodes from the same.
        opened: Whether files are read piece by piece: the functions get the open file and not its bytes.
    """

    read: Callable[..., GraphData]
    write: Callable[[Graph, IO[bytes]], None] | None
    options: tuple[str, ...] = ()
    read_nodes: Callable[..., Nodes] | None = None
    opened: bool = False


_ENDS = ("source", "target", "weight", "sign", "nodes")
_ARROW = Format(read_arrow, None, _ENDS, read_arrow_nodes, opened=True)
#: By suffix in lower case. Each that is written may be followed by `GZIP`.
FORMATS = {
    ".graphml": Format(read_graphml, write_graphml),
    ".csv": Format(read_csv, write_csv, (*_ENDS, "header"), read_csv_nodes),
    ".json": Format(read_json, write_json),
    ".parquet": _ARROW,
    ".feather": _ARROW,
    ".npz": Format(read_npz, None, ("nodes",), opened=True),
}
GZIP = ".gz"
#: What to do about files of other suffixes.
_REMEDIES = {
    **dict.fromkeys((".bz2", ".xz", ".zip", ".zst"), "Of compressed files only gzip's are read: decompress it first."),
    **dict.fromkeys((".tsv", ".tab"), "Rename it to .csv, whose cells tabs may separate too."),
    **dict.fromkeys(
        (".gml", ".gexf", ".edgelist", ".adjlist", ".net", ".dot", ".pkl", ".pickle", ".gpickle"),
        "Let networkx read or write it, with Graph.from_networkx and Graph.to_networkx.",
    ),
    **dict.fromkeys((".safetensors", ".pt", ".pth"), "Networks are in .safetensors, which fw.save and fw.load use."),
    **dict.fromkeys((".png", ".svg", ".pdf", ".html"), "Pictures are made by fw.plot and `python -m freewire plot`."),
}


def read_graph(
    path: str | bytes | os.PathLike[str],
    inputs: Iterable[Hashable] | None = None,
    outputs: Iterable[Hashable] | None = None,
    activation: str = "relu",
    output_activation: str = "linear",
    *,
    source: str | int | None = None,
    target: str | int | None = None,
    header: bool | None = None,
    weight: str | int | None = None,
    sign: str | int | None = None,
    nodes: str | bytes | os.PathLike[str] | Iterable[Hashable] | None = None,
    recurrent: bool = False,
) -> Graph:
    r"""Read a graph from a file that `write_graph` or another program wrote.

    Time is linear in the file's size, and memory at most 48 times that, whoever wrote the file; usual files take 4
    to 8 times their size. Parquet, Feather and ``.npz`` may be compressed: they are refused if they would decompress to
    more than 100 times their size, and 25 million edges take 2 GiB.

    - ``.csv``: an edge list, one edge per line, with a comma, semicolon or tab between cells. With a header, an
      edge's ends are the columns source and target (or pre and post, from and to, ``:START_ID`` and ``:END_ID``, or
      another of the known pairs of names), else the only two besides ``weight``, ``sign``, ``frozen``, ``group`` and
      ``delay``; these are read, and other columns ignored. Without a header the columns are source, target and
      perhaps weight. An empty cell means no value. Nodes are ordered by number if all names are integers, else by first
      occurrence.
    - ``.parquet``, ``.feather``: the same as a table of columns, which the optional package pyarrow reads. Names are
      integers or texts, as the column's type says.
    - ``.npz``: an adjacency matrix that ``scipy.sparse.save_npz`` wrote, in the formats csr, csc, coo and bsr, read as
      `Graph.from_adjacency` does. Nodes are numbered 0 to N-1, or named by ``nodes``.
    - ``.graphml``: directed, as networkx, Gephi, igraph, graph-tool and yEd write it. A node's name is its id; in
      igraph's files, whose ids are n0, n1, ..., it is the attribute ``name`` if there is one; then all nodes need a
      text there. Labels (Gephi's and yEd's) are not read.
    - ``.json``: networkx's node-link format, with a list "edges" or "links"; null means no value. Or a network that
      neat-python exported (its format 1.0), feed-forward or recurrent: gains and responses become part of weights and
      biases, and a function that freewire has not, such as ``hat``, becomes a few nodes, of which the last has the
      number; see docs/evolution.md.
    - ``.csv.gz``, ``.graphml.gz``, ``.json.gz``: the same, compressed by gzip. A file that decompresses to more than
      100 times its size (and more than 16 MiB), or to more than 1 GiB, is refused: decompress it first.

    Tables of connectomes are known by their columns: FlyWire's ``Presynaptic_Index``, ``Postsynaptic_Index`` and
    ``Excitatory x Connectivity``, a weight with its sign (its ids, if they are there too, are read where ``source`` and
    ``target`` name them), and ``pre_root_id``, ``post_root_id``, ``syn_count``; neuPrint's ``bodyId_pre``,
    ``bodyId_post``, ``weight``, and ``:START_ID(Body-ID)``, ``:END_ID(Body-ID)``; MICrONS' ``pre_pt_root_id``,
    ``post_pt_root_id``, and ``size`` or ``n_syn``. Ids are exact: those beyond 64 bits, and ids stored as floats, are
    refused. Each row is an edge, also where rows have the same ends.

    Nothing in a table is guessed: what could be read in two ways raises, and the message names the choice.

    - The first row is a header if it has a known pair of names, if it has no number while the nodes below are
      integers, or if its third cell is not a number. It is not a header if it has a number or an empty end. Two
      columns of texts without a known pair could be either: pass ``header``.
    - Several known pairs, more columns than two that could be ends, more than three columns without a header, and
      names without a direction (head and tail, i and j): pass ``source`` and ``target``.
    - A known pair whose names are also nodes below: pass ``header``. Only ``source,target`` is always a header.
    - Two columns of weights, such as ``size`` and ``n_syn``, or none of a known name but other columns of numbers (not
      those whose names end in id, index or key): pass ``weight``, or ``weight=False`` for none.
    - Rows that two characters divide evenly: write ``sep=;``, as spreadsheets do, as the first line.
    - Lines at the top that begin with ``#`` are comments; one of SNAP's may hold the header. Anywhere else, and at the
      top where one could be an edge, such a line is refused: put quotes around a name that begins with ``#``.
    - A matrix, with the same names in its first row and column, is refused: use `Graph.from_adjacency`.
    - Names with control characters, such as a line break inside quotes, are refused.

    Files of unusual size are refused: in CSV rows of more than 262,144 characters or 1,000 columns, in GraphML tags and
    comments of more than 1 MiB or 256 elements inside each other, in JSON more than 100 names of one hash value.

    In CSV and GraphML, names are integers if all of them are integers of 64 bits as Python writes them, else strings.
    Attributes mean what they do in `Graph.from_networkx`; others are ignored, except that in GraphML and JSON one such
    as ``Weight`` is refused, since it differs from ``weight`` by case alone. Edges whose attribute or column ``type``
    is ``Undirected`` (Gephi), ``mutual`` or ``EJ``, or whose ``directed`` is ``false``, are refused in all formats.

    Args:
        path: The file. Its suffix, in lower or upper case, names the format.
        inputs: As in `Graph.from_networkx`, like all arguments below.
        outputs: Node names.
        activation: Activation of the computed nodes that have none in the file.
        output_activation: Activation of the outputs that have none in the file.
        source: For tables (CSV, Parquet, Feather): the column of an edge's source, its name or its number from 0; with
            ``target`` or not at all.
        target: For tables: the column of an edge's target.
        header: For CSV: whether the first row names the columns. Default: decided by the rules above.
        weight: For tables: the column of the weights; False: none is read. Default: decided by the rules above.
        sign: For tables: the column of the signs, -1, 0 or 1. If it is that of the weights too, the sign of each.
            Default: the column ``sign``, if there is one.
        nodes: For tables and matrices: all nodes in order, a list of names or the path of a table of nodes (CSV with a
            header, Parquet, Feather) with one column of names (``name``, ``id``, ``root_id``, ``bodyId``, ``:ID``, or
            the unnamed index of pandas) and perhaps ``activation``, ``aggregation``, ``bias`` and ``leak``. Nodes
            without edges are kept, and edges of others raise. Where the names of an edge's columns end in index, these
            hold row numbers of it, from 0. Default: the nodes that edges name.
        recurrent: Whether cycles are allowed.

    Raises:
        FileNotFoundError: The file does not exist.
        OSError: The file cannot be read: a `PermissionError`, an `IsADirectoryError` for a folder, ...
        InputError: ``path`` is not a path, but an open file, for example.
        FileFormatError: The suffix is unknown, or the file is damaged or can be read in two ways; the message says
            where.
        BuildError: The file is .parquet or .feather, and pyarrow is not installed.
        GraphError: An undirected graph, an argument of another format, or as `Graph.from_networkx`: a cycle, an
            unknown node, a NaN weight.
        OutOfMemoryError: There is not enough memory.

    Example:
        >>> import freewire as fw, tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp(), "wires.csv")
        >>> _ = path.write_text("pre,post,weight\nx,h,0.5\nx,y,-1\nh,y,2\n")
        >>> g = fw.read_graph(path, activation="tanh")
        >>> g.nodes, g.weight.tolist()
        (('x', 'h', 'y'), [0.5, -1.0, 2.0])
    """
    name = path_name(path)
    suffix, _ = _format(name)
    form = FORMATS[suffix]
    given: dict[str, Any] = dict(source=source, target=target, header=header, weight=weight, sign=sign, nodes=nodes)
    options = {option: value for option, value in given.items() if value is not None}
    for option in options:
        if option not in form.options:
            suffixes = ", ".join(each for each, other in FORMATS.items() if option in other.options)
            raise GraphError(
                f"{option}: expected None for {suffix}, got {shown(options[option])}. It is for {suffixes} files."
            )
    recurrent = check_flag("recurrent", recurrent)
    if nodes is not None:
        options["nodes"] = _read_nodes(nodes)
    data = _load(name, "graph file", lambda content: form.read(name, content, inputs, outputs, **options))
    if not len(data.names):
        what, remedy = ("edge", "Write one on each line") if "source" in form.options else ("node", "Add nodes")
        raise GraphError(f"{name}: expected at least one {what}, got none. {remedy}.")
    data = replace(data, default_activation=(activation, output_activation))
    with memory_for(name, "a few hundred bytes for each of its edges"):
        return Graph.from_data(replace(data, recurrent=True) if recurrent else data)


def _load(name: str, kind: str, read: Callable[[Any], _Read]) -> _Read:
    """What ``read`` makes of a file's bytes, or of the open file, as its format has it."""
    suffix, is_compressed = _format(name)
    opened = FORMATS[suffix].opened
    needed = f"up to 48 times the {'decompressed ' if is_compressed else ''}file's size"
    with memory_for(name, "a few times its columns, decompressed" if opened else needed):
        with open_to_read(name, kind) as file:
            if opened:
                with io.BufferedReader(cast("io.RawIOBase", file)) as stream:
                    return read(stream)
            content = file.read()
        if is_compressed:
            content = decompress(name, content)
        refuse_compressed(name, content, is_compressed)
        return read(content)


def _read_nodes(nodes: Any) -> Nodes:
    """Read the argument ``nodes``: a path or a list of names."""
    if not isinstance(nodes, str | bytes | os.PathLike):
        return read_node_names(nodes)
    name = path_name(nodes)
    suffix, _ = _format(name, [suffix for suffix, form in FORMATS.items() if form.read_nodes], "nodes")
    read = FORMATS[suffix].read_nodes
    assert read is not None
    return _load(name, "table of nodes", lambda content: read(name, content))


def write_graph(graph: Graph, path: str | bytes | os.PathLike[str]) -> None:
    """Write a graph to a file from which `read_graph` makes an equal one; an interrupted write keeps any older file.

    Any number of threads and processes may write to one path at once, and read it: it is whole at all times.

    - ``.json``: networkx's node-link format of `Graph.to_networkx`, with a list "edges". It holds every graph.
      Infinite weights are ``Infinity``, as Python's own JSON reader and writer have them.
    - ``.graphml``: networkx's GraphML of `Graph.to_networkx`.
    - ``.csv``: a plain edge list, ``source,target`` and those of ``weight``, ``sign``, ``frozen``, ``group`` and
      ``delay`` that are stored. A graph that is more than its edges raises: one with biases, isolated nodes, other
      inputs and outputs than the nodes of in-degree and out-degree 0, other functions than ``relu`` (``linear`` at
      outputs) and ``sum``, or nodes in an order that a reader would not restore.
    - ``.csv.gz``, ``.graphml.gz``, ``.json.gz``: the same, compressed by gzip; equal graphs make equal files.

    Args:
        graph: The graph. In CSV and GraphML its names must be only strings (at least one of which does not look like
            an integer) or only integers; in JSON str, int, float, bool or tuples of them.
        path: The file. Its suffix, in lower or upper case, names the format. An existing file keeps its permissions.

    Raises:
        FileNotFoundError: The folder does not exist.
        OSError: The file cannot be written: a `PermissionError`, an `IsADirectoryError`, a full disk, ...
        InputError: ``path`` is not a path, but an open file, for example.
        FileFormatError: The suffix is unknown.
        GraphError: The format cannot hold the graph or its node names.

    Example:
        >>> import freewire as fw, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "mlp.json")
        >>> fw.write_graph(fw.generators.mlp([2, 3, 1]), path)
        >>> fw.read_graph(path)
        Graph(6 nodes, 2 inputs, 1 outputs, 9 edges, depth 2)
    """
    if not isinstance(graph, Graph):
        raise GraphError(
            f"graph: expected a freewire Graph, got {type(graph).__name__}. Use Graph.from_networkx, or fw.save for a "
            "Network."
        )
    suffix, is_compressed = _format(path_name(path), [suffix for suffix, form in FORMATS.items() if form.write])
    write = FORMATS[suffix].write
    assert write is not None
    with replacing(path) as file, compressed(file) if is_compressed else nullcontext(file) as stream:
        write(graph, stream)


def _format(name: str, suffixes: Collection[str] = FORMATS, argument: str = "path") -> tuple[str, bool]:
    """The key of `FORMATS`, among ``suffixes``, that a file's name ends in, and whether it is compressed."""
    stem, suffix = os.path.splitext(name.lower())
    is_compressed = suffix == GZIP
    if is_compressed:
        suffix = os.path.splitext(stem)[1]
    if suffix not in suffixes or (is_compressed and FORMATS[suffix].opened):
        plain = [each for each in suffixes if FORMATS[each].opened]
        listed = f"{', '.join(each for each in suffixes if each not in plain)}, or one of these and {GZIP}"
        if plain:
            listed += f", or {', '.join(plain)}"
        if suffix in FORMATS:
            remedy = f"Decompress it first: only {suffix} is read." if suffix in suffixes else "Choose one of those."
        else:
            remedy = _REMEDIES.get(suffix, "Rename it.")
        raise FileFormatError(f"{argument}: expected a name that ends in {listed}, got {shown(name)}. {remedy}")
    return suffix, is_compressed

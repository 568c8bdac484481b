# SPDX-License-Identifier: MIT
"""Networks on disk: one safetensors file holds the graph, its node names and the weights.

A file is data only, and everything in it is checked as a caller's arguments are, so that a file from anywhere can be
opened: nothing in it is ever executed.

The tensors of a file, all little-endian as safetensors requires: ``weight [E]``; ``bias [computed nodes]``, absent
without biases; ``edge_index`` int64 ``[2, E]``; ``inputs`` and ``outputs`` int64, node indices; each field of role
"wiring" or "constraint" under its name (`freewire.graph.fields`), so ``activation`` and ``aggregation`` uint8 ``[N]``;
where edges are tied, ``scale [groups]`` in the weights' type, and ``base`` float64, of the edges in groups, NaN for
none; of a recurrent network whose leaks are learnt ``learnt_leak``, in the weights' type; ``names`` uint8, one JSON
text after another, with ``name_ends`` int64 ``[N]``, both absent where nodes are numbered 0 to N-1. Names are not in
safetensors' own metadata because those are part of a header that may not exceed 100 MB.

The package safetensors maps the files that it reads, and a process that touches a map of a file which has become
shorter is killed; the files that it writes are not on the disk yet when it returns. So it is given bytes and returns
bytes, and `freewire.files` reads and writes them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes
from torch import Tensor, nn

from freewire.constraints.application import apply_graph, is_constrained, originals, refreeze
from freewire.errors import FileFormatError, InputError, cut, shown
from freewire.files.atomic import replacing
from freewire.files.names import check_hashes, decoded, encoded, repeated
from freewire.files.paths import memory_for, open_to_read, path_name
from freewire.graph import Graph
from freewire.graph.arguments import MAX_NODES, plain
from freewire.graph.data import GraphData
from freewire.graph.fields import EDGE_FIELDS, FIELDS
from freewire.nn.checks import check_device, check_values
from freewire.nn.network import Network
from freewire.nn.recurrent import Recurrent
from freewire.ops.dtypes import check_dtype

__all__ = ["load", "save"]

_FORMAT = "freewire network 1"
_RECURRENT_FORMAT = "freewire recurrent network 1"
#: Arguments of a recurrent network that are in its file, as whole numbers.
_OPTIONS = ("batch_first", "steps", "learn_leak", "checkpoint_every")
#: Roles of the fields that are in a file.
_SAVED = ("wiring", "constraint")


def save(net: Network | Recurrent, path: str | bytes | os.PathLike[str]) -> None:
    """Write a network, wiring and weights, to one file; an interrupted write leaves any older file whole.

    Any number of threads and processes may save to one path at once, and load from it: the file is whole at all times.

    Args:
        net: The network, recurrent or not. Its node names must be str, int, float, bool or tuples of them.
        path: The file to write; ``.fw.safetensors`` or ``.safetensors`` is the usual suffix. An existing file keeps
            its permissions, a symbolic link is followed, and a device or a pipe is written to.

    Raises:
        FileNotFoundError: The folder does not exist.
        OSError: The file cannot be written: a `PermissionError`, an `IsADirectoryError`, a full disk, ...
        InputError: A node name of another type, or one that would not be read back equal; ``net`` is not a network, is
            on the meta device or has weights of another type; or ``path`` is not a path, but an open file, for example.

    Example:
        >>> import freewire as fw, tempfile, os
        >>> path = os.path.join(tempfile.mkdtemp(), "net.safetensors")
        >>> fw.save(fw.Network(fw.generators.mlp([2, 3, 1])), path)
        >>> fw.load(path).graph
        Graph(6 nodes, 2 inputs, 1 outputs, 9 edges, depth 2)
    """
    if not isinstance(net, Network | Recurrent):
        remedy = "Use torch.save for other modules."
        if isinstance(net, Graph):
            remedy = "Use fw.write_graph for a graph."
        elif isinstance(path, Network | Recurrent):
            remedy = "The network comes first: fw.save(net, path)."
        elif isinstance(getattr(net, "network", None), Network):  # a fw.Model
            remedy = "Pass its network: fw.save(model.network, path)."
        raise InputError(f"net: expected a freewire Network, got {type(net).__name__}. {remedy}")
    check_dtype(net.weight.dtype, "network")
    check_values(net.weight)
    graph = net.graph
    tensors: dict[str, Tensor] = {
        "weight": net.weight.detach(),
        "edge_index": _tensor(graph.edge_index),
        "inputs": _tensor(graph.input_index),
        "outputs": _tensor(graph.output_index),
        **{field.name: _tensor(array) for field, array in graph.to_data().stored() if field.role in _SAVED},
    }
    if graph.group is not None and is_constrained(net):
        tensors["scale"] = originals(net)[0].detach()
        if graph.weight is not None:
            tensors["base"] = _tensor(graph.weight[graph.group >= 0])
    if net.bias is not None:
        tensors["bias"] = net.bias.detach()
    if not isinstance(graph.nodes, range):
        texts = [json.dumps(name).encode() for name in encoded(graph.nodes, InputError)]
        tensors["names"] = _tensor(np.frombuffer(b"".join(texts), np.uint8))
        tensors["name_ends"] = _tensor(np.cumsum([len(text) for text in texts], dtype=np.int64))
    metadata = {"nodes": str(graph.num_nodes)}
    if isinstance(net, Network):
        metadata |= {"format": _FORMAT, "checkpoint": str(int(net.checkpoint))}
    else:
        options = {name: int(getattr(net, name) or 0) for name in _OPTIONS}
        metadata |= {"format": _RECURRENT_FORMAT, **{name: str(value) for name, value in options.items()}}
        if net.leak is not None:
            tensors["learnt_leak"] = net.leak.detach()
    content = tensor_bytes({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, metadata)
    with replacing(path) as file:
        file.write(content)


def load(path: str | bytes | os.PathLike[str], device: torch.device | str | None = None) -> Network | Recurrent:
    """Read a network that `save` wrote. Nothing in the file is executed, whoever wrote it.

    Args:
        path: The file.
        device: The device of the parameters. Default: the CPU.

    Raises:
        FileNotFoundError: The file does not exist.
        OSError: The file cannot be read: a `PermissionError`, an `IsADirectoryError` for a folder, ...
        InputError: ``path`` is not a path, but an open file, for example.
        FileFormatError: The file is cut short, changed, of a later version, or not freewire's.
        OutOfMemoryError: There is not enough memory. On a GPU it is torch's own error.
    """
    name = path_name(path)
    device = torch.device("cpu" if device is None else device)  # raises here: a wrong one is not the file's fault
    check_device(device, "device")
    with memory_for(name, "several times the file's size"):
        with open_to_read(name, "freewire file") as file:
            content = file.read()
        try:
            tensors = read_tensors(content)
            header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        except (SafetensorError, KeyError, ValueError, TypeError, RuntimeError, RecursionError) as error:
            raise FileFormatError(
                f"{name}: expected a whole safetensors file, got one that cannot be read ({cut(error)}). "
                "It is cut short or not a freewire file: save it again."
            ) from error
        del content  # tensors are copies
        metadata = header.get("__metadata__") or {}
        if "format" not in metadata:
            raise FileFormatError(
                f"{name}: expected a file that fw.save wrote, got a safetensors file without freewire's format entry. "
                "Read its tensors with safetensors.torch.load_file."
            )
        found = metadata["format"]
        if found not in (_FORMAT, _RECURRENT_FORMAT):
            raise FileFormatError(
                f"{name}: expected a {shown(_FORMAT)} file, got {shown(found)}. "
                "Load files that fw.save wrote, with the same or a newer freewire."
            )
        try:
            return _network(metadata, tensors, device)
        except (KeyError, ValueError, TypeError, IndexError, OverflowError, RecursionError) as error:
            raise FileFormatError(
                f"{name}: expected the contents of a freewire network, got something else "
                f"({cut(type(error).__name__)}: {cut(error)}). The file has been changed or damaged: save it again."
            ) from error


def _network(metadata: dict[str, str], tensors: dict[str, Tensor], device: Any) -> Network | Recurrent:
    """Check a file's contents and build the network; any inconsistency raises ValueError or another builtin error."""
    num_nodes = int(plain(metadata["nodes"]))
    if not 0 <= num_nodes < MAX_NODES:
        raise ValueError(f"nodes is {num_nodes}")
    edges = _array(tensors, "edge_index", torch.int64, (2, None))
    fields = {}
    for field in FIELDS:
        # A file from before a field existed lacks it; fields with a default are in every file.
        if field.role in _SAVED and (field.default is not None or field.name in tensors):
            shape = edges.shape[1] if field.element == "edge" else num_nodes
            fields[field.name] = array = _array(tensors, field.name, _tensor(field.empty(0)).dtype, (shape,))
            legal = field.legal(array)
            if field.default is None:
                legal |= field.is_missing(array)
            if not legal.all():
                raise ValueError(f"{field.name} has the illegal value {array[~legal][0]}")
    ends = [_array(tensors, name, torch.int64, (None,)) for name in ("inputs", "outputs")]
    for name, array in (("edge_index", edges), ("inputs", ends[0]), ("outputs", ends[1])):
        if array.size and not (array.min() >= 0 and array.max() < num_nodes):
            raise ValueError(f"{name} points outside the {num_nodes} nodes")
    names: Sequence[Hashable] = range(num_nodes)
    if "names" in tensors:
        names = _names(
            _array(tensors, "names", torch.uint8, (None,)),
            _array(tensors, "name_ends", torch.int64, (num_nodes,)),
        )
    graph = Graph.from_data(GraphData(names, edges[0], edges[1], ends[0], ends[1], fields))
    if not np.array_equal(graph.edge_index, edges):
        raise ValueError("edges are not in canonical order")
    del edges, array, tensors["edge_index"]  # most of the file; planning needs memory too
    weight, bias = tensors["weight"], tensors.get("bias")
    if weight.shape != (graph.num_edges,) or (bias is not None and bias.shape != (len(graph.computed_index),)):
        raise ValueError("weights or biases do not match the graph in number")
    if bias is not None and bias.dtype != weight.dtype:
        raise ValueError("weights and biases differ in type")
    # On meta nothing is drawn. Copies are aligned in memory, as the tensors of safetensors need not be.
    free = graph.with_constraints(**{field.name: None for field in EDGE_FIELDS if field.role == "constraint"})
    net = _empty(metadata, free, bias=bias is not None, dtype=weight.dtype)
    net.weight = nn.Parameter(weight.to(device, copy=True))
    if bias is not None:
        net.bias = nn.Parameter(bias.to(device, copy=True))
    if isinstance(net, Recurrent) and net.leak is not None:
        leak = tensors["learnt_leak"]
        if leak.shape != net.leak.shape or leak.dtype != weight.dtype:
            raise ValueError("leaks do not match the graph")
        net.leak = nn.Parameter(leak.to(device, copy=True))
    net.to(device)  # and the plan with it
    _constrain(net, graph, tensors)
    return net


def _empty(metadata: dict[str, str], graph: Graph, bias: bool, dtype: torch.dtype) -> Network | Recurrent:
    """A file's network on the meta device, without values."""
    if metadata["format"] == _FORMAT:
        return Network(graph, bias=bias, checkpoint=metadata["checkpoint"] == "1", device="meta", dtype=dtype)
    options = {name: int(plain(metadata[name])) for name in _OPTIONS}
    return Recurrent(
        graph,
        bias=bias,
        batch_first=options["batch_first"] == 1,
        steps=options["steps"],
        learn_leak=options["learn_leak"] == 1,
        checkpoint_every=options["checkpoint_every"] or None,
        device="meta",
        dtype=dtype,
    )


def _constrain(net: Network | Recurrent, graph: Graph, tensors: dict[str, Tensor]) -> None:
    """Apply the constraints of a graph to a network that has the weights of a file."""
    if "base" in tensors and graph.group is not None:
        tied = graph.group >= 0
        base = np.full(graph.num_edges, np.nan)
        base[tied] = _array(tensors, "base", torch.float64, (int(tied.sum()),))
        graph = graph.with_values(base)
    apply_graph(net, graph)
    if graph.group is not None:
        scale = originals(net)[0]
        if tensors["scale"].shape != scale.shape or tensors["scale"].dtype != scale.dtype:
            raise ValueError("scales do not match the groups")
        with torch.no_grad():
            scale.copy_(tensors["scale"])
            refreeze(net, tensors["weight"])
    if is_constrained(net):
        found = net.weight.detach()
        if not torch.allclose(found, tensors["weight"].to(found.device), rtol=0.0, atol=0.0, equal_nan=True):
            raise ValueError("weights do not fit the constraints")


def _tensor(array: Any) -> Tensor:
    return torch.from_numpy(np.array(array))  # a copy: a graph's arrays are read-only, which torch ignores


def _array(tensors: dict[str, Tensor], name: str, dtype: torch.dtype, shape: tuple[int | None, ...]) -> Any:
    tensor = tensors[name]
    if (
        tensor.dtype != dtype
        or len(tensor.shape) != len(shape)
        or any(want is not None and have != want for have, want in zip(tensor.shape, shape, strict=True))
    ):
        raise ValueError(f"{name} is {tensor.dtype} of shape {list(tensor.shape)}")
    return tensor.numpy()


def _names(text: Any, ends: Any) -> tuple[Hashable, ...]:
    bounds = np.array([0, *ends.tolist()])
    if (bounds[1:] < bounds[:-1]).any() or bounds[-1] != len(text):  # not np.diff, which overflows
        raise ValueError("name_ends do not divide the names")

    whole = text.tobytes()
    begins = [0, *ends[:-1].tolist()]
    names = tuple(decoded(json.loads(whole[b:e])) for b, e in zip(begins, ends.tolist(), strict=True))
    if repeated(names) is not None:
        raise ValueError("two nodes have the same name")
    check_hashes(names)
    return names

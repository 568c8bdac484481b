# SPDX-License-Identifier: MIT
"""RandWire as others published it, from checkouts that the user names; none of their code is kept here or changed.

`MAKERS` maps a project's name to a function that takes a `freewire.models.RandWire` of the small regime and a
checkout's folder, and returns the project's own model, with its own initial values, on the same wiring: the code that
draws or reads a graph is given ours, so nodes and edges agree. The networks still differ, so their results are not
compared:

- seungwonpark/RandWireNN: a node with one in-edge has no gate; the three plain convolutions have biases; the outputs
  are logarithms of probabilities.
- JiaminRen/RandWireNN: such nodes have no gate either; the first two convolutions are separable, all convolutions have
  biases, there is a relu before the pooling, and the pooling is over 7 x 7, so images must be about 224 x 224.

The second was written for networkx 2: it writes the graph to a YAML file, which networkx 3 cannot, so that call is
patched out. Its ``utils`` is importable under that name while its model is imported.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import networkx as nx
from torch import nn

import freewire as fw
from benchmarks.peers.checkouts import load_from

__all__ = ["MAKERS", "SOURCES", "absent"]

#: Where to get the projects, by name.
SOURCES = {
    "seungwonpark": "https://github.com/seungwonpark/RandWireNN",
    "jiaminren": "https://github.com/JiaminRen/RandWireNN",
}
_MODEL_FILES = {"seungwonpark": "model/model.py", "jiaminren": "model.py"}
_POOLING = 7  # JiaminRen's, in rows and columns
_STRIDE = 32  # of the last stage


def absent(name: str, folder: str | None) -> str | None:
    """Why a peer cannot run, or None if its checkout is there.

    Args:
        name: One of `SOURCES`.
        folder: Its checkout, if one was given.
    """
    if folder is None:
        return f"no checkout given: git clone {SOURCES[name]}, then --checkout {name}=PATH"
    if not (Path(folder) / _MODEL_FILES[name]).is_file():
        return f"the given checkout has no file {_MODEL_FILES[name]}: git clone {SOURCES[name]}"
    return None


def _seungwonpark(model: fw.models.RandWire, folder: Path, size: int) -> nn.Module | str:
    theirs = load_from(folder / "model", "_randwire_of_seungwonpark", "model")
    channels, classes = model.stages[0].in_channels, model.num_classes
    settings = SimpleNamespace(model=SimpleNamespace(channel=channels, classes=classes, input_maps=3))
    graphs = [
        {"num_nodes": stage.graph.num_nodes, "edges": [(u, v) for u, v in stage.graph.edge_index.T.tolist()]}
        for stage in model.stages
    ]
    made: nn.Module = theirs.RandWire(settings, graphs)
    return made


def _jiaminren(model: fw.models.RandWire, folder: Path, size: int) -> nn.Module | str:
    if -(-size // _STRIDE) != _POOLING:
        return (
            f"its pooling takes maps of {_POOLING} x {_POOLING}, images of {_STRIDE * _POOLING} x {_STRIDE * _POOLING}"
        )
    package = "_randwire_of_jiaminren"
    taken = sys.modules.get("utils")
    sys.modules["utils"] = load_from(folder, package, "utils")
    try:
        theirs = load_from(folder, package, "model")
    finally:
        if taken is None:
            del sys.modules["utils"]
        else:
            sys.modules["utils"] = taken
    # It directs edges from the smaller number to the larger, as our WS graphs do.
    graphs = [nx.Graph(stage.graph.edge_index.T.tolist()) for stage in model.stages]
    settings = SimpleNamespace(
        channels=model.stages[0].in_channels, net_type="small", resume=False, nodes=0, model_dir=""
    )
    with mock.patch.object(theirs, "build_graph", side_effect=graphs), mock.patch.object(theirs, "save_graph"):
        made: nn.Module = theirs.CNN(settings, model.num_classes)
    return made


#: By name, a function of a model, a checkout and the images' height. It returns the module, or why it cannot run.
MAKERS: dict[str, Callable[[fw.models.RandWire, Path, int], nn.Module | str]] = {
    "seungwonpark": _seungwonpark,
    "jiaminren": _jiaminren,
}

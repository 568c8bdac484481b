# SPDX-License-Identifier: MIT
"""RandWire as others published it: from checkouts that the user names, nothing of which is kept here or changed.

Enters: a `freewire.models.RandWire` of the small regime, and a checkout's folder. Leaves: the project's own model, with
its own start values, on the same wiring: what draws or reads a graph is given ours, so that the nodes and the edges
agree. The networks are not the same all the same, so their results are not compared:

- seungwonpark/RandWireNN: a node that hears one other has no gate; biases in the three plain convolutions; the outputs
  are logarithms of probabilities.
- JiaminRen/RandWireNN: no gate there either; the first two convolutions are separable ones, all convolutions have
  biases, a relu stands before the pooling, and that is over 7 x 7, so it takes images of about 224 x 224 only.

Around the second, which was written for networkx 2: writing the graph to a YAML file, which networkx 3 cannot, is left
out, and its ``utils`` is found under that name while its model is imported.
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

#: By name, where the projects can be had.
SOURCES = {
    "seungwonpark": "https://github.com/seungwonpark/RandWireNN",
    "jiaminren": "https://github.com/JiaminRen/RandWireNN",
}
_MODEL_FILES = {"seungwonpark": "model/model.py", "jiaminren": "model.py"}
_POOLING = 7  # JiaminRen's, in rows and columns
_STRIDE = 32  # of the last stage


def absent(name: str, folder: str | None) -> str | None:
    """Why a peer is left out, or None if its checkout is there.

    Args:
        name: One of `SOURCES`.
        folder: Its checkout, if one was given.
    """
    if folder is None:
        return f"no checkout given: git clone {SOURCES[name]}, then --checkout {name}=PATH"
    if not (Path(folder) / _MODEL_FILES[name]).is_file():
        return f"the checkout given has no file {_MODEL_FILES[name]}: git clone {SOURCES[name]} gives one that has"
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
    # It makes edges run from the smaller number to the larger, as ours of WS graphs do.
    graphs = [nx.Graph(stage.graph.edge_index.T.tolist()) for stage in model.stages]
    settings = SimpleNamespace(
        channels=model.stages[0].in_channels, net_type="small", resume=False, nodes=0, model_dir=""
    )
    with mock.patch.object(theirs, "build_graph", side_effect=graphs), mock.patch.object(theirs, "save_graph"):
        made: nn.Module = theirs.CNN(settings, model.num_classes)
    return made


#: By name: from a model, a checkout and the images' height to the peer's module, or the reason why it cannot run.
MAKERS: dict[str, Callable[[fw.models.RandWire, Path, int], nn.Module | str]] = {
    "seungwonpark": _seungwonpark,
    "jiaminren": _jiaminren,
}

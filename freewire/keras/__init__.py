# SPDX-License-Identifier: MIT
"""The face of the 2019 library, Keras's way to train: Nodes, a Graph of them, a Model with compile and fit."""

from freewire.graph import Edge as Edge
from freewire.graph import Graph as Graph
from freewire.graph import Node as Node
from freewire.keras import callbacks as callbacks
from freewire.keras.callbacks import Callback as Callback
from freewire.keras.callbacks import EarlyStopping as EarlyStopping
from freewire.keras.callbacks import History as History
from freewire.keras.callbacks import LambdaCallback as LambdaCallback
from freewire.keras.callbacks import ModelCheckpoint as ModelCheckpoint
from freewire.keras.callbacks import TerminateOnNaN as TerminateOnNaN
from freewire.keras.densenet import neuron_level_densenet as neuron_level_densenet
from freewire.keras.drawing import visualize as visualize
from freewire.keras.model import Model as Model

__all__ = [
    "Callback",
    "EarlyStopping",
    "Edge",
    "Graph",
    "History",
    "LambdaCallback",
    "Model",
    "ModelCheckpoint",
    "Node",
    "TerminateOnNaN",
    "callbacks",
    "neuron_level_densenet",
    "visualize",
]

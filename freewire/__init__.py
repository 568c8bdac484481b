# SPDX-License-Identifier: MIT
"""freewire: freely wired neural networks, any directed acyclic graph of neurons run in one fused kernel.

Data flows one way: `Graph` (the wiring) -> `plan` -> `ops` -> kernel, wrapped by one module, `Network`.
"""

from freewire import constraints as constraints
from freewire import generators as generators
from freewire import keras as keras
from freewire import models as models
from freewire import plan as plan
from freewire import search as search
from freewire import studies as studies
from freewire.errors import BuildError as BuildError
from freewire.errors import FileFormatError as FileFormatError
from freewire.errors import FreewireError as FreewireError
from freewire.errors import GraphError as GraphError
from freewire.errors import InputError as InputError
from freewire.errors import OutOfMemoryError as OutOfMemoryError
from freewire.files import read_graph as read_graph
from freewire.files import write_graph as write_graph
from freewire.graph import Edge as Edge
from freewire.graph import Graph as Graph
from freewire.graph import Node as Node
from freewire.graph import metrics as metrics
from freewire.keras import Model as Model
from freewire.keras import neuron_level_densenet as neuron_level_densenet
from freewire.keras import visualize as visualize
from freewire.nn import Network as Network
from freewire.nn import Population as Population
from freewire.nn import Recurrent as Recurrent
from freewire.nn import load as load
from freewire.nn import reference as reference
from freewire.nn import save as save
from freewire.pictures import log_to_tensorboard as log_to_tensorboard
from freewire.pictures import plot as plot
from freewire.pictures import to_dot as to_dot
from freewire.pictures import to_html as to_html
from freewire.version import __version__ as __version__

# SPDX-License-Identifier: MIT
"""`Model`: a graph with weights that trains as in Keras: compile, fit, evaluate, predict.

It is an ``nn.Module`` around one `freewire.nn.Network`, which does all arithmetic, so whatever PyTorch can do with a
module works: ``to``, ``eval``, ``state_dict``, pickling, training loops of one's own. What it learns it writes to the
Nodes and Edges of its graph.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from freewire.errors import GraphError, InputError, shown
from freewire.graph import Graph
from freewire.graph.arguments import check_probability, check_whole
from freewire.graph.fields import ACTIVATIONS
from freewire.keras.callbacks import Callback, Callbacks, History
from freewire.keras.data import Data, check_together, read_sample, read_samples, read_tensor
from freewire.keras.losses import Loss, Outputs, find_loss, known_losses, read_targets
from freewire.keras.metrics import Metric, find_metrics
from freewire.keras.optimizers import find_optimizer, prepare_optimizer
from freewire.keras.progress import Progress
from freewire.keras.summary import describe
from freewire.keras.training import Mode, Task, measure, train
from freewire.nn import Network, load, save
from freewire.nn.initialisers import INITIALISERS, Initialiser, fill_stored, start_weights
from freewire.nn.wired import Wired

__all__ = ["Model"]


class Model(nn.Module):
    """A freely wired network that is trained as in Keras.

    Args:
        graph: The wiring, made of Nodes or not. Several Models of one graph are independent; Nodes and Edges show the
            one that wrote last.
        initialization: How weights start: ``"he"``, ``"xavier"``, ``"uniform"``, ``"self_normalized"`` or a function,
            see `freewire.Network`. Biases start at 0. Weights and biases that the graph stores, because they were set
            on its Edges and Nodes or for another reason, start with those values.
        device: Device of the parameters; inputs are moved to it. Default: the CPU.
        dtype: Their type. Default: torch's.

    Attributes:
        network: The `freewire.Network`, whose nodes are numbered, so that ``fw.save(model.network, path)`` works. Its
            softmax outputs are before the softmax.
        optimizer: The torch optimizer, after `compile`.
        history: What the last `fit` returned, or the present one is going to; None before.
        stop_training: A callback that sets it ends the training.

    Raises:
        GraphError: ``graph`` is no Graph.
        InputError: An unknown initialization.

    Example:
        >>> import torch, freewire as fw
        >>> x = [fw.Node(), fw.Node()]
        >>> h = [fw.Node(x, activation="sigmoid") for _ in range(5)]
        >>> m = fw.Model(fw.Graph(x, h, [fw.Node(h, activation="sigmoid")]))
        >>> m.compile(optimizer="adam", loss="mse")
        >>> history = m.fit([[0, 0], [1, 0], [0, 1], [1, 1]], [0, 1, 1, 0], epochs=3, verbose=0)
        >>> len(history.history["loss"]), m([0, 1]).shape
        (3, torch.Size([1, 1]))
    """

    optimizer: Optimizer | None
    _repr_svg_ = Wired._repr_svg_  # what a notebook shows

    def __init__(
        self,
        graph: Graph,
        initialization: str | Initialiser = "he",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(graph, Graph):
            raise GraphError(
                f"graph: expected a freewire Graph, got {type(graph).__name__}. Make one: fw.Graph(inputs, hidden, "
                "outputs)."
            )
        named = isinstance(initialization, str) and initialization in INITIALISERS
        if not (named or callable(initialization)):
            raise InputError(
                f"initialization: expected one of {', '.join(INITIALISERS)}, or a function, got "
                f"{shown(initialization)}. Choose one of those."
            )
        self.network = Network(graph.with_names(), init=initialization, device=device, dtype=dtype)
        drawn = self.network.weight.detach()
        with start_weights(self.network) as weight:
            fill_stored(weight.copy_(drawn), graph.weight)
            if graph.bias is not None and self.network.bias is not None:
                fill_stored(self.network.bias, graph.bias[graph.computed_index])
        self._graph = graph
        softmax = () if graph.node_lists is None else tuple(np.flatnonzero(graph.node_lists.softmax).tolist())
        self._outputs = Outputs(tuple(ACTIVATIONS[c] for c in graph.activation[graph.output_index].tolist()), softmax)
        self.optimizer = None
        self.loss_function: Loss | None = None
        self.metrics: tuple[Metric, ...] = ()
        self.history: History | None = None
        self.stop_training = False
        self.update_graph()

    # ------------------------------------------------------------------ what it is

    @property
    def graph(self) -> Graph:
        """The graph that the Model was made of."""
        return self._graph

    @property
    def weight(self) -> nn.Parameter:
        """The weights ``[E]``, in the graph's canonical edge order."""
        return self.network.weight

    @property
    def bias(self) -> nn.Parameter | None:
        """The biases ``[computed nodes]``, in node order."""
        return self.network.bias

    def count_params(self) -> int:
        """The number of weights and biases together; in 2019 it was that of edges, which is ``graph.num_edges``."""
        return sum(parameter.numel() for parameter in self.parameters())

    def summary(self) -> None:
        """Print nodes, activations, edges and parameters level by level."""
        print(describe(self._graph, self.count_params(), len(self._outputs.softmax)))

    def extra_repr(self) -> str:
        """The line that ``print(model)`` shows."""
        return f"softmax outputs: {len(self._outputs.softmax)}" if self._outputs.softmax else ""

    # ------------------------------------------------------------------ running it

    def forward(self, x: Any, output_grad: bool = False) -> Tensor:
        """Run the network.

        Args:
            x: ``[batch, I]``, or ``[I]`` for one sample, with a number per input: a tensor, an array or a list. It is
                converted to the Model's type and moved to its device.
            output_grad: Whether to compute the gradient of the sum of all results, which are one number for one sample
                and one output, by every weight and bias. It replaces the gradients that are there, and is written to
                the Nodes and Edges.

        Returns:
            ``[batch, O]``, with 1 for one sample; softmax outputs are probabilities.

        Raises:
            InputError: x has another width, or is no array of numbers.
        """
        samples = read_sample(x, len(self._graph.input_index), self.network.weight)
        if not output_grad:
            return self._outputs.normalise(self.network(samples))
        with torch.enable_grad():
            results = self._outputs.normalise(self.network(samples))
            self.zero_grad()
            results.sum().backward()
        self.update_graph()
        return results.detach()

    def predict(self, X: Any, batch_size: int = 256) -> Tensor:
        """The results for samples ``[B, I]``, ``[B, O]``, batch by batch and without gradients.

        Args:
            X: Samples: a tensor, an array or a list of lists.
            batch_size: Samples per call.
        """
        size = _check_batch_size(batch_size)
        x = read_samples(X, "X", len(self._graph.input_index), self.network.weight)
        with torch.no_grad(), Mode(self, training=False):
            return torch.cat([self(part) for part in x.split(size)])

    # ------------------------------------------------------------------ training it

    def compile(
        self,
        optimizer: Any,
        loss_function: Any = None,
        *,
        loss: Any = None,
        metrics: Any = None,
    ) -> None:
        """Choose how to train. This is Keras's ``compile``; torch's is ``torch.compile(model)``.

        Args:
            optimizer: A name of torch.optim in any case, such as ``"adam"``, with torch's settings (``"sgd"`` has a
                learning rate of 0.01); or an optimizer of ``model.parameters()``, its class, or a function that makes
                one of them, such as ``functools.partial(torch.optim.SGD, lr=0.1)``.
            loss_function: What to minimise: ``"mse"``, ``"mae"``, ``"huber"``, ``"crossentropy"`` (of softmax or linear
                outputs; targets are classes or probabilities), ``"bce"`` (of sigmoid or linear outputs), ...; a loss of
                torch.nn, or a function ``loss(outputs, targets)``.
            loss: The same, by Keras's name.
            metrics: What to measure besides: ``"accuracy"``, ``"mae"``, ``"mse"``, or functions
                ``metric(outputs, targets)`` of a batch that return means over it.

        Raises:
            InputError: An unknown name, a loss that does not fit the outputs, or an optimizer of another Model.
        """
        if (loss_function is None) == (loss is None):
            got = "none" if loss is None else "both loss and loss_function"
            raise InputError(f"loss: expected one loss, got {got}. Pass loss=, a function or one of {known_losses()}.")
        found = find_loss(loss if loss_function is None else loss_function, self._outputs)
        measured = find_metrics(metrics, found, self._outputs)
        self.optimizer = find_optimizer(optimizer, self.parameters())
        self.loss_function, self.metrics = found, measured  # all of them, or after an error none

    def fit(
        self,
        X: Any,
        y: Any,
        epochs: int = 1,
        batch_size: int = 32,
        shuffle: bool = True,
        validation_data: tuple[Any, Any] | None = None,
        validation_split: float = 0.0,
        callbacks: Callback | Iterable[Callback] | None = None,
        verbose: int | str = 1,
    ) -> History:
        """Train, and then write weights, biases and gradients to the Nodes and Edges.

        Args:
            X: Samples ``[B, I]``: a tensor, an array or a list of lists.
            y: Targets: ``[B, O]`` (or ``[B]`` for one output), or a class from 0 for each sample for crossentropy.
            epochs: How often to go through the samples.
            batch_size: Samples per step; the last batch of an epoch has what is left.
            shuffle: Whether to draw a new order in each epoch, from torch's generator.
            validation_data: ``(X, y)`` to measure loss and metrics on after each epoch.
            validation_split: Share of the samples, the last ones, that are set aside for that; 0 to 1.
            callbacks: `freewire.keras.Callback` objects.
            verbose: 0: silent. 1 or "auto": a progress bar on a terminal if tqdm is installed, else lines. 2: lines.

        Returns:
            The loss, the metrics and their ``val_`` twins of each epoch, as means over the samples.

        Raises:
            InputError: The Model is not compiled, or data have the wrong width, length, type or range.
        """
        size = _check_batch_size(batch_size)
        rounds = check_whole("epochs", epochs, 0, "It is how often to train on each sample.", error=InputError)
        share = check_probability("validation_split", validation_split, InputError)
        task, optimizer = self._task()
        prepare_optimizer(optimizer, self.parameters())
        data, validation = self._read(X, y, "X", "y"), None
        if validation_data is not None:
            if share:
                raise InputError(
                    f"validation_split: expected 0 beside validation_data, got {share}. Pass one of the two."
                )
            if not isinstance(validation_data, tuple | list) or len(validation_data) != 2:
                raise InputError(
                    f"validation_data: expected a pair (X, y), got {shown(validation_data)}. Pass samples and targets."
                )
            validation = self._read(*validation_data, "validation_data[0]", "validation_data[1]")
        elif share:
            kept = len(data.x) - round(share * len(data.x))
            if not 0 < kept < len(data.x):
                raise InputError(
                    f"validation_split: expected a share that leaves samples for both parts, got {share} of "
                    f"{len(data.x)} samples. Choose another, or pass validation_data."
                )
            validation, data = Data(data.x[kept:], data.y[kept:]), Data(data.x[:kept], data.y[:kept])
        history, steps = History(), -(-len(data.x) // size)
        hooks = Callbacks(callbacks, self, {"epochs": rounds, "steps": steps, "batch_size": size}, history)
        progress = Progress(verbose, rounds, steps)
        self.history, self.stop_training = history, False
        try:
            with Mode(self, training=True), torch.enable_grad():
                train(
                    task,
                    optimizer,
                    data,
                    validation,
                    model=self,
                    epochs=rounds,
                    batch_size=size,
                    shuffle=bool(shuffle),
                    callbacks=hooks,
                    progress=progress,
                )
        finally:  # after an interrupt too
            progress.close()
            self.update_graph()
        return history

    def evaluate(
        self,
        X: Any,
        y: Any,
        batch_size: int = 256,
        return_dict: bool = False,
    ) -> float | list[float] | dict[str, float]:
        """Measure the loss and the metrics.

        Args:
            X: As in `fit`.
            y: As in `fit`.
            batch_size: Samples per call.
            return_dict: Whether to return a dictionary.

        Returns:
            As in Keras: the loss if there are no metrics, else a list of the loss and the metrics; or a dictionary.

        Raises:
            InputError: As in `fit`.
        """
        size = _check_batch_size(batch_size)
        task, _ = self._task()
        data = self._read(X, y, "X", "y")
        with Mode(self, training=False):
            found = measure(task, data, size)
        if return_dict:
            return found
        return list(found.values()) if self.metrics else found["loss"]

    def _task(self) -> tuple[Task, Optimizer]:
        if self.loss_function is None or self.optimizer is None:
            raise InputError(
                "model: expected one that has been compiled, got one that has not. Call model.compile(optimizer, loss)."
            )
        if isinstance(self.loss_function.function, nn.Module):
            self.loss_function.function.to(self.network.weight)  # class weights, say
        return Task(self.network, self._outputs, self.loss_function, self.metrics), self.optimizer

    def _read(self, samples: Any, targets: Any, name_x: str, name_y: str) -> Data:
        assert self.loss_function is not None
        like = self.network.weight
        x = read_samples(samples, name_x, len(self._graph.input_index), like)
        y = read_tensor(targets, name_y)
        check_together(x, y, name_x, name_y)
        return Data(x, read_targets(y, self.loss_function, self._outputs.count, like, name_y))

    # ------------------------------------------------------------------ what was learnt

    def update_graph(self) -> Graph:
        """Write weights, biases and their gradients to the Nodes and Edges; making and fitting a Model calls it.

        Returns:
            The graph; one that was not made of Nodes cannot change, and so a copy that stores weights and biases.
        """
        network, lists, position = self.network, self._graph.node_lists, self._graph.edge_position
        weight, bias = _array(network.weight), self._of_nodes(network.bias)
        if lists is None:
            return self._graph if weight is None else self._graph.with_values(weight, bias)
        lists.weight = None if weight is None else weight[position]
        grad = _array(network.edge_gradient())
        lists.weight_grad = None if grad is None else grad[position]
        lists.bias = bias
        lists.bias_grad = self._of_nodes(_gradient(network.bias))
        return self._graph

    def _of_nodes(self, values: Tensor | None) -> Any:
        """Numbers of the computed nodes as numbers of all nodes, 0 at inputs."""
        computed = _array(values)
        if computed is None:
            return None
        found = np.zeros(self._graph.num_nodes)
        found[self._graph.computed_index] = computed
        return found

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the network, wiring and weights, to a safetensors file, atomically; `freewire.load` reads it too.

        Args:
            path: The file; see `freewire.save`.
        """
        save(self.network, path)

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        """Read the weights and biases of a file that `save_weights` or `freewire.save` wrote.

        Args:
            path: The file.

        Raises:
            InputError: The file is of another wiring. The weights are then as before.
            FileFormatError: The file is damaged or of another format.
        """
        self.network.load_state_dict(load(path).state_dict())
        self.update_graph()


def _check_batch_size(given: Any) -> int:
    return check_whole("batch_size", given, 1, "It is the number of samples per step.", error=InputError)


def _gradient(values: Tensor | None) -> Tensor | None:
    """That of a parameter; None for what a parametrization computes, which keeps no gradient."""
    return values.grad if values is not None and values.is_leaf else None


def _array(values: Tensor | None) -> Any:
    """A tensor's numbers as float64, or None, which those of the meta device are too."""
    return None if values is None or values.is_meta else values.detach().double().cpu().numpy()

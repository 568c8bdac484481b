# SPDX-License-Identifier: MIT
"""`Graph`: which node reads which, checked once and immutable from then on.

A graph is made from a networkx graph, edge arrays, an adjacency matrix or `Node` objects, and holds numpy arrays of
nodes and edges in one canonical order. Plans, kernels, weights and files all rely on that order. No torch: a wiring is
data, and building one must not need a deep-learning framework.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import ArrayLike

from freewire.errors import GraphError, shown
from freewire.graph.arguments import as_array, check_flag, check_ordered, distinct_names
from freewire.graph.canonical import canonical
from freewire.graph.data import GraphData
from freewire.graph.edge_arrays import read_adjacency, read_edges, side_by_side
from freewire.graph.networkx_conversion import read_networkx, write_networkx
from freewire.graph.node_lists import Claim, NodeLists
from freewire.graph.node_views import NodeViews
from freewire.graph.nodes import Node

__all__ = ["Graph"]


class Graph(NodeViews):
    """A directed wiring of named nodes, without cycles unless it is recurrent; immutable.

    Made by `from_networkx`, `from_edges`, `from_adjacency`, `from_nodes` or `union`; ``Graph(inputs, hidden, outputs)``
    is `from_nodes`.

    Edges are in **canonical order**: by the destination's (level, node order), then by the source's (level, node
    order), then in the caller's order. It is the order of `Network.weight`, and no version or device changes it. A
    node's level is the number of edges on the longest path that ends at it; in a recurrent graph, of edges without
    delay.

    Example:
        >>> import freewire as fw
        >>> g = fw.Graph.from_edges([0, 1, 0], [2, 2, 1], num_nodes=3)
        >>> g.inputs, g.outputs, g.depth
        ((0,), (2,), 2)
        >>> g.edge_index.tolist()
        [[0, 0, 1], [1, 2, 2]]
    """

    def __init__(
        self,
        inputs: Node | Iterable[Node] | None = None,
        hidden: Node | Iterable[Node] | None = None,
        outputs: Node | Iterable[Node] | None = None,
        *,
        input_nodes: Node | Iterable[Node] | None = None,  # the names of 2019
        hidden_nodes: Node | Iterable[Node] | None = None,
        output_nodes: Node | Iterable[Node] | None = None,
    ) -> None:
        inputs = input_nodes if inputs is None else inputs
        hidden = hidden_nodes if hidden is None else hidden
        outputs = output_nodes if outputs is None else outputs
        if inputs is None or hidden is None or outputs is None:
            raise TypeError(
                "Graph: expected three lists of Nodes, or one of from_networkx, from_edges, from_adjacency or union, "
                "got a direct call without them. Use one of those."
            )
        self.__setstate__(Graph.from_nodes(inputs, hidden, outputs).__dict__)

    # ------------------------------------------------------------------ constructors

    @classmethod
    def from_networkx(
        cls,
        G: nx.DiGraph,  # noqa: N803 (networkx's own name for it)
        inputs: Iterable[Hashable] | None = None,
        outputs: Iterable[Hashable] | None = None,
        activation: str = "relu",
        output_activation: str = "linear",
        *,
        recurrent: bool = False,
    ) -> Graph:
        """Read a networkx ``DiGraph`` or ``MultiDiGraph``; time is linear in nodes and edges.

        Args:
            G: A graph with any hashable node names. Its node attributes ``activation``, ``aggregation``, ``bias`` and
                ``leak`` and its edge attributes ``weight``, ``sign``, ``frozen``, ``group`` and ``delay`` are read,
                and take precedence over the arguments. An input's node attributes have no meaning and are not read,
                but for a ``bias``, which is refused.
            inputs: Node names in the order of the features. Default: the nodes with an attribute ``freewire_input``,
                in the order of its values (`to_networkx` writes it; False: no input), or if there is none the nodes
                of in-degree 0. Where inputs have the attribute, a node of in-degree 0 without any of the attributes
                that `to_networkx` writes is refused: it was added since, and may be a new input or a constant.
            outputs: Node names in the order of the results; likewise, by ``freewire_output`` or the out-degree.
            activation: Activation of the computed nodes that are not outputs.
            output_activation: Activation of the outputs.
            recurrent: Whether to allow cycles, which `freewire.Recurrent` runs step by step. Edges without a ``delay``
                then have delay 0 if they start at an input, and else 1. A graph with any ``delay`` is recurrent.

        Raises:
            GraphError: A cycle (named; in a recurrent graph one of edges without delay), an unknown node, an input with
                in-edges, a repeated input or output, no
                output, an unknown activation, a NaN weight; inputs or outputs in a set, which has no order; nodes
                added to a graph with marked inputs or outputs, or two nodes of one position; an edge that an attribute
                ``type`` or ``directed`` calls undirected, or an attribute such as ``Weight``, of other case.

        Example:
            >>> import networkx as nx, freewire as fw
            >>> g = fw.Graph.from_networkx(nx.DiGraph([("x", "h"), ("x", "y"), ("h", "y")]))
            >>> g.nodes, g.depth
            (('x', 'h', 'y'), 2)
        """
        data = read_networkx(G, inputs, outputs, (activation, output_activation))
        return cls.from_data(replace(data, recurrent=check_flag("recurrent", recurrent)))

    @classmethod
    def from_edges(
        cls,
        src: ArrayLike,
        dst: ArrayLike,
        *,
        num_nodes: int | None = None,
        inputs: ArrayLike | None = None,
        outputs: ArrayLike | None = None,
        weight: ArrayLike | None = None,
        bias: ArrayLike | None = None,
        activation: str | Sequence[str] = "relu",
        aggregation: str | Sequence[str] = "sum",
        output_activation: str = "linear",
        sign: ArrayLike | None = None,
        frozen: ArrayLike | None = None,
        group: ArrayLike | None = None,
        delay: ArrayLike | None = None,
        leak: ArrayLike | None = None,
        recurrent: bool = False,
    ) -> Graph:
        """Build from arrays; nodes are named 0 to ``num_nodes - 1``. No Python loop over edges.

        Args:
            src: The node where each edge starts, integers ``[E]``.
            dst: The node where it ends, integers ``[E]``.
            num_nodes: ``N``. Default: the largest number that occurs, plus one.
            inputs: Node numbers in the order of the features. Default: the nodes of in-degree 0.
            outputs: Node numbers in the order of the results. Default: the nodes of out-degree 0.
            weight: Start value of each weight, floats ``[E]``.
            bias: Start value of each bias, floats ``[N]``; 0 at inputs.
            activation: One name for all computed nodes but the outputs, or ``N`` names.
            aggregation: One name, or ``N`` names.
            output_activation: Activation of the outputs, where ``activation`` is one name.
            sign: The sign that each weight keeps: -1, 1, or 0 where it is free, integers ``[E]``. For this and the
                next two see `freewire.constraints`.
            frozen: Which weights are not trained, booleans ``[E]``.
            group: Edges of one number share one scale: integers of at least 0, or -1 for none, ``[E]``.
            delay: Time steps that an edge delays its source's value by, whole numbers ``[E]``, or one for all; the
                graph is then recurrent.
            leak: As in `freewire.Recurrent`, above 0 and at most 1, floats ``[N]``, or one for all.
            recurrent: As in `from_networkx`.

        Raises:
            GraphError: As `from_networkx`, and for arrays whose lengths or types do not fit.

        Example:
            >>> import freewire as fw
            >>> fw.Graph.from_edges([0, 1], [2, 2], weight=[0.5, -1.0]).num_edges
            2
        """
        return cls.from_data(
            read_edges(
                src,
                dst,
                num_nodes=num_nodes,
                inputs=inputs,
                outputs=outputs,
                fields=dict(
                    **dict(weight=weight, sign=sign, frozen=frozen, group=group, delay=delay),
                    **dict(activation=activation, aggregation=aggregation, bias=bias, leak=leak),
                ),
                output_activation=output_activation,
                recurrent=check_flag("recurrent", recurrent),
            )
        )

    @classmethod
    def from_adjacency(
        cls,
        A: Any,  # noqa: N803 (the matrix's usual name)
        inputs: ArrayLike | None = None,
        outputs: ArrayLike | None = None,
        activation: str | Sequence[str] = "relu",
        output_activation: str = "linear",
        *,
        aggregation: str | Sequence[str] = "sum",
        bias: ArrayLike | None = None,
        leak: ArrayLike | None = None,
        recurrent: bool = False,
    ) -> Graph:
        """Read an adjacency matrix: ``A[u, v] != 0`` is an edge ``u -> v`` of that weight.

        Args:
            A: ``[N, N]``, dense (anything numpy accepts, and torch tensors of any type) or sparse (a ``scipy.sparse``
                matrix, or a torch tensor of a sparse layout); nodes are named 0 to N-1. Repeated entries of a sparse
                matrix are summed.
            inputs: As in `from_edges`, like all arguments below.
            outputs: Node numbers.
            activation: One name, or ``N`` names.
            output_activation: Activation of the outputs.
            aggregation: One name, or ``N`` names.
            bias: Floats ``[N]``.
            leak: Floats ``[N]``, or one for all.
            recurrent: Whether to allow cycles.

        Raises:
            GraphError: ``A`` is not square, or as `from_edges`.

        Example:
            >>> import freewire as fw
            >>> fw.Graph.from_adjacency([[0, 2.0], [0, 0]]).edge_index.tolist()
            [[0], [1]]
        """
        src, dst, weight, num_nodes = read_adjacency(A)
        return cls.from_edges(
            src,
            dst,
            num_nodes=num_nodes,
            inputs=inputs,
            outputs=outputs,
            weight=weight,
            bias=bias,
            activation=activation,
            aggregation=aggregation,
            output_activation=output_activation,
            leak=leak,
            recurrent=recurrent,
        )

    @classmethod
    def from_nodes(
        cls, inputs: Node | Iterable[Node], hidden: Node | Iterable[Node], outputs: Node | Iterable[Node]
    ) -> Graph:
        """Make a graph of `Node` objects, which become its node names; time is linear in nodes and edges.

        Args:
            inputs: Nodes that read nothing, in the order of the features. This argument and the others may also be
                one Node.
            hidden: All other Nodes that are not outputs, in any order.
            outputs: Nodes in the order of the results. If all of them have an ``output_index``, its order counts; if
                some have, those have that place, and the others fill the remaining ones. softmax outputs are linear
                in the graph; `freewire.Model` normalises them.

        Returns:
            A graph with `nodes` in the order of the lists, and with `input_nodes`, `hidden_nodes`, `output_nodes` and
            `edges`. Biases and weights that were set on Nodes and Edges are stored in it.

        Raises:
            GraphError: A Node that is listed twice, is part of another graph that still exists, or is in the wrong list
                (an input that reads others, another that reads nothing, a softmax that is no output); a Node that
                reads one of no list, or an output; output_index values that are equal or too large; Nodes of one op_id
                that cannot be computed in the same step; a cycle; something that is no Node; a set, which has no order.

        Example:
            >>> import freewire as fw
            >>> x = [fw.Node(), fw.Node()]
            >>> h = [fw.Node(x, activation="relu") for _ in range(3)]
            >>> fw.Graph.from_nodes(x, h, fw.Node(h))
            Graph(6 nodes, 2 inputs, 1 outputs, 9 edges, depth 2)
        """
        lists = NodeLists(inputs, hidden, outputs)
        graph = cls.from_data(lists.data())
        lists.check_unchanged()
        lists.check_steps(graph.level)
        lists.adopt()
        return cls._of({**graph.__dict__, "_names": lists.nodes, "_claim": Claim(lists)})

    @classmethod
    def union(cls, graphs: Iterable[Graph]) -> Graph:
        """Put graphs side by side, without edges between them; inputs and outputs follow in the graphs' order.

        Args:
            graphs: One or more. Where all of them are numbered 0 to N-1, so is the union (one graph's numbers after
                the other's); else node ``name`` of the k-th graph becomes ``(k, name)``.

        Raises:
            GraphError: No graph given.

        Example:
            >>> import freewire as fw
            >>> a = fw.generators.mlp([2, 1])
            >>> fw.Graph.union([a, a]).inputs
            (0, 1, 3, 4)
        """
        if not isinstance(graphs, Iterable):
            raise GraphError(f"graphs: expected a list of Graph objects, got {type(graphs).__name__}. Make it a list.")
        check_ordered(graphs, "graphs")
        members = list(graphs)
        if not members:
            raise GraphError("graphs: expected at least one Graph, got none. Pass a list of graphs.")
        for g in members:
            if not isinstance(g, cls):
                raise GraphError(
                    f"graphs: expected Graph objects, got {type(g).__name__}. Convert it with Graph.from_networkx."
                )
        return cls.from_data(side_by_side([g.to_data() for g in members]))

    @classmethod
    def from_data(cls, data: GraphData) -> Graph:
        """Check arrays that a reader found and put them into canonical order; all other constructors call this.

        Args:
            data: See `GraphData`. Its arrays are neither kept nor changed.

        Raises:
            GraphError: As `from_networkx`.
        """
        found = canonical(data)
        return cls._of(
            {
                "_names": found.data.names,
                "_input_index": found.data.inputs,
                "_output_index": found.data.outputs,
                "_level": found.level,
                "_edge_index": found.edge_index,
                "_edge_position": found.edge_position,
                **{f"_{name}": values for name, values in found.data.fields.items()},
            }
        )

    @classmethod
    def _of(cls, state: dict[str, Any]) -> Graph:
        (self := object.__new__(cls)).__setstate__(state)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Graph:
        return self  # immutable

    # ------------------------------------------------------------------ conversion

    def with_names(self, names: Iterable[Hashable] | None = None) -> Graph:
        """Copy the graph, with other node names; of Nodes the copy knows nothing, nor of softmax outputs.

        Args:
            names: ``N`` names in node order, all different; None: 0 to N-1, which every file can hold.

        Raises:
            GraphError: Too many names or too few, one that cannot be hashed, or two that are equal.

        Example:
            >>> import freewire as fw
            >>> fw.generators.mlp([2, 1]).with_names("abc").inputs
            ('a', 'b')
        """
        renamed = range(self.num_nodes) if names is None else distinct_names(names, self.num_nodes)
        graph = Graph.from_data(replace(self.to_data(), names=renamed))
        return Graph._of({**graph.__dict__, "_edge_position": self._edge_position})

    def to_networkx(self) -> nx.DiGraph | nx.MultiDiGraph:
        """Convert to a networkx graph, from which `from_networkx` makes an equal graph.

        Returns:
            A ``DiGraph``, or a ``MultiDiGraph`` if edges are parallel. Computed nodes carry ``activation``,
            ``aggregation`` and, where stored, ``bias``; edges carry ``weight``, ``sign``, ``frozen`` and ``group``
            where stored; nodes carry ``freewire_input`` and ``freewire_output``, their position in `inputs` and
            `outputs`, and ``freewire_hidden``, whether they are neither.

        Example:
            >>> import freewire as fw
            >>> fw.generators.mlp([2, 3, 1]).to_networkx()
            <networkx.classes.digraph.DiGraph object at 0x...>
        """
        return write_networkx(self.to_data())

    def with_values(self, weight: ArrayLike | None = None, bias: ArrayLike | None = None) -> Graph:
        """Copy the wiring, with other stored weights and biases.

        Args:
            weight: Floats ``[E]`` in canonical order, NaN where an edge stores none; None: no edge does.
            bias: Floats ``[N]`` in node order, NaN where a node stores none; None: no node does.

        Raises:
            GraphError: A length does not fit.
        """
        state = dict(self.__dict__)
        for name, given, length in (("weight", weight, self.num_edges), ("bias", bias, self.num_nodes)):
            values = None if given is None else as_array(given, name)
            if values is not None and values.size and values.dtype.kind not in "iuf":
                raise GraphError(f"{name}: expected numbers, got {shown(given)}. Use NaN where none is stored.")
            if values is not None and values.shape != (length,):
                raise GraphError(
                    f"{name}: expected {length} values, got shape {list(values.shape)}. Pass one per "
                    f"{'edge' if name == 'weight' else 'node'}."
                )
            state[f"_{name}"] = None if values is None else np.array(values, np.float64)
        return Graph._of(state)

    def _repr_svg_(self) -> str:
        """What a notebook shows."""
        from freewire.pictures.svg import svg  # a higher floor; pyproject.toml names this import

        return svg(self)

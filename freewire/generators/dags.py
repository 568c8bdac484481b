# SPDX-License-Identifier: MIT
"""The three random graph models of RandWire as DAGs.

Each function returns a networkx ``DiGraph`` of nodes 0 to n-1 whose edges go from the smaller to the larger number. The
models are undirected; node numbers give the direction, as in Xie et al. (2019). networkx's own generators are not used
because they do not promise stable draws, and their Barabasi-Albert graph starts from a star.

References:
    Erdos, Renyi: On random graphs I, 1959. Gilbert: Random graphs, 1959. Watts, Strogatz: Collective dynamics
    of "small-world" networks, 1998. Barabasi, Albert: Emergence of scaling in random networks, 1999. Xie,
    Kirillov, Girshick, He: Exploring randomly wired neural networks for image recognition, 2019.
"""

from __future__ import annotations

from collections.abc import Callable

import networkx as nx
import numpy as np

from freewire.errors import GraphError, shown
from freewire.generators.draws import Draws, Integers, count
from freewire.graph.arguments import check_probability

Edges = tuple[Integers, Integers]  # the smaller and the larger end of each edge


def erdos_renyi_dag(n: int, p: float, seed: int | None = None, connected: bool = True, tries: int = 100) -> nx.DiGraph:
    """Join each of the n * (n - 1) / 2 pairs of nodes with probability p.

    The graph of Erdos and Renyi (1959), in Gilbert's form. All nodes are equivalent, so node numbers are the random
    order that Xie et al. (2019) ask for. Time is linear in the number of edges, not of pairs.

    Args:
        n: Number of nodes, at least 1.
        p: Probability of an edge, 0 to 1.
        seed: An integer for the same graph every time, None for a new one each time.
        connected: Draw again until the undirected graph is connected.
        tries: The most draws.

    Returns:
        Nodes 0 to n-1 in order, edges from the smaller to the larger number.

    Raises:
        GraphError: An argument is out of range, or no draw is connected.

    Example:
        >>> import freewire as fw
        >>> dag = fw.generators.erdos_renyi_dag(32, 0.2, seed=0)
        >>> dag.number_of_nodes(), dag.number_of_edges()
        (32, 91)
    """
    n, p = count("n", n, 1, "number of nodes"), check_probability("p", p)
    draws = Draws(seed)
    # Pairs (i, j) with i < j are numbered by j, then by i; this is the number of (0, j).
    first_pair = np.arange(n, dtype=np.int64) * np.arange(-1, n - 1) // 2

    def draw() -> Edges:
        pair = draws.successes(n * (n - 1) // 2, p)
        larger = np.searchsorted(first_pair, pair, side="right") - 1
        return pair - first_pair[larger], larger

    return _connected_dag(n, draw, connected, tries, f"n={shown(n)}, p={p}")


def barabasi_albert_dag(n: int, m: int, seed: int | None = None) -> nx.DiGraph:
    """Add nodes one by one, each with m edges to earlier nodes drawn by degree (Barabasi and Albert 1999).

    As in Xie et al. (2019) the first m nodes start without edges, so they are m sources, and node m reads all of them.
    networkx starts from a star instead, which has the same number of edges but a single source.

    Args:
        n: Number of nodes, more than m.
        m: Number of in-edges of each added node, at least 1.
        seed: An integer for the same graph every time, None for a new one each time.

    Returns:
        Nodes 0 to n-1 in the order of adding, m * (n - m) edges from earlier to later nodes; always connected.

    Raises:
        GraphError: An argument is out of range.

    Example:
        >>> import freewire as fw
        >>> dag = fw.generators.barabasi_albert_dag(32, 5, seed=0)
        >>> [v for v in dag if dag.in_degree(v) == 0], dag.number_of_edges()
        ([0, 1, 2, 3, 4], 135)
    """
    m = count("m", m, 1, "number of edges of each added node")
    n = count("n", n, m + 1, f"number of nodes, above m={shown(m)}")
    draws = Draws(seed)
    src = list(range(m))  # node m reads the first m: there are no degrees yet, and it needs m of them
    ends = [*range(m), *[m] * m]  # both ends of each edge, so a uniform entry is a node drawn by degree
    for node in range(m + 1, n):
        chosen: dict[int, None] = {}  # a set in insertion order
        while len(chosen) < m:
            chosen[ends[draws.one_below(len(ends))]] = None
        src += chosen
        ends += [*chosen, *[node] * m]
    return _dag(n, np.array(src, np.int64), np.repeat(np.arange(m, n, dtype=np.int64), m))


def watts_strogatz_dag(
    n: int, k: int, p: float, seed: int | None = None, connected: bool = True, tries: int = 100
) -> nx.DiGraph:
    """Connect each node of a ring to its k nearest nodes, then rewire each edge with probability p.

    The small world of Watts and Strogatz (1998), with the loop of Xie et al. (2019): clockwise round the ring, first
    all edges to the next node, then all edges to the one after, up to k / 2. Rewiring moves the far end of an edge to a
    node drawn from those that are not neighbours yet; if all nodes are, the edge stays.

    Args:
        n: Number of nodes, more than k.
        k: Number of neighbours of each node on the ring, even, at least 2.
        p: Probability of rewiring, 0 to 1.
        seed: An integer for the same graph every time, None for a new one each time.
        connected: Draw again until the undirected graph is connected.
        tries: The most draws.

    Returns:
        Nodes 0 to n-1 in order round the ring, n * k / 2 edges from the smaller to the larger number.

    Raises:
        GraphError: An argument is out of range, or no draw is connected.

    Example:
        >>> import freewire as fw
        >>> dag = fw.generators.watts_strogatz_dag(32, 4, 0.75, seed=0)
        >>> dag.number_of_edges()
        64
    """
    k, p = count("k", k, 2, "even number of neighbours"), check_probability("p", p)
    if k % 2:
        raise GraphError(f"k: expected an even number, got {shown(k)}. Each node has k / 2 neighbours on either side.")
    n = count("n", n, k + 1, f"number of nodes, above k={shown(k)}")
    draws = Draws(seed)
    distance, near = np.divmod(np.arange(n * (k // 2), dtype=np.int64), n)
    ring = (near + distance + 1) % n

    def draw() -> Edges:
        far = ring.copy()
        known: list[set[int]] = [set() for _ in range(n)]
        for u, v in zip(near.tolist(), ring.tolist(), strict=True):
            known[u].add(v)
            known[v].add(u)
        for edge in np.flatnonzero(draws.uniform(len(ring)) < p).tolist():
            u, v = int(near[edge]), int(ring[edge])
            if len(known[u]) == n - 1:
                continue
            w = draws.one_below(n)
            while w == u or w in known[u]:
                w = draws.one_below(n)
            known[u].remove(v)
            known[v].remove(u)
            known[u].add(w)
            known[w].add(u)
            far[edge] = w
        return np.minimum(near, far), np.maximum(near, far)

    return _connected_dag(n, draw, connected, tries, f"n={shown(n)}, k={shown(k)}, p={p}")


def _dag(n: int, smaller: Integers, larger: Integers) -> nx.DiGraph:
    """Make a graph of nodes 0 to n-1 and these edges, sorted so that networkx keeps them in one order."""
    smaller, larger = np.divmod(np.sort(smaller * n + larger), n)
    dag = nx.DiGraph()
    dag.add_nodes_from(range(n))
    dag.add_edges_from(zip(smaller.tolist(), larger.tolist(), strict=True))
    return dag


def _connected_dag(n: int, draw: Callable[[], Edges], connected: bool, tries: int, model: str) -> nx.DiGraph:
    """Draw once, or until the undirected graph is connected; each draw continues the stream of random numbers."""
    tries = count("tries", tries, 1, "number of draws")
    for _ in range(tries):
        dag = _dag(n, *draw())
        if not connected or nx.is_weakly_connected(dag):
            return dag
    raise GraphError(
        f"connected: expected a connected graph within tries={tries}, got none for {model}. "
        "Ask for more edges or more tries, or pass connected=False."
    )

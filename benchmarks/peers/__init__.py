# SPDX-License-Identifier: MIT
"""The peers: other ways to compute a freewire network, one per file, each in the best of the layouts tried.

`PEERS` holds classes of modules that take over a network's graph and weights and compute the same numbers. They
support sum aggregation and linear, relu and tanh nodes. The head of each file says which layouts were tried; unless it
says otherwise, they were compared by CPU time of W1 on one thread of an AMD EPYC (Zen 5, AVX-512), torch 2.13.

Some peers need an optional package, or a checkout that the user names (`CHECKOUTS`); where it is missing, their refusal
says how to get it. To add a peer, write a subclass of `benchmarks.peers.base.Peer` and add it to the tuple below.
"""

from benchmarks.peers.base import Peer
from benchmarks.peers.checkouts import CHECKOUTS
from benchmarks.peers.csr import CsrAutogradPeer, CsrPeer
from benchmarks.peers.deepstruct_layers import DeepstructPeer
from benchmarks.peers.embedding_bag import EmbeddingBagAutogradPeer, EmbeddingBagPeer
from benchmarks.peers.freewire2019 import Freewire2019Peer
from benchmarks.peers.jax_levels import JaxPeer
from benchmarks.peers.loop import LoopPeer
from benchmarks.peers.masked import MaskedPeer
from benchmarks.peers.pytorch_neat import PytorchNeatPeer
from benchmarks.peers.sequential import SequentialPeer
from benchmarks.peers.tensorneat import TensorneatPeer

__all__ = ["CHECKOUTS", "PEERS", "Peer"]

#: In the order of the tables.
PEERS: tuple[type[Peer], ...] = (
    CsrPeer,
    CsrAutogradPeer,
    EmbeddingBagPeer,
    EmbeddingBagAutogradPeer,
    MaskedPeer,
    LoopPeer,
    JaxPeer,
    DeepstructPeer,
    Freewire2019Peer,
    TensorneatPeer,
    PytorchNeatPeer,
    SequentialPeer,
)

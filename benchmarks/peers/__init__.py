# SPDX-License-Identifier: MIT
"""The peers: other ways to compute a freewire network, one a file, each in the best of the layouts tried.

Enters: a `freewire.Network`. Leaves: `PEERS`, classes of modules that take over its graph and weights and compute the
same numbers. They know sum aggregation and linear, relu and tanh nodes. Each file says what was tried; the comparisons
there are CPU time of W1 on one thread of an AMD EPYC of the Zen 5 kind (AVX-512), torch 2.13.
"""

from benchmarks.peers.base import Peer
from benchmarks.peers.csr import CsrAutogradPeer, CsrPeer
from benchmarks.peers.loop import LoopPeer
from benchmarks.peers.masked import MaskedPeer
from benchmarks.peers.sequential import SequentialPeer

__all__ = ["PEERS", "Peer"]

#: In the order of the tables.
PEERS: tuple[type[Peer], ...] = (CsrPeer, CsrAutogradPeer, MaskedPeer, LoopPeer, SequentialPeer)

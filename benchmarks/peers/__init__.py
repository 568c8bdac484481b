# SPDX-License-Identifier: MIT
"""The peers: other ways to compute a freewire network, one a file, each in the best of the layouts tried.

Enters: a `freewire.Network`. Leaves: `PEERS`, classes of modules that take over its graph and weights and compute the
same numbers. They know sum aggregation and linear, relu and tanh nodes. Each file says what was tried; the comparisons
there are CPU time of W1 on one thread of an AMD EPYC of the Zen 5 kind (AVX-512), torch 2.13, unless they say more.

Optional ones need a package, or a checkout that the user names (`CHECKOUTS`); where it is absent, their refusal says
how it is had.
"""

from benchmarks.peers.base import Peer
from benchmarks.peers.checkouts import CHECKOUTS
from benchmarks.peers.csr import CsrAutogradPeer, CsrPeer
from benchmarks.peers.deepstruct_layers import DeepstructPeer
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
    MaskedPeer,
    LoopPeer,
    JaxPeer,
    DeepstructPeer,
    Freewire2019Peer,
    TensorneatPeer,
    PytorchNeatPeer,
    SequentialPeer,
)

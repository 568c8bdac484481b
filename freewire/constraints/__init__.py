# SPDX-License-Identifier: MIT
"""Constraints on the weights of a network: signs that are kept, weights that are frozen, groups that share a scale.

They are torch parametrizations of ``weight``, applied by `freewire.Network` where its graph has edge fields ``sign``,
``frozen`` or ``group``, or later by `signed`, `frozen` and `tied`.
"""

from freewire.constraints.application import frozen as frozen
from freewire.constraints.application import signed as signed
from freewire.constraints.application import tied as tied
from freewire.constraints.parametrizations import Frozen as Frozen
from freewire.constraints.parametrizations import Signed as Signed
from freewire.constraints.parametrizations import Tied as Tied

__all__ = ["Frozen", "Signed", "Tied", "frozen", "signed", "tied"]

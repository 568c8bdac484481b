# SPDX-License-Identifier: MIT
"""Node names as text for a picture: any hashable object in, one short line of printable characters out.

Escaping for a format (DOT, XML, matplotlib) is up to its writer.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from freewire.errors import shown
from freewire.graph import Node

__all__ = ["label"]

JOINERS = "\u200c\u200d"  # they do not print, but spelling in some scripts, and some emoji, depend on them


def label(name: Hashable, length: int = 20) -> str:
    r"""One line of at most ``length`` characters, not counting escapes.

    What does not print is escaped as in Python's source text: a line break as ``\n``, half of a surrogate pair, which
    UTF-8 does not have, and what reorders the text around it, such as a right-to-left override.

    Example:
        >>> label("a name that goes on and on"), label("two\nlines"), label(("layer", 3))
        ('a name tha…on and on', 'two\\nlines', "('layer', 3)")
    """
    if isinstance(name, np.generic):
        name = name.item()
    text = name if isinstance(name, str) else shown(name)
    if isinstance(name, Node):
        text = text.removeprefix("<Node ").removesuffix(">")  # its place: hidden[0]
    if len(text) > length:
        text = f"{text[: length // 2]}…{text[len(text) - (length - 1) // 2 :]}"
    return "".join(c if c.isprintable() or c in JOINERS else ascii(c)[1:-1] for c in text)

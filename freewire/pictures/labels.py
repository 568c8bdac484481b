# SPDX-License-Identifier: MIT
"""Node names as text for a picture: any hashable object in, one short line of printable characters out.

Escaping for a format (DOT, XML, matplotlib) is up to its writer.
"""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np

from freewire.errors import shown

__all__ = ["label"]


def label(name: Hashable, length: int = 20) -> str:
    r"""One line of at most ``length`` characters.

    What does not print is escaped as in Python's source text: a line break as ``\n``, half of a surrogate pair too.

    Example:
        >>> label("a name that goes on and on"), label("two\nlines"), label(("layer", 3))
        ('a name tha…on and on', 'two\\nlines', "('layer', 3)")
    """
    if isinstance(name, np.generic):
        name = name.item()
    text = name if isinstance(name, str) else shown(name)
    if len(text) > length:
        text = f"{text[: length // 2]}…{text[len(text) - (length - 1) // 2 :]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)

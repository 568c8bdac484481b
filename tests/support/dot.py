# SPDX-License-Identifier: MIT
"""A reader of the part of graphviz's language DOT that freewire writes, after its published grammar.

It raises for anything else, so it also checks the text where graphviz is not installed.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field

TOKEN = re.compile(
    r'\s*(?:("(?:[^"\\]|\\.)*")|(->|[{}\[\];,=])|([A-Za-z_][A-Za-z_0-9]*|-?(?:\.\d+|\d+(?:\.\d*)?)))', re.S
)
Attributes = dict[str, str]


@dataclass
class Dot:
    """Nodes by name, edges, ranks, and what each of ``graph``, ``node`` and ``edge`` sets for all."""

    nodes: dict[str, Attributes] = field(default_factory=dict)
    edges: list[tuple[str, str, Attributes]] = field(default_factory=list)
    ranks: list[list[str]] = field(default_factory=list)
    defaults: dict[str, Attributes] = field(default_factory=dict)


def parse(text: str) -> Dot:
    tokens, at = [], 0
    text = text.rstrip()
    while at < len(text):
        match = TOKEN.match(text, at)
        assert match, text[at : at + 80]
        tokens.append(match.group(0).strip())
        at = match.end()
    found = Dot(defaults={"graph": {}})
    assert tokens[0] == "digraph"
    assert tokens[2] == "{"
    at = 3
    while tokens[at] != "}":
        name = tokens[at]
        if name == ";":
            at += 1
        elif name == "{":
            end = tokens.index("}", at)
            assert tokens[at + 1 : at + 4] == ["rank", "=", "same"]
            found.ranks.append([token for token in tokens[at + 4 : end] if token != ";"])
            at = end + 1
        elif tokens[at + 1] == "=":
            found.defaults["graph"][name] = tokens[at + 2]
            at += 3
        elif tokens[at + 1] == "->":
            attributes, end = _attributes(tokens, at + 3)
            found.edges.append((name, tokens[at + 2], attributes))
            at = end
        else:
            target = found.defaults if name in ("node", "edge") else found.nodes
            target[name], at = _attributes(tokens, at + 1)
    assert at == len(tokens) - 1
    return found


def _attributes(tokens: list[str], at: int) -> tuple[Attributes, int]:
    found = {}
    assert tokens[at] == "["
    while tokens[at] != "]":
        name, equals, value = tokens[at + 1 : at + 4]
        assert equals == "="
        found[name] = value
        at += 4
        assert tokens[at] in (",", "]")
    return found, at + 1


def shown(quoted: str) -> str:
    """The text that graphviz shows for a quoted label: backslashes resolved, then HTML's entities."""
    assert quoted[0] == quoted[-1] == '"'
    text = re.sub(r"\\(.)", lambda match: {"n": "\n", "l": "\n", "r": "\n"}.get(match[1], match[1]), quoted[1:-1])
    return html.unescape(text)

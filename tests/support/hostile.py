# SPDX-License-Identifier: MIT
"""Files that were made to take much time or memory, and a program that measures what reading them takes.

``python -m tests.support.hostile PATH...`` reads each file in a process of its own, forked once everything is
imported, and prints a line of JSON for each: seconds, bytes of memory at the worst moment, and the error.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from itertools import count, product
from pathlib import Path
from string import ascii_letters
from typing import Any

import freewire as fw
from tests.support.native import ROOT

#: Multiples of it have the hash 0.
PRIME = 2**61 - 1


def _repeated(text: str) -> Callable[[int], str]:
    return lambda size: text * (size // len(text))


def _counted(template: str, make: Callable[[int], Any] = lambda k: k) -> Callable[[int], str]:
    """One text after another with 0, 1, 2, ... or what ``make`` makes of it in place of %s."""

    def text(size: int) -> str:
        found, length = [], 0
        for k in count():
            found.append(template.replace("%s", str(make(k))))
            length += len(found[-1])
            if length > size:
                break
        return "".join(found)

    return text


def _pairs(size: int) -> str:
    """Rows of two short names, all different."""
    names = ("".join(letters) for letters in product(ascii_letters, repeat=4))
    return "\n".join(f"{u},{v}" for u, v in zip(names, names, strict=False))[:size].rpartition("\n")[0]


def _in_json(nodes: str = "", edges: str = "", **more: str) -> str:
    parts = [f'"{name}": [{text}]' for name, text in {"nodes": nodes, "edges": edges, **more}.items()]
    return f'{{"directed": true, {", ".join(parts)}}}'


def _in_neat(connections: str) -> str:
    """A recurrent network of neat-python with an input -1 and an output 0."""
    nodes = '{"id":-1,"type":"input"},{"id":0,"type":"output","bias":0,"response":1,"activation":{"name":"cube"},'
    nodes += '"aggregation":{"name":"sum"}}'
    head = '"format_version":"1.0","network_type":"recurrent","topology":{"input_keys":[-1],"output_keys":[0]}'
    return f'{{{head},"nodes":[{nodes}],"connections":[{connections}]}}'


def _in_graphml(body: str, head: str = "") -> str:
    weight = '<key id="w" for="edge" attr.name="weight" attr.type="double"/>'
    return f'<graphml>{weight}{head}<graph edgedefault="directed"><node id="a"/><node id="b"/>{body}</graph></graphml>'


_EDGE = '<edge source="a" target="b"><data key="w">%s</data></edge>'
#: Name, with the file's suffix -> what makes it of about so many bytes, and how many times that its memory may be.
CASES: dict[str, tuple[Callable[[int], str], float]] = {
    "commas.csv": (_repeated(","), 6),
    "cells.csv": (_repeated("aa,"), 6),
    "columns.csv": (lambda size: "source,target" + ",ab" * 900 + "\n" + _repeated("x,y" + ",ab" * 900 + "\n")(size), 6),
    "columns without numbers.csv": (_repeated(",".join(["ab"] * 900) + "\n"), 6),
    "numbers.csv": (_repeated("0,1\n"), 20),
    "large numbers.csv": (_counted("%s,7\n", lambda k: k * 7919 * 10**6), 20),
    "texts.csv": (lambda size: "source,target\n" + _repeated("a,b\n")(size), 20),
    "names.csv": (lambda size: "source,target\n" + _pairs(size), 48),
    "one wide character.csv": (lambda size: "source,target\n\U0001f600,b\n" + _repeated("a,b\n")(size), 20),
    "quoted lines.csv": (lambda size: "source,target\na,b\n" + _repeated('"\n",')(size), 6),
    "an open quote.csv": (lambda size: 'source,target\na,b\n"' + _repeated("x\n")(size), 6),
    "empty lines.csv": (_repeated("\n"), 6),
    "digits.csv": (_counted("%s,1\n", lambda k: 10**4000 + k), 20),
    "lists.json": (lambda size: _in_json(x=_repeated("[],")(size) + "0"), 40),
    "filled lists.json": (lambda size: _in_json(x=_repeated("[0],")(size) + "0"), 40),
    "objects.json": (lambda size: _in_json(_repeated("{},")(size) + "{}"), 20),
    "nodes.json": (lambda size: _in_json(_counted('{"id":%s},')(size) + '{"id":"a"}'), 40),
    "keys.json": (lambda size: "{" + _counted('"%s":0,')(size) + '"b":0}', 40),
    "edges.json": (lambda size: _in_json('{"id":0},{"id":1}', _repeated('{"source":0,"target":1},')(size)[:-1]), 20),
    "open lists.json": (_repeated("["), 6),
    "open objects.json": (_repeated('{"a":'), 6),
    "neat connections.json": (
        lambda size: _in_neat(_counted('{"from":%s,"to":0,"weight":1},', lambda k: 9 + k)(size)[:-1]),
        40,
    ),
    "neat colliding numbers.json": (
        lambda size: _in_neat(_counted('{"from":%s,"to":0,"weight":1},', lambda k: k * PRIME)(size)[:-1]),
        40,
    ),
    "one number.json": (_repeated("9"), 6),
    "digits.json": (lambda size: _in_json(_counted('{"id":%s},', lambda k: 10**4000 + k)(size)[:-1]), 20),
    "colliding numbers.json": (lambda size: _in_json(_counted('{"id":%s},', lambda k: k * PRIME)(size)[:-1]), 40),
    "colliding lists.json": (lambda size: _in_json(_counted('{"id":[%s]},', lambda k: k * PRIME)(size)[:-1]), 40),
    "colliding marks.json": (
        lambda size: _in_json(_counted('{"id":%s},', lambda k: f'{k},"freewire_input":{k * PRIME}')(size)[:-1]),
        40,
    ),
    "colliding marks.graphml": (
        lambda size: _in_graphml(
            _counted("<node %s</data></node>", lambda k: f'id="{k}"><data key="m">{k * PRIME}')(size),
            '<key id="m" for="node" attr.name="freewire_input" attr.type="long"/>',
        ),
        40,
    ),
    "a comment.graphml": (lambda size: _in_graphml(f"<!--{'x' * size}-->"), 6),
    "an id.graphml": (lambda size: _in_graphml(f'<node id="{"x" * size}"/>'), 6),
    "lines of a comment.graphml": (lambda size: _in_graphml(f"<!--{_repeated(' ' + chr(10))(size)}-->"), 6),
    "long comments.graphml": (lambda size: _in_graphml(_repeated(f"<!--{'x' * 1_000_000}-->")(size)), 6),
    "depth.graphml": (lambda size: _in_graphml(_repeated("<a>")(size)), 6),
    "text.graphml": (lambda size: _in_graphml(f"<desc>{_repeated('x' + chr(10))(size)}</desc>"), 6),
    "a value.graphml": (lambda size: _in_graphml(_EDGE % _repeated("1\n")(size)), 20),
    "references.graphml": (lambda size: _in_graphml(_EDGE % _repeated("&#49;")(size)), 20),
    "elements.graphml": (lambda size: _in_graphml(_repeated("<a/>")(size)), 6),
    "nodes.graphml": (lambda size: _in_graphml(_counted('<node id="%s"/>')(size)), 40),
    "edges.graphml": (lambda size: _in_graphml(_repeated('<edge source="a" target="b"/>')(size)), 20),
    "weights.graphml": (lambda size: _in_graphml(_repeated(_EDGE % 1.5)(size)), 20),
    "ends.graphml": (lambda size: _in_graphml(_counted('<edge source="s%s" target="b"/>')(size)), 20),
    "keys.graphml": (lambda size: _in_graphml("", _counted('<key id="%s"/>')(size)), 20),
    "attributes.graphml": (lambda size: _in_graphml(f"<node {_counted('a%s=' + repr('') + ' ')(size)}/>"), 20),
}


def measure(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """Seconds, bytes of memory and the error (None if it was read) of reading each file."""
    command = [sys.executable, "-m", "tests.support.hostile", *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def _read(path: str) -> None:
    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

    before, begin, message = peak(), time.perf_counter(), None
    try:
        fw.read_graph(path)
    except fw.FreewireError as error:
        message = str(error)
    print(json.dumps({"seconds": time.perf_counter() - begin, "bytes": peak() - before, "error": message}), flush=True)


if __name__ == "__main__":
    fw.Graph.from_edges([0], [1])
    for each in sys.argv[1:]:
        if (child := os.fork()) == 0:
            _read(each)
            os._exit(0)
        if os.waitpid(child, 0)[1] != 0:
            sys.exit(f"{each}: the process that read it has died")

# SPDX-License-Identifier: MIT
"""Files with random damage, and a program that reads them under limits of time and memory.

``python -m tests.support.mutated FOLDER SEED COUNT`` writes COUNT damaged files into FOLDER, one after another, and
reads each: a file must hold a valid graph, or be refused with a `FreewireError`. What breaks that is printed, and kept.
"""

from __future__ import annotations

import json
import random
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import freewire as fw
from tests.support.files import edge_list
from tests.support.graphs import CASES, assert_same_graph, renamed
from tests.support.storage import limited_memory

JSON = [b"{", b"}", b"[", b"]", b",", b":", b'"', b"null"]  # of .json, and of the header of .safetensors

#: Memory beyond that of the interpreter with torch, and seconds for one file.
MEMORY, SECONDS = 2**29, 10
#: What damage inserts, by the end of a file's name.
WORDS: dict[str, list[bytes]] = {
    ".csv": [
        b"source,target",
        b"sep=;\n",
        b"#",
        b'"',
        b",",
        b";",
        b"\t",
        b"\n",
        b"\r\n",
        b"\xef\xbb\xbf",
        b"weight",
        b"nan",
        b"inf",
        b"1e999",
        b"-0",
        b"0x10",
        b"\x00",
        b"\xff",
        b"9" * 5000,
        b"," * 2000,
        b"frozen",
        b"group",
        b"true",
        b"type,",
    ],
    ".graphml": [
        b"<node",
        b"<edge",
        b'<node id="0"/>',
        b'<graph edgedefault="directed">',
        b"</graph>",
        b"<!--",
        b"-->",
        b"<![CDATA[",
        b"]]>",
        b"&lt;",
        b"&#0;",
        b"&a;",
        b"<!DOCTYPE x>",
        b'<key id="d9" for="all" attr.name="weight"/>',
        b"<default>",
        b'<data key="d0">',
        b"</data>",
        b"<data/>",
        b'id="',
        b'xmlns="x"',
        b"0x1p9999",
        b"nan",
        b"\x00",
        b"\xff",
        b"<a>" * 500,
    ],
    ".json": [
        *JSON,
        b"true",
        b"NaN",
        b"Infinity",
        b"1e999",
        b"-0",
        b'"id"',
        b'"\\ud800"',
        b'"nodes": []',
        b'"directed": false',
        b"[" * 2000,
        b"9" * 5000,
        b"\x00",
        b"\xff",
        b"\xef\xbb\xbf",
        b'{"id": 0}',
    ],
    ".safetensors": [
        *JSON,
        b'"dtype":"I64"',
        b'"dtype":"U8"',
        b'"F32"',
        b'"shape":[0]',
        b"2",
        b'"data_offsets":[0,8]',
        b"18446744073709551615",
        b"-1",
        b"9" * 5000,
        b"\x00",
        b"\xff" * 8,
        b"__metadata__",
        b"names",
    ],
}
WORDS[".safetensors"] += [struct.pack("<q", number) for number in (0, 1, -1, 2**31, 2**62, -(2**63))]


def samples(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Whole files to damage: the end of the name, and the bytes."""
    for name in ("diamond", "parallel_edges", "mixed_aggregations"):
        g = CASES[name]
        g = g.with_values(np.linspace(-1, 1, g.num_edges))
        plain = edge_list(g)
        for ending, graph in ((".csv", plain.with_values(g.weight)), (".graphml", g), (".json", g)):
            for k, named in enumerate((graph, renamed(graph, [f"n{i}" for i in range(graph.num_nodes)]))):
                try:
                    fw.write_graph(named, path := folder / f"sample{ending}")
                except fw.GraphError:  # an edge list in another order
                    assert ending == ".csv", k
                    continue
                yield ending, path.read_bytes()
                path.unlink()
        fw.save(fw.Network(renamed(g, [("n", i) for i in range(g.num_nodes)])), path := folder / "sample.safetensors")
        yield ".safetensors", path.read_bytes()
        path.unlink()


def damaged(raw: bytes, ending: str, draw: random.Random) -> bytes:
    """A copy with one to four changes."""
    for _ in range(draw.choice((1, 1, 2, 4))):
        a, b = sorted((draw.randint(0, len(raw)), draw.randint(0, len(raw))))
        b = min(b, a + draw.choice((1, 4, 16, 10**9)))
        word = draw.choice(WORDS[ending])
        changes: list[Callable[[], bytes]] = [
            lambda a=a, raw=raw: raw[:a],
            lambda a=a, b=b, raw=raw: raw[:a] + raw[b:],
            lambda a=a, b=b, raw=raw: raw[:b] + raw[a:],
            lambda a=a, b=b, raw=raw: raw[:b] + raw[a:b] * draw.choice((2, 50)) + raw[b:],
            lambda a=a, raw=raw: raw[:a] + bytes([draw.randrange(256)]) + raw[a + 1 :],
            lambda a=a, raw=raw: (
                raw[:a] + bytes([raw[a] ^ 1 << draw.randrange(8)]) + raw[a + 1 :] if a < len(raw) else raw
            ),
            lambda a=a, raw=raw, word=word: raw[:a] + word + raw[a:],
            lambda a=a, raw=raw, word=word: raw[:a] + word + raw[a + len(word) :],
        ]
        if ending == ".safetensors" and draw.random() < 0.5:
            changes = [lambda raw=raw: header_damaged(raw, draw)]
        raw = draw.choice(changes)()
    return raw


def header_damaged(raw: bytes, draw: random.Random) -> bytes:
    """A safetensors file with one value of its header changed, or its length."""
    length = int.from_bytes(raw[:8], "little")
    odd = (
        0,
        1,
        -1,
        2,
        7,
        2**31,
        2**63,
        2**64 - 1,
        1.5,
        "",
        "x",
        None,
        [],
        {},
        True,
        "I64",
        "F32",
        "BOOL",
        [2, 3],
        [0, 24],
    )
    try:
        header = json.loads(raw[8 : 8 + length])
        entry = header[draw.choice(list(header))]
        if isinstance(entry, dict) and draw.random() < 0.8:
            inner = draw.choice(list(entry))
            if isinstance(entry[inner], list) and draw.random() < 0.8:
                entry[inner][draw.randrange(len(entry[inner]))] = draw.choice(odd)
            else:
                entry[inner] = draw.choice(odd)
        else:
            del header[draw.choice(list(header))]
        text = json.dumps(header).encode()
    except (ValueError, IndexError, TypeError, RecursionError):  # damaged before
        return struct.pack("<Q", draw.choice((0, 1, length + 1, 2**32, 2**63))) + raw[8:]
    return struct.pack("<Q", len(text)) + text + raw[8 + length :]


def read(path: Path) -> str | None:
    """Read a file; None if it holds a valid graph, else the message of the refusal. All else raises."""
    try:
        graph = fw.load(path).graph if path.suffix == ".safetensors" else fw.read_graph(path)
    except fw.FreewireError as error:
        if len(str(error)) > 2000:
            raise ValueError(f"a message of {len(str(error))} characters") from None
        return str(error)
    assert_same_graph(fw.Graph.from_data(graph.to_data()), graph)
    return None


@contextmanager
def limits() -> Iterator[None]:
    """Refuse memory beyond `MEMORY`, and interrupt what takes more than `SECONDS`."""

    def late(*_: Any) -> None:
        raise TimeoutError(f"more than {SECONDS} s")

    signal.signal(signal.SIGALRM, late)
    try:
        with limited_memory(MEMORY):
            yield
    finally:
        signal.alarm(0)


def main(folder: Path, seed: int, files: int) -> int:
    """Damage and read so many files; the number of those that were neither read nor refused."""
    draw, wrong, counts = random.Random(seed), 0, {None: 0}
    whole = list(samples(folder))
    for ending, raw in whole:
        (path := folder / f"whole{ending}").write_bytes(raw)
        assert read(path) is None
    begin = time.monotonic()
    with limits():
        for k in range(files):
            ending, raw = whole[k % len(whole)]
            path = folder / f"{k}{ending}"
            path.write_bytes(damaged(raw, ending, draw))
            signal.alarm(SECONDS)
            try:
                message = read(path)
            except BaseException:
                wrong += 1
                print(f"{path}:\n{traceback.format_exc()}", flush=True)
            else:
                counts[message and ending] = counts.get(message and ending, 0) + 1
                path.unlink()
    print(f"{files} files of seed {seed} in {time.monotonic() - begin:.0f} s: read and refused {counts}", flush=True)
    return wrong


if __name__ == "__main__":
    sys.exit(min(100, main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))

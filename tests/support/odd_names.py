# SPDX-License-Identifier: MIT
"""Node names that a picture's format could take for something else, or that try to break out of where it puts them."""

from __future__ import annotations

from collections.abc import Hashable

#: From names, few enough that a picture writes all of them, to what a reader sees of each, up to 200 characters.
ODD_NAMES: dict[Hashable, str] = {
    "<script>window.hacked = 1</script>": "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script>": "</script><script>window.hacked = 2</script>",
    "<!-- <script>": "<!-- <script>",
    "--><img src=x onerror='window.hacked = 3'>": "--><img src=x onerror='window.hacked = 3'>",
    "</title></style></textarea></noscript>": "</title></style></textarea></noscript>",
    "\"'`; window.hacked = 4; //": "\"'`; window.hacked = 4; //",
    "${window.hacked = 5} $script $$": "${window.hacked = 5} $script $$",
    "javascript:window.hacked=6": "javascript:window.hacked=6",
    "<b>html</b>": "<b>html</b>",
    "&lt;b&gt;&amp;&#65;": "&lt;b&gt;&amp;&#65;",
    "]]>": "]]>",
    "\\u003cb\\u003e": "\\u003cb\\u003e",
    "\\N\\G\\l\\": "\\N\\G\\l\\",
    'say "hi"': 'say "hi"',
    "digraph": "digraph",
    "a:b:ne -> c; {x|y}": "a:b:ne -> c; {x|y}",
    "// no comment /* nor this */": "// no comment /* nor this */",
    "# nor this": "# nor this",
    "$x^2$ and \\$": "$x^2$ and \\$",
    "_hidden": "_hidden",
    "__proto__": "__proto__",
    "": "",
    " ": " ",
    "two\nlines\r\n\ttab": "two\\nlines\\r\\n\\ttab",
    "\u2028and\u2029": "\\u2028and\\u2029",
    "half \ud83d of": "half \\ud83d of",
    "null \0 bell \a": "null \\x00 bell \\x07",
    "abc\u202edcba": "abc\\u202edcba",
    "\u05d0\u05d1\u05d2 (1)": "\u05d0\u05d1\u05d2 (1)",
    "\u0646\u0645\u06cc\u200c\u062e\u0648": "\u0646\u0645\u06cc\u200c\u062e\u0648",
    "π ≤ ∞": "π ≤ ∞",
    "汉字": "汉字",
    "👩\u200d🔬 café": "👩\u200d🔬 café",
    "long" * 10_000: "long" * 25 + "…" + "ong" + "long" * 24,
    ("layer", 3): "('layer', 3)",
    3.5: "3.5",
    True: "True",
}

# SPDX-License-Identifier: MIT
"""Node names that try to break out of where a page puts them, and what a reader of the page should see of each."""

from __future__ import annotations

#: From names to their text in a page.
PAGE_NAMES = {
    "<script>window.hacked = 1</script>": "<script>window.hacked = 1</script>",
    "</script><script>window.hacked = 2</script>": "</script><script>window.hacked = 2</script>",
    "<!-- <script>": "<!-- <script>",
    "--><img src=x onerror='window.hacked = 3'>": "--><img src=x onerror='window.hacked = 3'>",
    "</title></style></textarea></noscript>": "</title></style></textarea></noscript>",
    "\"'`; window.hacked = 4; //": "\"'`; window.hacked = 4; //",
    "${window.hacked = 5} $script $$": "${window.hacked = 5} $script $$",
    "javascript:window.hacked=6": "javascript:window.hacked=6",
    "&lt;b&gt;&amp;": "&lt;b&gt;&amp;",
    "\\u003cb\\u003e": "\\u003cb\\u003e",
    "line\nbreak\r\ttab": "line\\nbreak\\r\\ttab",
    "\u2028and\u2029": "\\u2028and\\u2029",
    "half \ud83d of": "half \\ud83d of",
    "null \0 bell \a": "null \\x00 bell \\x07",
    "abc\u202edcba": "abc\\u202edcba",
    "\u05d0\u05d1\u05d2 (1)": "\u05d0\u05d1\u05d2 (1)",
    "\U0001f600 caf\u00e9 \u6f22\u5b57": "\U0001f600 caf\u00e9 \u6f22\u5b57",
    "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645": "\u0646\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "__proto__": "__proto__",
    "": "(empty)",
    "long" * 10_000: "long" * 49 + "l...",
}

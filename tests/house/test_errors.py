# SPDX-License-Identifier: MIT
"""The exceptions: one base, the builtin a caller would expect, and one form of message everywhere."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import freewire as fw
from freewire import errors
from tests.support.messages import FORM

SOURCES = sorted(Path(errors.__file__).parent.rglob("*.py"))
BUILTINS = {
    "GraphError": ValueError,
    "InputError": ValueError,
    "FileFormatError": ValueError,
    "BuildError": ImportError,
    "OutOfMemoryError": MemoryError,
}


def test_each_is_the_builtin_a_caller_expects_and_freewires():
    own = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    assert set(own) == {"FreewireError", *BUILTINS}
    for name, builtin in BUILTINS.items():
        assert issubclass(own[name], fw.FreewireError)
        assert issubclass(own[name], builtin)
        assert getattr(fw, name) is own[name]
    assert not issubclass(fw.FreewireError, ValueError)


def messages(path: Path) -> list[tuple[int, str]]:
    """(line, message) of every ``raise OurError(message)``; what is filled in is shown as ``x``."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
            continue
        if ast.unparse(node.exc.func) not in (*BUILTINS, "FileNotFoundError"):
            continue
        text = node.exc.args[0]
        if not isinstance(text, ast.JoinedStr | ast.Constant):
            continue  # a message made elsewhere
        parts = text.values if isinstance(text, ast.JoinedStr) else [text]
        found.append((node.lineno, "".join(p.value if isinstance(p, ast.Constant) else "x" for p in parts)))
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_message_has_the_one_form(path):
    for line, message in messages(path):
        # A remedy may be a constant that is defined elsewhere: the message then ends with "x".
        text = message if message.endswith(".") else message + "."
        assert FORM.fullmatch(text), f"{path.name}:{line}: {message}"


def test_messages_are_found():
    found = {path.parent.name: 0 for path in SOURCES}
    for path in SOURCES:
        found[path.parent.name] += len(messages(path))
    assert min(found[name] for name in ("_native", "files", "graph", "models", "nn", "ops", "plan", "studies")) >= 2


def test_values_are_cut_in_messages():
    for value in ("x" * 10**6, ("x" * 10**6, 10**1000), 10**10_000, list(range(10**6)), b"x" * 10**6):
        assert 3 <= len(errors.shown(value)) <= 200


def test_short_values_are_shown_whole():
    for value in ("a b", ("layer", 3), 7, 2.5, None, ["a"], {"k": 1}):
        assert errors.shown(value) == repr(value)
    assert errors.cut("short") == "short"
    assert errors.cut(ValueError("x" * 500), 20) == "x" * 17 + "..."

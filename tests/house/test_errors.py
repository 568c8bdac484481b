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
    assert (
        min(
            found[name]
            for name in (
                "_native",
                "cli",
                "files",
                "graph",
                "keras",
                "models",
                "nn",
                "ops",
                "pictures",
                "plan",
                "search",
                "studies",
            )
        )
        >= 2
    )


#: Functions that cut what they show.
CUTTING = {"cut", "shown"}
#: Annotations of parameters that hold what a caller or a file supplies.
ANYTHING = {"Any", "ArrayLike", "BaseException", "Exception", "Hashable", "Iterable[Hashable]", "object"}


def uncut(source: str) -> list[tuple[int, str]]:
    """(line, expression) of what a module puts into text as long as a caller, a file or another library made it.

    These are conversions (``{name!r}``) and results of ``repr`` that are passed on, anywhere; and in what is raised,
    the bare name of a caught exception, or of a parameter that may be anything. Each belongs into ``shown`` or ``cut``.
    """
    found = []

    def visit(node: ast.AST, suspects: frozenset[str], raising: bool) -> None:
        if isinstance(node, ast.Call) and ast.unparse(node.func) in CUTTING:
            return
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            for argument in arguments:
                suspects -= {argument.arg}
                if argument.annotation is not None and ast.unparse(argument.annotation) in ANYTHING:
                    suspects |= {argument.arg}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            suspects |= {node.name}
        elif isinstance(node, ast.Raise):
            raising = True
        elif isinstance(node, ast.FormattedValue):
            bare = isinstance(node.value, ast.Name) and node.value.id in suspects
            if node.conversion != -1 or (raising and bare):
                found.append((node.lineno, ast.unparse(node.value)))
        if isinstance(node, ast.Call | ast.FormattedValue):
            parts = node.args if isinstance(node, ast.Call) else [node.value]
            calls = [part for part in parts if isinstance(part, ast.Call) and ast.unparse(part.func) == "repr"]
            found.extend((call.lineno, ast.unparse(call)) for call in calls)
        for child in ast.iter_child_nodes(node):
            visit(child, suspects, raising)

    visit(ast.parse(source), frozenset(), False)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_messages_cut_what_others_made(path):
    assert uncut(path.read_text()) == []


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("raise GraphError(f'name: expected a, got {name!r}. Correct it.')", ["name"]),
        ("raise GraphError(f'name: expected a, got {name!r:.60}. Correct it.')", ["name"]),
        ("raise GraphError(f'name: expected a, got {shown(name)}. Correct it.')", []),
        ("refuse('a name', f'{name!s}')", ["name"]),
        ("refuse('a name', repr(name))", ["repr(name)"]),
        ("refuse('a name', cut(repr(name)))", []),
        ("raise GraphError(f'name: expected a, got {repr(name)}. Correct it.')", ["repr(name)"]),
        ("digest.update(repr(name).encode())", []),
        ("names = ', '.join(map(repr, NAMES))", []),
        ("try: pass\nexcept ValueError as error:\n    raise InputError(f'x: expected a, got {error}.')", ["error"]),
        ("try: pass\nexcept ValueError as error:\n    raise InputError(f'x: expected a, got {cut(error)}.')", []),
        ("try: pass\nexcept ValueError as error:\n    raise InputError(f'line {error.lineno}')", []),
        ("def f(value: Any, what: str): raise InputError(f'{what}: expected a, got {value}.')", ["value"]),
        ("def f(value: Any): return lambda value: f'{value}'", []),
        ("def f(value: Any): return f'{value}'", []),
    ],
)
def test_uncut_values_are_found(line, found):
    assert [expression for _, expression in uncut(line)] == found


def test_values_are_cut_in_messages():
    for value in ("x" * 10**6, ("x" * 10**6, 10**1000), 10**10_000, list(range(10**6)), b"x" * 10**6):
        assert 3 <= len(errors.shown(value)) <= 200


def test_any_value_can_be_shown():
    class array:  # noqa: N801 (reprlib decides by the name of a class)
        pass

    class Broken:
        def __repr__(self):
            raise RuntimeError

    for value in (array(), Broken(), [Broken()]):
        assert len(errors.shown(value)) <= 200


def test_short_values_are_shown_whole():
    for value in ("a b", ("layer", 3), 7, 2.5, None, ["a"], {"k": 1}):
        assert errors.shown(value) == repr(value)
    assert errors.cut("short") == "short"
    assert errors.cut(ValueError("x" * 500), 20) == "x" * 17 + "..."

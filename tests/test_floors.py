# SPDX-License-Identifier: MIT
"""The floors of the house: a file imports from lower floors only, and the raw kernels know no torch.

`HOUSE` is the order of the modules; give a new one its place here. What runs only for a type checker
(``if TYPE_CHECKING``) is no import.
"""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: Floor -> its modules, lowest first: a module may import those before it. Floor 6 is examples/ and benchmarks/.
HOUSE = {
    0: ("errors", "_toolchain"),
    1: (
        *("_planner", "_compiled", "_arguments", "_canonical", "_edges", "_networkx", "_files", "graph"),
        *("_draws", "_dags", "generators"),
    ),
    2: ("plan", "_memory", "metrics", "_csv_graph", "_graphml", "graph_files"),
    3: ("_reference", "_cuda_build", "_cuda_cache", "_library", "ops", "_gated_sum", "_gated_depthwise"),
    4: ("_wired", "network", "_blocks", "_checkpoint", "_stage", "models"),
    5: ("io", "_replay", "studies", "timm"),
}
#: A module that is compiled stands in freewire/ as its stub.
KINDS = (".py", ".pyi")
#: What a floor may import from outside, beside the standard library and what the floors below it may.
GUESTS = {0: (), 1: ("numpy", "networkx"), 2: (), 3: ("torch",), 4: (), 5: ("safetensors", "matplotlib", "timm")}
ORDER = [module for floor in sorted(HOUSE) for module in HOUSE[floor]]
FLOOR = {module: floor for floor, modules in HOUSE.items() for module in modules}

#: The C++ files that speak torch. All others are raw: they compile, and are sanitized, without it.
TORCH_BOUND = {"library.cpp", "checks.h", "cpu/forward.cpp", "cpu/backward.cpp", "cpu/torch_threads.h"}
TORCH_BOUND |= {"gated_sum.h", "cpu/gated_sum.cpp", "cpu/gated_sum_call.h", "cpu/gated_depthwise.cpp"}
TORCH_BOUND |= {"cuda/gated_sum.cpp"}
TORCH_BOUND |= {"cuda/forward.cpp", "cuda/backward.cpp", "cuda/torch_stream.h", "testing/simt_torch.cpp"}
#: Without nvcc, CUDA sources run on the CPU through this one door.
SHIM_DOOR = ("cuda/device.h", "testing/simt.h")
TORCH_HEADER = re.compile(r"(torch|ATen|c10)\b")
#: The one that speaks Python.
PYTHON_BOUND = {"planner/module.cpp"}
PYTHON_HEADER = re.compile(r"(pybind11|Python\.h)\b")


# ---------------------------------------------------------------------------------- Python


def imported(source: str) -> Iterator[tuple[str, str | None]]:
    """Every (module, name) that the source imports when it runs; name None for ``import module``."""
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            waiting.extend(node.orelse)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["freewire" if node.level else "", node.module]))
            yield from ((module, alias.name) for alias in node.names)
        else:
            waiting.extend(ast.iter_child_nodes(node))


def modules_of(root: Path) -> set[str]:
    """The package's modules but for its ``__init__``."""
    return {path.stem for path in (root / "freewire").iterdir() if path.suffix in KINDS} - {"__init__"}


def file_of(root: Path, module: str) -> Path:
    (path,) = (path for kind in KINDS if (path := root / "freewire" / f"{module}{kind}").is_file())
    return path


def python_breaks(root: Path) -> list[str]:
    """What freewire/*.py imports against the rules, a sentence each."""
    found = []
    modules = modules_of(root)
    found += [f"freewire/{m}.py has no floor: give it one in tests/test_floors.py" for m in modules - set(ORDER)]
    for module in sorted(modules & set(ORDER)):
        guests = {guest for floor in range(FLOOR[module] + 1) for guest in GUESTS[floor]}
        for origin, name in imported(file_of(root, module).read_text()):
            top, _, rest = origin.partition(".")
            if top != "freewire":
                if top not in guests and top not in sys.stdlib_module_names:
                    found.append(f"freewire/{module}.py, floor {FLOOR[module]}, imports {top}")
                continue
            other = rest or name or "everything"
            if other not in modules:
                found.append(f"freewire/{module}.py imports {other} from the package, not from where it stands")
            elif other not in ORDER[: ORDER.index(module)]:
                floor = f", floor {FLOOR[other]}" if other in FLOOR else ""
                found.append(f"freewire/{module}.py, floor {FLOOR[module]}, imports {other}{floor}")
    return found


def exports(source: str) -> set[str]:
    """The names that ``__init__.py`` re-exports; anything in it but ``X as X`` and the version is refused."""
    names = set()
    for statement in ast.parse(source).body:
        match statement:
            case ast.Expr(value=ast.Constant(value=str())):
                pass
            case ast.Assign(targets=[ast.Name(id="__version__" as name)]):
                names.add(name)
            case ast.ImportFrom(names=aliases) if all(a.name == a.asname for a in aliases):
                names.update(alias.name for alias in aliases)
            case _:
                raise AssertionError(f"no 'X as X' re-export: {ast.unparse(statement)}")
    return names


def declared(source: str) -> set[str]:
    """A module's ``__all__``."""
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "__all__":
            return set(ast.literal_eval(statement.value))
    return set()


def user_breaks(root: Path) -> list[str]:
    """What examples/ and benchmarks/ take that is not public.

    Public is what ``freewire/__init__.py`` re-exports, and the ``__all__`` of a module without an underscore.
    """
    package = {p.stem: p.read_text() for p in (root / "freewire").glob("*.py")}
    public = exports(package.pop("__init__"))
    open_modules = {module: declared(text) for module, text in package.items() if not module.startswith("_")}
    found = []
    for path in sorted(p for folder in ("examples", "benchmarks") for p in (root / folder).rglob("*.py")):
        here, source = path.relative_to(root).as_posix(), path.read_text()
        for origin, name in imported(source):
            top, _, module = origin.partition(".")
            if top != "freewire" or (not module and name is None):
                continue
            allowed = open_modules.get(module, set()) if module else public
            if (module and module not in open_modules) or (name is not None and name not in allowed):
                found.append(f"{here} takes {'.'.join(filter(None, [origin, name]))}")
        aliases = {
            alias.asname or alias.name
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.Import)
            for alias in node.names
            if alias.name == "freewire"
        }
        for node in ast.walk(ast.parse(source)):
            if not isinstance(node, ast.Attribute):
                continue
            alias, _, module = ast.unparse(node.value).partition(".")
            allowed = open_modules.get(module, set()) if module else public | set(open_modules)
            if alias in aliases and (not module or module in open_modules) and node.attr not in allowed:
                found.append(f"{here} takes {'.'.join(filter(None, ['freewire', module, node.attr]))}")
    return found


# ---------------------------------------------------------------------------------- C++


def included(path: Path) -> list[tuple[str, str]]:
    """Every (bracket, file) that a C++ file includes."""
    return re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', path.read_text(), re.MULTILINE)


def cpp_breaks(csrc: Path) -> list[str]:
    """What csrc/ includes against the rules, a sentence each."""
    found = []
    files = {p.relative_to(csrc).as_posix(): p for p in csrc.rglob("*") if p.suffix in (".h", ".cpp", ".cu", ".cuh")}
    own = {name: [other for bracket, other in included(path) if bracket == '"'] for name, path in files.items()}
    for name, path in sorted(files.items()):
        folder = name.partition("/")[0] if "/" in name else ""
        for bracket, other in included(path):
            foreign = (TORCH_HEADER, TORCH_BOUND), (PYTHON_HEADER, PYTHON_BOUND)
            if any(header.match(other) and name not in bound for header, bound in foreign):
                found.append(f"csrc/{name} is raw and includes {other}")
            elif bracket == '"' and other not in files:
                found.append(f'csrc/{name} includes "{other}", no file of csrc/')
        for other in own[name]:
            target = other.partition("/")[0] if "/" in other else ""
            allowed = {"": {""}, "testing": {"", "cpu", "cuda", "planner", "testing"}}.get(folder, {"", folder})
            if target not in allowed and (name, other) != SHIM_DOOR:
                found.append(f"csrc/{name} includes {other}, of a folder above or beside it")
            if other.endswith((".cpp", ".cu")):
                found.append(f"csrc/{name} includes the source {other}")
            if other in TORCH_BOUND and name not in TORCH_BOUND:
                found.append(f"csrc/{name} is raw and includes {other}, which speaks torch")
    rest = {name: set(others) & set(files) for name, others in own.items()}
    while leaves := {name for name, others in rest.items() if not others & rest.keys()}:
        rest = {name: others for name, others in rest.items() if name not in leaves}
    if rest:
        found.append(f"csrc/ includes itself in a circle: {', '.join(sorted(rest))}")
    return found


# ---------------------------------------------------------------------------------- tests


class TestHouse:
    """The house as it stands."""

    def test_modules_import_from_below(self):
        assert python_breaks(ROOT) == []

    def test_every_place_in_the_house_is_taken(self):
        assert sorted(ORDER) == sorted(modules_of(ROOT))

    def test_examples_and_benchmarks_use_public_names(self):
        assert user_breaks(ROOT) == []

    def test_raw_kernels_know_no_torch(self):
        assert cpp_breaks(ROOT / "csrc") == []

    def test_files_that_speak_torch_do(self):
        for name in TORCH_BOUND:  # or the list would hide a file that became raw
            assert any(TORCH_HEADER.match(other) for _, other in included(ROOT / "csrc" / name)), name
        for name in PYTHON_BOUND:
            assert any(PYTHON_HEADER.match(other) for _, other in included(ROOT / "csrc" / name)), name

    def test_the_public_face_is_small(self):
        text = (ROOT / "freewire" / "__init__.py").read_text()
        assert len(text.splitlines()) < 60
        names = exports(text)
        assert {"Graph", "Network", "generators", "load", "plan", "reference", "save"} <= names
        assert not any(name.startswith("_") for name in names - {"__version__"})

    def test_floors_below_torch_run_without_it(self):
        """With torch missing and the package's own __init__ (which is above them) stepped over."""
        modules = [m for m in ORDER if FLOOR[m] <= 2]
        code = f"""
import importlib, sys, types
for name in ("torch", "safetensors", "scipy"):
    sys.modules[name] = None  # importing it raises
package = types.ModuleType("freewire")
package.__path__ = [{str(ROOT / "freewire")!r}]
sys.modules["freewire"] = package
for module in {modules!r}:
    importlib.import_module("freewire." + module)
from freewire import generators, plan
made = plan.make_plan(generators.mlp([2, 3, 1]))
print(made.num_levels, len(made.pack()) > 0, "torch" in dir(plan))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.stderr == ""
        assert done.stdout == "3 True False\n"


class TestBreaksAreCaught:
    """The rules above, on a copy of the house with one thing wrong."""

    @pytest.fixture
    def house(self, tmp_path: Path) -> Path:
        ignore = shutil.ignore_patterns("*.so", "__pycache__")
        for folder in ("freewire", "csrc"):
            shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
        (tmp_path / "examples").mkdir()
        return tmp_path

    def test_the_copy_is_whole(self, house):
        assert python_breaks(house) == cpp_breaks(house / "csrc") == []

    @pytest.mark.parametrize(
        ("module", "line", "said"),
        [
            ("graph", "import torch", "freewire/graph.py, floor 1, imports torch"),
            ("plan", "from torch.nn import functional", "freewire/plan.py, floor 2, imports torch"),
            ("errors", "import numpy as np", "freewire/errors.py, floor 0, imports numpy"),
            ("network", "import safetensors.torch", "freewire/network.py, floor 4, imports safetensors"),
            ("graph", "from freewire.plan import make_plan", "freewire/graph.py, floor 1, imports plan, floor 2"),
            ("graph", "from freewire import generators", "freewire/graph.py, floor 1, imports generators, floor 1"),
            ("plan", "import freewire.ops", "freewire/plan.py, floor 2, imports ops, floor 3"),
            ("plan", "from . import network", "freewire/plan.py, floor 2, imports network, floor 4"),
            ("_edges", "from .graph import Graph", "freewire/_edges.py, floor 1, imports graph, floor 1"),
            (
                "_reference",
                "def f():\n    import freewire.ops",
                "freewire/_reference.py, floor 3, imports ops, floor 3",
            ),
            (
                "ops",
                "try:\n    from freewire import io\nexcept ImportError: ...",
                "freewire/ops.py, floor 3, imports io, floor 5",
            ),
            (
                "ops",
                "from freewire import Graph",
                "freewire/ops.py imports Graph from the package, not from where it stands",
            ),
            ("ops", "import freewire", "freewire/ops.py imports everything from the package, not from where it stands"),
            ("io", "import scipy", "freewire/io.py, floor 5, imports scipy"),
            ("extra", "", "freewire/extra.py has no floor: give it one in tests/test_floors.py"),
        ],
    )
    def test_python(self, house, module, line, said):
        with (house / "freewire" / f"{module}.py").open("a") as file:
            file.write(f"\n{line}\n")
        assert python_breaks(house) == [said]

    def test_what_a_type_checker_reads_is_no_import(self, house):
        with (house / "freewire" / "graph.py").open("a") as file:
            file.write("\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\n")
        assert python_breaks(house) == []

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("from freewire._reference import reference", ["takes freewire._reference.reference"]),
            ("from freewire import _draws", ["takes freewire._draws"]),
            ("import freewire.ops, freewire._dags", ["takes freewire._dags"]),
            ("from freewire.graph import Graph, IntArray", ["takes freewire.graph.IntArray"]),
            ("import freewire as fw\nfw._library.load_library", ["takes freewire._library"]),
            ("import freewire\nfreewire.Graph, freewire.nothing", ["takes freewire.nothing"]),
            ("import freewire as fw\nfrom freewire import Graph\nfw.generators.mlp, fw.__version__", []),
            ("from freewire.graph import ACTIVATIONS", []),
            ("import freewire as fw\nfw.graph.ACTIVATIONS, fw.plan.make_plan, fw.Graph.union", []),
            (
                "import freewire as fw\nfw.graph.canonical(fw.plan._MAGIC)",
                ["takes freewire.graph.canonical", "takes freewire.plan._MAGIC"],
            ),
        ],
    )
    def test_examples(self, house, line, said):
        (house / "examples" / "try.py").write_text(line)
        assert user_breaks(house) == [f"examples/try.py {what}" for what in said]

    @pytest.mark.parametrize(
        ("name", "line", "said"),
        [
            (
                "node_math.h",
                "#include <torch/csrc/stable/ops.h>",
                "csrc/node_math.h is raw and includes torch/csrc/stable/ops.h",
            ),
            ("plan_view.h", "#include <ATen/ATen.h>", "csrc/plan_view.h is raw and includes ATen/ATen.h"),
            ("cpu/tile.h", '#include "checks.h"', "csrc/cpu/tile.h is raw and includes checks.h, which speaks torch"),
            (
                "cpu/isa_base.cpp",
                "  #  include <c10/macros/Macros.h>",
                "csrc/cpu/isa_base.cpp is raw and includes c10/macros/Macros.h",
            ),
            ("checks.h", '#include "cpu/vec.h"', "csrc/checks.h includes cpu/vec.h, of a folder above or beside it"),
            (
                "cpu/tile.h",
                '#include "cuda/tile.h"',
                "csrc/cpu/tile.h includes cuda/tile.h, of a folder above or beside it",
            ),
            (
                "cuda/new.cu",
                '#include "cpu/tile.h"',
                "csrc/cuda/new.cu includes cpu/tile.h, of a folder above or beside it",
            ),
            (
                "cpu/drive.h",
                '#include "testing/exact.h"',
                "csrc/cpu/drive.h includes testing/exact.h, of a folder above or beside it",
            ),
            (
                "cpu/dispatch.cpp",
                '#include "cpu/isa_base.cpp"',
                "csrc/cpu/dispatch.cpp includes the source cpu/isa_base.cpp",
            ),
            ("cpu/vec.h", '#include "tile.h"', 'csrc/cpu/vec.h includes "tile.h", no file of csrc/'),
            (
                "planner/order.cpp",
                "#include <pybind11/numpy.h>",
                "csrc/planner/order.cpp is raw and includes pybind11/numpy.h",
            ),
            (
                "library.cpp",
                "#include <pybind11/pybind11.h>",
                "csrc/library.cpp is raw and includes pybind11/pybind11.h",
            ),
            (
                "planner/module.cpp",
                "#include <torch/csrc/stable/ops.h>",
                "csrc/planner/module.cpp is raw and includes torch/csrc/stable/ops.h",
            ),
            ("platform.h", '#include "platform.h"', "csrc/ includes itself in a circle: "),
        ],
    )
    def test_cpp(self, house, name, line, said):
        (house / "csrc" / "cuda").mkdir(exist_ok=True)
        (house / "csrc" / "cuda" / "tile.h").touch()
        with (house / "csrc" / name).open("a") as file:
            file.write(f"\n{line}\n")
        breaks = cpp_breaks(house / "csrc")
        assert len(breaks) == 1
        assert breaks[0].startswith(said)

    @pytest.mark.parametrize(
        "line",
        ["import os", "from freewire.graph import Graph", "from freewire.io import load as read", "x = 1", "print(1)"],
    )
    def test_the_public_face(self, line):
        text = (ROOT / "freewire" / "__init__.py").read_text()
        with pytest.raises(AssertionError, match=f"no 'X as X' re-export: {re.escape(line)}"):
            exports(f"{text}\n{line}\n")

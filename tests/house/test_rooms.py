# SPDX-License-Identifier: MIT
"""The rooms of the house: what may import what, in Python and in C++.

The rules between the Python packages are import-linter's contracts in pyproject.toml, which `make check` runs; here is
shown that each of them can fail. Two rules are our own: examples and benchmarks use public names only, and in csrc/
raw kernels include neither torch nor Python.
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

from tests.support import ROOT

#: The packages that run without torch, lowest first.
TORCH_FREE = ("errors", "version", "_native", "graph", "files", "generators", "pictures", "plan")

#: The C++ files that include torch. All others are raw: they compile, and are sanitized, without it.
TORCH_BOUND = {"library.cpp", "checks.h", "population_checks.h", "gated_sum.h", "testing/simt/simt_torch.cpp"}
TORCH_BOUND |= {"cpu/torch_tensors.h", "cpu/torch_threads.h", "cuda/common/torch_stream.h"}
OPS = ("network/forward", "network/backward", "network/sequence", "network/population", "blocks/gated_sum")
TORCH_BOUND |= {f"{device}/{name}_op.cpp" for device in ("cpu", "cuda") for name in OPS}
TORCH_BOUND |= {"cpu/blocks/gated_sum_call.h", "cpu/blocks/gated_depthwise_op.cpp", "cuda/network/chosen_tile.h"}
TORCH_BOUND |= {f"cpu/stages/stage_{name}" for name in ("call.h", "op.cpp", "training_op.cpp")}
#: The one header through which CUDA sources reach the shim where there is no nvcc.
SHIM_DOOR = ("cuda/common/device.h", "testing/simt/simt.h")
TORCH_HEADER = re.compile(r"(torch|ATen|c10)\b")
#: The C++ file that includes Python.
PYTHON_BOUND = {"planner/module.cpp"}
PYTHON_HEADER = re.compile(r"(pybind11|Python\.h)\b")


# ---------------------------------------------------------------------------------- Python


def imported(source: str) -> Iterator[tuple[str, str | None]]:
    """Every (module, name) that the source imports; name None for ``import module``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, ["freewire" if node.level else "", node.module]))
            yield from ((module, alias.name) for alias in node.names)


def exports(source: str) -> set[str]:
    """The names that ``__init__.py`` re-exports; anything in it but ``X as X`` and the version is refused."""
    names = set()
    for statement in ast.parse(source).body:
        match statement:
            case ast.Expr(value=ast.Constant(value=str())):
                pass
            case ast.Assign(targets=[ast.Name(id="__version__" as name)]):
                names.add(name)
            case ast.Assign(targets=[ast.Name(id="__all__")]):
                pass
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


def doors(root: Path) -> dict[str, set[str]]:
    """Every public module below freewire, with the names that it offers: its ``__all__``.

    Packages, and modules next to them, are public if their name has no underscore; so are the modules that
    ``freewire/__init__.py`` re-exports, such as ``fw.metrics``.
    """
    package = root / "freewire"
    found = {path.parent.name: path for path in package.glob("*/__init__.py")}
    found |= {path.stem: path for path in package.glob("*.py") if path.stem != "__init__"}
    for origin, name in imported((package / "__init__.py").read_text()):
        path = root.joinpath(*origin.split("."), f"{name}.py")
        if path.is_file():
            found[str(name)] = path
    return {name: declared(path.read_text()) for name, path in found.items() if not name.startswith("_")}


def user_breaks(root: Path) -> list[str]:
    """The names in examples/ and benchmarks/ that are not public, a line each.

    Public is what ``freewire/__init__.py`` re-exports, and the ``__all__`` of a public module.
    """
    public = exports((root / "freewire" / "__init__.py").read_text())
    modules = doors(root)
    found = []
    for path in sorted(p for folder in ("examples", "benchmarks") for p in (root / folder).rglob("*.py")):
        here, source = path.relative_to(root).as_posix(), path.read_text()
        for origin, name in imported(source):
            top, _, module = origin.partition(".")
            if top != "freewire" or (not module and name is None):
                continue
            allowed = modules.get(module, set()) if module else public
            if (module and module not in modules) or (name is not None and name not in allowed):
                found.append(f"{here} uses {'.'.join(filter(None, [origin, name]))}")
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
            allowed = modules.get(module, set()) if module else public | set(modules)
            if alias in aliases and (not module or module in modules) and node.attr not in allowed:
                found.append(f"{here} uses {'.'.join(filter(None, ['freewire', module, node.attr]))}")
    return found


def broken_contracts(root: Path) -> list[str]:
    """The names of the import-linter contracts that the package in a folder breaks."""
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command; lint_imports_command()"]
    done = subprocess.run([*command, "--no-cache", "--no-logo"], cwd=root, capture_output=True, text=True)
    assert "Contracts: " in done.stdout, done.stdout + done.stderr
    return re.findall(r"^(.+?) BROKEN(?: \(.*\))?$", done.stdout, re.MULTILINE)


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
            allowed = {
                "": {""},
                "testing": {"", "cpu", "cuda", "planner", "testing"},
                "planner": {"", "cpu", "cuda", "planner"},
            }.get(folder, {"", folder})
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
    """The repository as it is."""

    def test_examples_and_benchmarks_use_public_names(self):
        assert user_breaks(ROOT) == []

    def test_raw_kernels_include_no_torch(self):
        assert cpp_breaks(ROOT / "csrc") == []

    def test_files_that_may_include_torch_do(self):
        for name in TORCH_BOUND:  # or the list would hide a file that became raw
            assert any(TORCH_HEADER.match(other) for _, other in included(ROOT / "csrc" / name)), name
        for name in PYTHON_BOUND:
            assert any(PYTHON_HEADER.match(other) for _, other in included(ROOT / "csrc" / name)), name

    def test_bindings_are_named_so(self):
        """A file that registers operators with torch is a ``*_op.cpp``, and every ``*_op.cpp`` does."""
        csrc = ROOT / "csrc"
        registers = {p for p in csrc.rglob("*.cpp") if "STABLE_TORCH_LIBRARY_IMPL(" in p.read_text()}
        assert registers - set((csrc / "testing").rglob("*")) == set(csrc.rglob("*_op.cpp"))

    def test_the_public_face_is_small(self):
        text = (ROOT / "freewire" / "__init__.py").read_text()
        assert len(text.splitlines()) < 60
        names = exports(text)
        assert {"Graph", "Network", "generators", "load", "metrics", "plan", "reference", "save"} <= names
        assert not any(name.startswith("_") for name in names - {"__version__"})

    @pytest.mark.parametrize("package", sorted(path.parent.name for path in ROOT.glob("freewire/*/__init__.py")))
    def test_a_package_is_a_door(self, package):
        """Its ``__init__`` re-exports the names of its ``__all__``, and holds nothing else."""
        text = (ROOT / "freewire" / package / "__init__.py").read_text()
        assert exports(text) == declared(text)

    def test_packages_below_torch_run_without_it(self):
        """With torch missing, and the package's own __init__, which imports it, stepped over."""
        modules = [
            ".".join(path.relative_to(ROOT).with_suffix("").parts)
            for name in TORCH_FREE
            for path in sorted([*ROOT.glob(f"freewire/{name}.py"), *ROOT.glob(f"freewire/{name}/[!_]*.py")])
        ]
        assert len(modules) > len(TORCH_FREE)
        code = f"""
import importlib, sys, types
for name in ("torch", "safetensors", "scipy"):
    sys.modules[name] = None  # importing it raises
package = types.ModuleType("freewire")
package.__path__ = [{str(ROOT / "freewire")!r}]
sys.modules["freewire"] = package
for module in {modules!r}:
    importlib.import_module(module)
from freewire import generators, plan
made = plan.make_plan(generators.mlp([2, 3, 1]))
print(made.num_levels, len(made.pack().words) > 0, "torch" in dir(plan))
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
        assert done.stderr == ""
        assert done.stdout == "3 True False\n"

    def test_importing_it_imports_no_more_than_it_needs(self):
        """No optional package, and not torch's compiler, which takes as long to import as torch itself."""
        unwanted = ["torch._dynamo", "matplotlib", "numba", "scipy", "sklearn", "tensorboard", "timm"]
        unwanted += ["cloudpickle", "dask", "distributed", "optuna"]  # torch itself imports tqdm
        code = f"import sys, freewire; print([name for name in {unwanted!r} if name in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
        assert done.stdout == "[]\n"


class TestBreaksAreCaught:
    """The rules above, on a copy of the house with one thing wrong."""

    @pytest.fixture
    def house(self, tmp_path: Path) -> Path:
        ignore = shutil.ignore_patterns("*.so", "__pycache__")
        for folder in ("freewire", "csrc"):
            shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignore)
        shutil.copy(ROOT / "pyproject.toml", tmp_path)
        (tmp_path / "examples").mkdir()
        return tmp_path

    def test_the_copy_is_whole(self, house):
        assert broken_contracts(house) == cpp_breaks(house / "csrc") == []

    FLOORS = "A package imports from lower floors only"
    CYCLES = "No import cycles, inside packages either"
    DOOR = "Inside the package nothing imports from freewire itself"
    TORCH = "No torch below ops"

    @pytest.mark.parametrize(
        ("module", "line", "broken"),
        [
            ("graph/graph", "import torch", {TORCH}),
            ("plan/plan", "def f():\n    from torch.nn import functional", {TORCH}),
            ("errors", "import numpy as np", {"Only the standard library where the package is built"}),
            ("nn/network", "import scipy", {"Optional packages only where they are the subject"}),
            ("graph/graph", "from freewire.plan import make_plan", {FLOORS, CYCLES}),
            ("plan/plan", "from freewire import generators", {FLOORS}),
            ("ops/library", "from .network import evaluate", {CYCLES}),
            ("ops/network", "from freewire import Graph", {DOOR}),
            ("extra", "", {FLOORS}),
        ],
    )
    def test_python(self, house, module, line, broken):
        with (house / "freewire" / f"{module}.py").open("a") as file:
            file.write(f"\n{line}\n")
        assert broken <= set(broken_contracts(house))

    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("from freewire.nn.reference import reference", ["uses freewire.nn.reference.reference"]),
            ("from freewire import reference, generators", []),
            (
                "import freewire.ops.network, freewire._native",
                ["uses freewire.ops.network", "uses freewire._native"],
            ),
            ("from freewire.graph import Graph, IntArray", ["uses freewire.graph.IntArray"]),
            ("import freewire as fw\nfw._native.toolchain", ["uses freewire._native"]),
            ("import freewire as fw\nfw.Network, fw.generators.mlp, fw.metrics.summary", []),
            ("import freewire as fw\nfw.metrics.np", ["uses freewire.metrics.np"]),
            ("from freewire.graph import ACTIVATIONS", []),
            ("import freewire as fw\nfw.graph.ACTIVATIONS, fw.plan.make_plan, fw.Graph.union", []),
            (
                "import freewire as fw\nfw.graph.canonical(fw.plan._MAGIC)",
                ["uses freewire.graph.canonical", "uses freewire.plan._MAGIC"],
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
            (
                "cpu/network/tile.h",
                '#include "checks.h"',
                "csrc/cpu/network/tile.h is raw and includes checks.h, which speaks torch",
            ),
            (
                "cpu/isa/isa_base.cpp",
                "  #  include <c10/macros/Macros.h>",
                "csrc/cpu/isa/isa_base.cpp is raw and includes c10/macros/Macros.h",
            ),
            (
                "checks.h",
                '#include "cpu/simd/vec.h"',
                "csrc/checks.h includes cpu/simd/vec.h, of a folder above or beside it",
            ),
            (
                "cpu/network/tile.h",
                '#include "cuda/tile.h"',
                "csrc/cpu/network/tile.h includes cuda/tile.h, of a folder above or beside it",
            ),
            (
                "cuda/new.cu",
                '#include "cpu/network/tile.h"',
                "csrc/cuda/new.cu includes cpu/network/tile.h, of a folder above or beside it",
            ),
            (
                "cpu/network/forward_drive.h",
                '#include "testing/cases/exact.h"',
                "csrc/cpu/network/forward_drive.h includes testing/cases/exact.h, of a folder above or beside it",
            ),
            (
                "cpu/isa/dispatch.cpp",
                '#include "cpu/isa/isa_base.cpp"',
                "csrc/cpu/isa/dispatch.cpp includes the source cpu/isa/isa_base.cpp",
            ),
            ("cpu/simd/vec.h", '#include "tile.h"', 'csrc/cpu/simd/vec.h includes "tile.h", no file of csrc/'),
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
        [
            "import os",
            "from freewire.graph import Graph",
            "from freewire.nn.serialization import load as read",
            "x = 1",
            "print(1)",
        ],
    )
    def test_the_public_face(self, line):
        text = (ROOT / "freewire" / "__init__.py").read_text()
        with pytest.raises(AssertionError, match=f"no 'X as X' re-export: {re.escape(line)}"):
            exports(f"{text}\n{line}\n")

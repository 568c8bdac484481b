# SPDX-License-Identifier: MIT
"""Peers that are in no package index: they run from a checkout that the user names; none of their code is kept here.

``python -m benchmarks.suites.cpu --checkout NAME=PATH`` fills `CHECKOUTS`. `load` imports their modules without their
packages' ``__init__.py``, which need much that a forward does not (a drawing program, a physics engine), and under
another name where theirs is taken.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

__all__ = ["CHECKOUTS", "SOURCES", "absent", "load", "load_from"]

#: Where to get the projects, by name.
SOURCES = {
    "freewire2019": "https://github.com/noahtren/Freewire",
    "tensorneat": "https://github.com/EMI-Group/tensorneat",
    "pytorch-neat": "https://github.com/uber-research/PyTorch-NEAT",
}
#: Where they are on this machine, by name; None if not given.
CHECKOUTS: dict[str, Path | None] = dict.fromkeys(SOURCES)


def absent(name: str, folder: str) -> str | None:
    """Why a peer cannot run, or None if its checkout is there.

    Args:
        name: One of `CHECKOUTS`.
        folder: The package's folder inside the checkout.
    """
    path = CHECKOUTS[name]
    if path is None:
        return f"no checkout given: git clone {SOURCES[name]}, then --checkout {name}=PATH"
    if not (path / folder).is_dir():
        return f"the given checkout has no folder {folder}: git clone {SOURCES[name]}"
    return None


def load(name: str, folder: str, package: str, module: str) -> Any:
    """Import a module of a checkout.

    Args:
        name: One of `CHECKOUTS` that is given.
        folder: The package's folder inside the checkout.
        package: The name to import the package under.
        module: The module's name inside the package.
    """
    path = CHECKOUTS[name]
    assert path is not None
    return load_from(path / folder, package, module)


def load_from(folder: Path, package: str, module: str) -> Any:
    """Import a module from a folder.

    Args:
        folder: The folder, treated as a package; its ``__init__.py``, if any, is not run.
        package: The name to import the package under.
        module: The module's name inside the package.
    """
    if package not in sys.modules:
        bare = types.ModuleType(package)
        bare.__path__ = [str(folder.resolve())]
        sys.modules[package] = bare
    return importlib.import_module(f"{package}.{module}")

# SPDX-License-Identifier: MIT
"""Peers that no package index has: they run from a checkout that the user names, and nothing of theirs is kept here.

Enters: `CHECKOUTS`, filled by ``python -m benchmarks.suites.run --checkout NAME=PATH``. Leaves: their modules, imported
without their packages' ``__init__.py``, which ask for much that a forward does not need (a drawing program, a physics
engine), and under a name of our own where theirs is taken.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

__all__ = ["CHECKOUTS", "SOURCES", "absent", "load", "load_from"]

#: By name, where the projects can be had.
SOURCES = {
    "freewire2019": "https://github.com/noahtren/Freewire",
    "tensorneat": "https://github.com/EMI-Group/tensorneat",
    "pytorch-neat": "https://github.com/uber-research/PyTorch-NEAT",
}
#: By name, where they are on this machine; None: not given.
CHECKOUTS: dict[str, Path | None] = dict.fromkeys(SOURCES)


def absent(name: str, folder: str) -> str | None:
    """Why a peer is left out, or None if its checkout is there.

    Args:
        name: One of `CHECKOUTS`.
        folder: The package inside the checkout.
    """
    path = CHECKOUTS[name]
    if path is None:
        return f"no checkout given: git clone {SOURCES[name]}, then --checkout {name}=PATH"
    if not (path / folder).is_dir():
        return f"the checkout given has no folder {folder}: git clone {SOURCES[name]} gives one that has"
    return None


def load(name: str, folder: str, package: str, module: str) -> Any:
    """Import a module of a checkout.

    Args:
        name: One of `CHECKOUTS`, given.
        folder: The package inside the checkout.
        package: The name to import it under.
        module: The module, from the package on.
    """
    path = CHECKOUTS[name]
    assert path is not None
    return load_from(path / folder, package, module)


def load_from(folder: Path, package: str, module: str) -> Any:
    """Import a module that lies in a folder.

    Args:
        folder: Taken as a package, whether it has an ``__init__.py`` or not; none is run.
        package: The name to import it under.
        module: The module, from the package on.
    """
    if package not in sys.modules:
        bare = types.ModuleType(package)
        bare.__path__ = [str(folder.resolve())]
        sys.modules[package] = bare
    return importlib.import_module(f"{package}.{module}")

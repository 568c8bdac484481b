# SPDX-License-Identifier: MIT
"""What the suites' command lines share: arguments, the command as it is recorded, and where results are written."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from freewire.files import replacing

__all__ = [
    "add_checkouts",
    "add_destinations",
    "checkout",
    "destinations",
    "header",
    "spelled",
    "write_json",
    "write_text",
]


def spelled(module: str, arguments: Sequence[str] | None, names: Collection[str] = ()) -> str:
    """The command line as a reader would type it, without the paths of this machine, since results are shared.

    Args:
        module: The suite's module, such as "benchmarks.suites.cpu".
        arguments: Its arguments; None for those of this process.
        names: Names of checkouts, whose paths are replaced by PATH.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if "--json" in given:
        at = given.index("--json")
        del given[at : at + 2]
    given = [word for word in given if not word.startswith("--json=")]
    known = {f"{name}=" for name in names}
    shown = [next((f"{name}PATH" for name in known if word.startswith(name)), word) for word in given]
    return " ".join(["python", "-m", module, *shown])


def header(machine: dict[str, Any]) -> str:
    """One line about the machine and the versions."""
    about = f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} thread(s), torch {machine['torch']}"
    return f"{about}, freewire {machine['freewire']} ({machine['commit']}), load {machine['load']}"


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write results, creating the folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(content, indent=1) + "\n")
    print(f"\nwritten to {path}")


def write_text(path: Path, text: str) -> None:
    """Write a text file; if the command is killed meanwhile, any older file is still there."""
    with replacing(path) as file:
        file.write(text.encode())


def add_destinations(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of commands whose results and plots are kept in the repository; see `destinations`."""
    parser.add_argument("--json", type=Path, metavar="PATH", help="default: in benchmarks/results/")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="default: docs/img/")
    parser.add_argument("--quick", action="store_true", help="small and short, into build/: a test of the benchmark")


def destinations(options: argparse.Namespace, name: str) -> tuple[Path, Path]:
    """The file of the results and the folder of the plots; those of a quick run are kept apart, in build/."""
    results, images = ("build", "build") if options.quick else ("benchmarks/results", "docs/img")
    return options.json or Path(results, f"{name}.json"), options.images or Path(images)


def add_checkouts(parser: argparse.ArgumentParser, names: Collection[str]) -> None:
    """Add ``--checkout NAME=PATH ...``, for peers that run from a checkout named by the user."""
    parser.add_argument(
        "--checkout",
        nargs="+",
        action="extend",
        type=lambda text: checkout(text, names),
        default=[],
        metavar="NAME=PATH",
        help=f"folders of peers that are in no package index: {', '.join(names)}",
    )


def checkout(text: str, names: Collection[str]) -> tuple[str, Path]:
    """Split ``NAME=PATH`` into a peer's name, one of ``names``, and its folder."""
    name, _, path = text.partition("=")
    if name not in names or not path or not Path(path).is_dir():
        raise argparse.ArgumentTypeError(
            f"expected NAME=PATH with NAME one of {', '.join(names)} and PATH a folder, got {text!r}. "
            "Clone the project and give the folder."
        )
    return name, Path(path)

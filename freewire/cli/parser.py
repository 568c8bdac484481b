# SPDX-License-Identifier: MIT
"""Parse the command line, run a command, and end with an exit code that scripts can rely on.

0: done. 1: the command ran and found something wrong (`doctor`), or the machine failed it. 2: the command line or a
file is wrong; one sentence on stderr says what was expected. 130: interrupted.
"""

from __future__ import annotations

import argparse
import errno
import json
import math
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import torch

from freewire.cli import bench, convert, doctor, info, plot
from freewire.errors import BuildError, FreewireError, OutOfMemoryError, cut
from freewire.version import __version__

__all__ = ["build_parser", "main"]

COMMANDS = {"info": info, "plot": plot, "convert": convert, "bench": bench, "doctor": doctor}

DESCRIPTION = "Look at freely wired networks, draw them, convert and time them, and check this installation."
EPILOG = """\
A FILE is a graph (.json, .graphml, .csv, each perhaps with .gz; .parquet, .feather, .npz) or a network that fw.save
wrote (.safetensors).
`python -m freewire COMMAND --help` explains a command. Exit codes: 0 done; 1 something is wrong with the
installation or the machine; 2 the command line or a file is wrong.

start here:
  python -m freewire doctor
  python -m freewire bench
"""


class _Parser(argparse.ArgumentParser):
    """One sentence about a mistake, and where to read more, instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        if message.endswith("expected one argument"):  # so argparse says of -1,2 too, which looks like an option
            message += ", perhaps written with = as in --inputs=-1,2"
        self.exit(2, f"{self.prog}: {cut(message, 500)}\n`{self.prog} --help` explains the arguments.\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser("python -m freewire", description=DESCRIPTION, epilog=EPILOG, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"freewire {__version__}")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        command = commands.add_parser(
            name,
            help=module.HELP,
            description=str(module.__doc__).replace("``", "`"),
            epilog=module.EXAMPLES,
            formatter_class=raw,
            allow_abbrev=False,  # or an option that is added later changes what a script's abbreviation means
        )
        module.add_options(command)
        command.add_argument("--json", action="store_true", help="print one JSON object instead of text")
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments after the program's name. Default: this process's.

    Returns:
        The exit code.
    """
    options = build_parser().parse_args(argv)
    try:
        text, record = options.run(options)
        print(json.dumps(_without_nan(record), indent=2, allow_nan=False) if options.json else text, flush=True)
        return 0 if record.get("passed", True) else 1
    except BrokenPipeError:  # the reader, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python reports it once more at its end
        return 0
    except (FreewireError, OSError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not _is_lack_of_memory(error):
            raise
        print(f"python -m freewire {options.command}: {_message(error)}", file=sys.stderr)
        return 2 if isinstance(error, FreewireError | OSError) and not _is_machines_fault(error) else 1
    except KeyboardInterrupt:
        return 130


def _is_lack_of_memory(error: Exception) -> bool:
    """Whether it is a MemoryError, or torch's: of the CPU's memory it has no class."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def _is_machines_fault(error: Exception) -> bool:
    """Whether the same command and files would do on another machine."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
    return isinstance(error, BuildError | OutOfMemoryError)


def _message(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{cut(error.filename)}: {error.strerror}"
    if isinstance(error, FreewireError) or not _is_lack_of_memory(error):
        return str(error)
    return f"out of memory ({cut(error) or type(error).__name__}). Use a smaller graph or batch, or a larger machine."


def _without_nan(record: Any) -> Any:
    """The record with None for NaN and infinities, which JSON does not have."""
    if isinstance(record, dict):
        return {name: _without_nan(value) for name, value in record.items()}
    if isinstance(record, list):
        return [_without_nan(value) for value in record]
    return None if isinstance(record, float) and not math.isfinite(record) else record

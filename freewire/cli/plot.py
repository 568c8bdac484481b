# SPDX-License-Identifier: MIT
"""``plot FILE``: a picture of a graph or of a network with its weights."""

from __future__ import annotations

import argparse
from typing import Any

from freewire.cli.subjects import add_reading_options, check_option, default_output, read
from freewire.errors import FileFormatError, shown
from freewire.files import replacing
from freewire.pictures import plot, to_dot, to_html

__all__ = ["EXAMPLES", "HELP", "add_options", "run"]

HELP = "draw a graph or a network"
FIGURES = (".png", ".svg", ".pdf")
PAGE, DOT = ".html", (".dot", ".gv")
DPI = (20, 1200)  # with less, letters have no pixels; with more, an image takes gigabytes
EXAMPLES = """\
examples:
  python -m freewire plot net.safetensors                 # net.png
  python -m freewire plot net.safetensors -o net.html     # an interactive page, one file
  python -m freewire plot wires.json -o wires.dot && dot -Tsvg wires.dot > wires.svg
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_reading_options(parser)
    parser.add_argument(
        "-o",
        "--out",
        metavar="OUT",
        help=f"the file to write. {', '.join(FIGURES)}: a figure (needs matplotlib); {PAGE}: an interactive page; "
        f"{', '.join(DOT)}: graphviz's language. Default: FILE's name with .png, in the current folder",
    )
    parser.add_argument("--dpi", type=int, default=150, help="pixels per inch of a .png (150)")


def run(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Read FILE, draw OUT; return the text to print and the same for ``--json``."""
    out = default_output(options.file, FIGURES[0]) if options.out is None else options.out
    suffix = next((each for each in (*FIGURES, PAGE, *DOT) if out.lower().endswith(each)), None)
    if suffix is None:
        raise FileFormatError(
            f"--out: expected a name that ends in {', '.join((*FIGURES, PAGE, *DOT))}, got {shown(out)}. Rename it."
        )
    check_option(options, "dpi", *DPI)
    found = read(options)
    if suffix == PAGE:
        to_html(found, out)
    elif suffix in DOT:
        to_dot(found, out)
    else:
        figure = plot(found).get_figure(root=True)
        assert figure is not None
        with replacing(out) as file:
            figure.savefig(file, format=suffix[1:], dpi=options.dpi)
    return f"{out}: drawn from {options.file}", {"file": options.file, "out": out}

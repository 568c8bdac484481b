# SPDX-License-Identifier: MIT
"""Run timm's own training script with freewire's models registered: the paper's recipe without our training script.

timm's package does not contain its train.py: clone https://github.com/huggingface/pytorch-image-models at the tag of
your timm and pass the file's path first. All other arguments are that script's:

    torchrun --nproc-per-node 8 examples/imagenet/timm_train.py PATH/train.py \
        --config examples/imagenet/timm_recipes/randwire_ws_small.yaml --data-dir FOLDER

As with ``python PATH/train.py``, the script's folder is searched first, so that a clone runs with its own timm.
"""

from __future__ import annotations

import argparse
import runpy
import sys
from pathlib import Path


def main(arguments: list[str]) -> None:
    """Run ``arguments[0]``, a Python file, as the main script with all ``arguments`` as its command line."""
    parser = argparse.ArgumentParser(
        usage="%(prog)s PATH/train.py [options of that script]",
        description="Run timm's train.py with freewire's models. PATH/train.py --help prints its own options.",
    )
    parser.add_argument("script", type=Path, metavar="PATH/train.py", help="timm's train.py, from a clone of timm")
    script = parser.parse_args(arguments[:1]).script
    if not script.is_file():
        parser.error(f"{script}: expected timm's train.py, got no file. Clone timm, whose package does not contain it.")
    sys.path[0] = str(script.resolve().parent)  # instead of this folder
    try:
        import freewire.timm  # noqa: F401 - registers the models
    except ImportError as error:
        parser.error(str(error))
    sys.argv = arguments
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    main(sys.argv[1:])

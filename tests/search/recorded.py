# SPDX-License-Identifier: MIT
"""Lines of logs, for tests of what is made of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

HEADER = {
    "freewire_search": 1,
    "version": "0.1.0",
    "strategy": "RandomSearch",
    "settings": {"space": {}},
    "seed": 3,
    "batch": 1,
}


def line(trial: int, value: float | None, status: str = "finished", **more: Any) -> dict[str, Any]:
    """A trial's line; of one without a value with an error."""
    error = {"error": "Traceback:\nValueError: too thin"} if value is None else {}
    return {"trial": trial, "params": {}, "value": value, "status": status, "seconds": 2.0, **error, **more}


def searched(count: int = 24) -> list[dict[str, Any]]:
    """A search in which the value rises with x, falls with clustering, and does not depend on the family."""
    return [
        line(
            trial,
            0.5 + 0.01 * trial,
            params={"x": 0.1 * trial, "family": ["BA", "ER", "WS"][trial % 3], "fixed": 7},
            graph={"clustering": 0.9 - 0.03 * trial, "path_length": 2 + 0.1 * (7 * trial % 11), "edges": 40},
        )
        for trial in range(count)
    ]


def evolved(generations: int = 4, members: int = 6) -> list[dict[str, Any]]:
    """A search by generations with two species, of which the first dies out after two generations."""
    return [
        line(
            members * generation + member,
            float(generation - member),
            generation=generation,
            species=0 if generation < 2 and member < 2 else 1,
        )
        for generation in range(generations)
        for member in range(members)
    ]


def write(path: Path, lines: list[dict[str, Any]], **header: Any) -> Path:
    """Write a log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in [{**HEADER, **header}, *lines]))
    return path

# SPDX-License-Identifier: MIT
"""``info FILE``: what a graph or a network is, and what running it costs."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any

import torch

from freewire.cli.subjects import add_reading_options, read, wiring
from freewire.graph import Graph, metrics
from freewire.nn import Network, Recurrent
from freewire.plan import Plan, make_plan

__all__ = ["EXAMPLES", "HELP", "add_options", "run"]

HELP = "describe a graph or a network"
EXAMPLES = """\
examples:
  python -m freewire info wires.json
  python -m freewire info connectome.csv --inputs AVAL,AVAR --outputs DB1,DB2
  python -m freewire info synapses.parquet --weight count --nodes neurons.csv
  python -m freewire info net.safetensors --json
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    add_reading_options(parser)


def run(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Read the file; return the text to print and the same for ``--json``."""
    found = read(options)
    graph = found if isinstance(found, Graph) else found.graph
    plan = found.plan if not isinstance(found, Graph) else make_plan(graph)
    summary = metrics.summary(wiring(found))  # whose weights, if it is a network's, are stored
    record: dict[str, Any] = {
        "file": options.file,
        "kind": "network" if not isinstance(found, Graph) else "graph",
        "wiring_hash": graph.wiring_hash,
        "summary": dataclasses.asdict(summary),
        "plan": _plan(plan),
    }
    parts = [f"{options.file}: a {record['kind']}", str(summary), str(plan)]
    if not isinstance(found, Graph):
        record["parameters"] = _parameters(found)
        parts.insert(2, _lines(record["parameters"]))
    return "\n\n".join(parts), record


def _plan(plan: Plan) -> dict[str, Any]:
    return {
        "levels": plan.num_levels - 1,
        "computed_nodes": plan.num_computed,
        "edges": plan.num_live_edges,
        "dense_share": plan.dense_share,
        "flops_per_sample": plan.flops,
        "training_bytes_per_sample": plan.tape_bytes(1024) / 1024,
    }


def _parameters(net: Network | Recurrent) -> dict[str, Any]:
    """Counts and sizes of the weights and biases; those that are not finite are counted and otherwise ignored."""

    def spread(values: torch.Tensor | None) -> dict[str, float] | None:
        if values is None or not values.numel():
            return None
        numbers = values.detach().double()
        finite = numbers[numbers.isfinite()]
        found = {"zeros": (numbers == 0).double().mean().item(), "not_finite": numbers.numel() - finite.numel()}
        if not finite.numel():
            return found
        return {
            "mean": finite.mean().item(),
            "std": finite.std(correction=0).item(),
            "min": finite.min().item(),
            "max": finite.max().item(),
            **found,
        }

    return {
        "count": sum(parameter.numel() for parameter in net.parameters()),
        "dtype": str(net.weight.dtype).removeprefix("torch."),
        "weight": spread(net.weight),
        "bias": spread(net.bias),
    }


def _lines(parameters: dict[str, Any]) -> str:
    lines = [f"{'parameters':<23} {parameters['count']:,} ({parameters['dtype']})"]
    for name in ("weight", "bias"):
        if (spread := parameters[name]) is None:
            lines.append(f"{name:<23} none")
        else:
            parts = [f"{spread['zeros']:.1%} zeros"]
            if "mean" in spread:
                parts.insert(0, f"{spread['min']:.4g} to {spread['max']:.4g}, mean {spread['mean']:.4g}")
                parts.insert(1, f"standard deviation {spread['std']:.4g}")
            if spread["not_finite"]:
                parts.append(f"{spread['not_finite']:,} NaN or infinite")
            lines.append(f"{name:<23} {', '.join(parts)}")
    return "\n".join(lines)

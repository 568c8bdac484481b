# SPDX-License-Identifier: MIT
"""``doctor``: check this installation, and say what is missing and how to get it.

It prints versions and the instruction set, runs every CPU kernel of networks against the reference, looks for CUDA
kernels and for what building them needs, and lists optional packages. The exit code is 1 if a check fails; a missing
GPU or optional package is no failure.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch
from torch import Tensor

from freewire._native import cuda_build
from freewire.errors import BuildError, FreewireError
from freewire.generators import random_graph
from freewire.graph import ACTIVATIONS, AGGREGATIONS, Graph
from freewire.nn import Network, reference
from freewire.ops import cuda_cache, library
from freewire.ops.dtypes import DTYPES
from freewire.version import __version__

__all__ = ["EXAMPLES", "HELP", "add_options", "run"]

HELP = "check this installation"
EXAMPLES = """\
examples:
  python -m freewire doctor
  python -m freewire doctor --json > report.json    # for a bug report; no names of users or machines
"""
REQUIRED = ("torch", "numpy", "networkx", "safetensors", "filelock")
#: Optional packages: what they are for, and the extra of freewire that brings them, if one does.
OPTIONAL = {
    "pyarrow": ("tables in .parquet and .feather", "tables"),
    "matplotlib": ("fw.plot, fw.visualize, figures of studies", "viz"),
    "tqdm": ("progress bars of fw.Model.fit", None),
    "tensorboard": ("fw.log_to_tensorboard", None),
    "timm": ("import freewire.timm", "timm"),
    "scipy": ("sparse matrices in Graph.from_adjacency", None),
}
#: Largest error relative to the largest reference value, by type; the rounding of sums over some tens of edges.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 5e-3, torch.bfloat16: 3e-2}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add no arguments."""


def run(options: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """Check; return the text to print and the same for ``--json``."""
    checks = [_self_test("cpu")]
    obstacles = cuda_cache.obstacles()
    cuda, kernels = _cuda(), None
    if torch.cuda.is_available():
        try:
            kernels = cuda_cache.find(library.CUDA_LIBRARY)
        except BuildError as error:
            obstacles = list(dict.fromkeys((*obstacles, str(error))))
        if kernels:  # building takes a minute or two: at first use, not here
            obstacles = []  # what building would need is not missed
            checks.append(_self_test("cuda"))
    record: dict[str, Any] = {
        "freewire": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "required": {name: _installed(name) for name in REQUIRED},
        "cpu": {
            "instruction_set": library.instruction_set(),
            "matrix_unit": library.matrix_unit(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "threads": torch.get_num_threads(),
        },
        "cuda": {**cuda, "kernels": None if kernels is None else kernels.name, "missing": obstacles},
        "checks": checks,
        "optional": {name: _installed(name) for name in OPTIONAL},
        "graphviz": shutil.which("dot") is not None,
        "passed": all(check["passed"] for check in checks),
    }
    return _text(record), record


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _cuda() -> dict[str, Any]:
    driver = cuda_cache.driver_version()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else ()
    return {
        "torch": torch.version.cuda,
        "driver": None if driver is None else f"{driver[0]}.{driver[1]}",
        "gpus": [
            f"{torch.cuda.get_device_name(i)} ({cuda_build.capability(torch.cuda.get_device_capability(i))})"
            for i in devices
        ],
    }


def _self_test(device: str) -> dict[str, Any]:
    """Outputs and gradients of a random network of every activation and aggregation, in every type."""
    wiring = random_graph(9, 120, 5, 7, seed=0)
    graph = Graph.from_edges(
        *wiring.edge_index,
        num_nodes=wiring.num_nodes,
        inputs=wiring.input_index,
        outputs=wiring.output_index,
        activation=[ACTIVATIONS[i % len(ACTIVATIONS)] for i in range(wiring.num_nodes)],
        aggregation=[AGGREGATIONS[i // 3 % len(AGGREGATIONS)] for i in range(wiring.num_nodes)],
    )
    worst: dict[str, float] = {}
    passed = True
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            exact = Network(graph, init=lambda weight, _: weight.uniform_(-0.5, 0.5), dtype=torch.float64)
            x = torch.randn(33, 9, dtype=torch.float64)
        for dtype in DTYPES:
            error = _error(exact, x, dtype, device)
            worst[str(dtype).removeprefix("torch.")] = error
            passed &= error <= TOLERANCE[dtype]
        problem = None if passed else "results differ from the reference. Reinstall freewire, and report this."
    except (FreewireError, RuntimeError) as error:
        passed, problem = False, str(error)
    return {"name": f"self-test on {device}", "passed": passed, "largest_error": worst, "problem": problem}


def _error(exact: Network, x: Tensor, dtype: torch.dtype, device: str) -> float:
    """Largest difference of outputs and gradients from the reference, which runs in float64 on rounded values."""
    net = Network(exact.graph, dtype=dtype, device=device)
    rounded = Network(exact.graph, dtype=torch.float64)
    with torch.no_grad():
        for ours, theirs, values in zip(net.parameters(), rounded.parameters(), exact.parameters(), strict=True):
            ours.copy_(values)
            theirs.copy_(ours)
    found = _results(net, x.to(device, dtype), net)
    wanted = _results(lambda values: reference(rounded, values), x.to(dtype).double(), rounded)
    errors = [(f.cpu().double() - w).abs().max() / w.abs().max() for f, w in zip(found, wanted, strict=True)]
    return torch.stack(errors).max().item()


def _results(call: Callable[[Tensor], Tensor], x: Tensor, net: Network) -> tuple[Tensor, ...]:
    """The outputs, and the gradients of their sum with respect to x and the parameters."""
    y = call(x.requires_grad_())
    return (y.detach(), *torch.autograd.grad(y.double().sum(), (x, *net.parameters())))


def _text(record: dict[str, Any]) -> str:
    cpu, cuda = record["cpu"], record["cuda"]
    lines = [
        f"freewire    {record['freewire']}, Python {record['python']}, {record['system']}",
        f"packages    {', '.join(f'{name} {found or chr(63)}' for name, found in record['required'].items())}",
        f"CPU         kernels for {cpu['instruction_set']}, matrix unit {cpu['matrix_unit']}; {cpu['cores']} cores, "
        f"{cpu['threads']} threads",
    ]
    for check in record["checks"]:
        errors = ", ".join(f"{name} {error:.0e}" for name, error in check["largest_error"].items())
        state = "passed" if check["passed"] else f"FAILED: {check['problem']}"
        lines.append(f"{'':11} {check['name']}: {state} (largest relative error: {errors or 'none'})")
    gpus = ", ".join(cuda["gpus"]) or "no GPU"
    lines.append(f"CUDA        torch for {cuda['torch'] or 'the CPU only'}, driver {cuda['driver'] or 'none'}, {gpus}")
    if cuda["gpus"]:
        lines.append(
            f"{'':11} kernels: {cuda['kernels'] or 'none yet; they are built when a network moves to the GPU'}"
        )
    lines += [f"{'':11} missing: {obstacle}" for obstacle in cuda["missing"]]
    label = "optional"
    for name, (purpose, extra) in OPTIONAL.items():
        found = record["optional"][name]
        remedy = f"pip install 'freewire[{extra}]'" if extra else f"pip install {name}"
        lines.append(f"{label:11} {name} {found or 'not installed'} ({purpose})" + ("" if found else f": {remedy}"))
        label = ""
    lines.append(
        f"{'':11} graphviz {'installed' if record['graphviz'] else 'not installed'} (SVG and PDF of fw.to_dot)"
    )
    return "\n".join(lines)

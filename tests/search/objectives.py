# SPDX-License-Identifier: MIT
"""Objectives that worker processes import, and the space that they are about."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
import time

import torch

SPACE = {"kind": ["a", "b", "c"], "x": (0.0, 1.0), "n": (8, 64)}


def hill(params):
    """Highest, 1, at kind b, x 0.3 and n 20."""
    return 1 - (params["kind"] != "b") - (params["x"] - 0.3) ** 2 - ((params["n"] - 20) / 56) ** 2


def hilly_hill(params, seed):
    """The same with noise from the trial's seed, and from the global generator, which is seeded with it."""
    return hill(params) + 1e-3 * (seed % 1000) + 1e-3 * float(torch.rand(()))


def often_fails(params, seed):
    """Every third trial raises, and every third returns NaN."""
    if seed % 3 == 0:
        raise ValueError(f"seed {seed}")
    return math.nan if seed % 3 == 1 else hill(params)


def always_fails():
    """No trial finishes."""
    raise ArithmeticError("never")


def reports(params, seed, report):
    """Reports a curve that rises to the hill's height in ten steps."""
    for step in range(10):
        report(step, hill(params) * (step + 1) / 10)
    return hill(params)


def trouble(params):
    """Does what ``params["what"]`` says."""
    match params["what"]:
        case "fine":
            return 1.0
        case "better":
            return torch.tensor(2.0)
        case "raises":
            raise KeyError("no such thing")
        case "nan":
            return math.nan
        case "nothing":
            return None
        case "text":
            return "0.5"
        case "exits":
            sys.exit(3)
        case "cancelled":
            raise asyncio.CancelledError
        case "hangs":
            time.sleep(3600)
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "quits":
            os._exit(7)


def threads():
    """How many threads torch uses."""
    return torch.get_num_threads()

# SPDX-License-Identifier: MIT
"""What ``torch.profiler`` writes names freewire's operators, so that a trace shows where the time goes."""

from __future__ import annotations

import json

import torch
from torch.profiler import ProfilerActivity, profile

import freewire as fw


def test_a_trace_names_forward_and_backward(tmp_path):
    net = fw.Network(fw.generators.mlp([3, 4, 2]))
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        net(torch.ones(5, 3)).sum().backward()
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    spans = {event["name"]: (event["ts"], event["ts"] + event["dur"]) for event in events if event.get("ph") == "X"}
    forward, backward = spans["freewire::forward"], spans["freewire::backward"]
    assert forward[0] < forward[1] < backward[0] < backward[1]

# SPDX-License-Identifier: MIT
"""A page's options, sizes and themes, and that nothing in it runs that is not its own. Run by `make test-browser`."""

from __future__ import annotations

import time
from pathlib import Path

import networkx as nx
import pytest

import freewire as fw
from tests.pictures.browser.pages import INK, NAMES, at, large_network, settle, small_network
from tests.support.odd_names import ODD_NAMES

pytestmark = pytest.mark.browser


class TestOptions:
    def test_threshold(self, opened):
        page = opened(large_network())
        assert page.text("#drawn").startswith("5,986 strongest of 50,000 edges (11.97 %): |weight| \u2265 1.561.")
        some = page.evaluate(INK)
        page.evaluate("document.getElementById('threshold').focus()")
        for key, code, said in (("End", 35, "All 50,000 edges."), ("Home", 36, "0 strongest of 50,000 edges (0 %).")):
            page.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code)
            settle(page)
            assert page.text("#drawn") == said
            assert page.evaluate("document.getElementById('threshold').ariaValueText") == said
            assert page.evaluate(INK) > some if key == "End" else page.evaluate(INK) == 0

    def test_colours(self, small):
        assert small.text("#legend").split("\n")[:3] == ["\u2264 \u22122", "weight", "\u2265 2"]
        for selector, times in (("#edge-colour", 1), ("#node-colour", 3)):
            small.evaluate(f"document.querySelector('{selector}').focus()")
            for _ in range(times):
                small.key("ArrowDown")
        settle(small)
        legend = small.text("#legend").split("\n")
        assert [word for word in legend if "gradient" in word] == ["gradient", "bias gradient"]
        assert "\u2264 \u22123.5" in legend
        assert "\u2264 \u22124" in legend
        assert "not finite" in legend

    def test_theme(self, opened):
        page = opened(small_network(), prefers_color_scheme="dark")
        paper = "getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(paper)
        assert page.text("#theme") == "Light"
        page.click_on("#theme")
        light = page.evaluate(paper)
        assert sum(map(int, light[4:-1].split(","))) > 700 > 100 > sum(map(int, dark[4:-1].split(",")))
        page = opened(small_network(), prefers_color_scheme="light")
        assert page.evaluate(paper) == light
        page.emulate(prefers_color_scheme="dark")
        page.wait(f"{paper} === '{dark}'")

    def test_small_screen(self, opened):
        page = opened(small_network(), width=400, height=700)
        assert page.evaluate("document.documentElement.scrollWidth") == 400
        assert not page.evaluate("document.getElementById('options').open")
        for name in NAMES:
            x, y = at(page, name)
            assert 0 < x < 400
            assert 60 < y < 700
        page.click(*at(page, "a"))
        settle(page)
        box = page.evaluate(
            "(b => [b.left, b.right, b.bottom])(document.getElementById('panel').getBoundingClientRect())"
        )
        assert box == [0, 400, 700]

    def test_every_control_has_a_name(self, small):
        small.click(*at(small, "a"))
        settle(small)
        tree = small.call("Accessibility.getFullAXTree")["nodes"]
        named = {(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree if not node["ignored"]}
        assert {
            ("combobox", "Search a node by name"),
            ("button", "Zoom out"),
            ("button", "Zoom in"),
            ("button", "Fit"),
            ("button", "Clear the selection"),
            ("combobox", "Edges by"),
            ("combobox", "Nodes by"),
            ("slider", "Edges drawn"),
            ("complementary", "Selected node"),
            ("region", "Inputs"),
            ("region", "Readers"),
            ("status", ""),
        } <= named
        (drawing,) = [name for role, name in named if role == "application"]
        assert drawing.startswith("Drawing of the wiring: 6 nodes (2 inputs, 1 output)")
        assert {name for role, name in named if role == "button"} >= {"left", "right", "out"}
        assert [role for role, name in named if role in ("button", "combobox", "slider") and not name] == []


class TestSafety:
    def test_hostile_names_are_text(self, opened):
        G = nx.DiGraph([(name, "out") for name in ODD_NAMES])
        page = opened(fw.Graph.from_networkx(G), "<script>window.hacked = 9</script>")
        assert page.text("h1") == "<script>window.hacked = 9</script>"
        page.click_on("#search")
        page.type("out")
        page.key("Enter")
        settle(page)
        listed = page.evaluate("[...document.querySelectorAll('#inputs td button')].map(b => b.textContent)")
        assert sorted(listed) == sorted(text or "(empty)" for text in ODD_NAMES.values())
        for i in (0, 1, 3, 5):
            page.click_on("#search")
            page.evaluate("document.getElementById('search').select()")
            page.type(list(ODD_NAMES)[i])
            page.key("Enter")
            settle(page)
            assert page.text("#node-name") == list(ODD_NAMES.values())[i]
            page.mouse("Moved", *page.evaluate(f"freewire.position({i if i == 0 else i + 1})"))
            settle(page)
        assert page.evaluate("window.hacked ?? 'safe'") == "safe"
        assert page.evaluate("document.querySelectorAll('script, img, iframe, object').length") == 2

    def test_the_policy_refuses_injected_scripts_and_requests(self, browser, tmp_path):
        path = Path(fw.to_html(small_network(), tmp_path / "net.html"))
        page = browser.open(path)
        attempts = [
            "document.body.innerHTML += '<img src=x onerror=\"window.hacked = 1\">'",
            "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked = 2'}))",
            "document.body.setAttribute('onclick', 'window.hacked = 3'); document.body.click()",
            "new Image().src = 'http://127.0.0.1:9/x.png'",
            "fetch('http://127.0.0.1:9/').catch(() => 0)",
            "new Worker('data:,')",
        ]
        for attempt in attempts:
            before = len(page.problems())
            page.evaluate(f"(async () => {{ try {{ {attempt} }} catch (error) {{ console.error(String(error)) }} }})()")
            page.wait("true")
            end = time.monotonic() + 5
            while len(page.problems()) == before and time.monotonic() < end:
                time.sleep(0.01)
            assert len(page.problems()) > before, attempt
        assert page.evaluate("window.hacked ?? 'safe'") == "safe"
        failed = page.events("Network.loadingFailed")
        assert len(page.requests()) - 1 == len(failed)
        assert {event["blockedReason"] for event in failed} <= {"csp"}
        page.close()

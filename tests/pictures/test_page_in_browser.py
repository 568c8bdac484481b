# SPDX-License-Identifier: MIT
"""The page of to_html in a real browser: mouse, keyboard and touch, as its user has them; run by `make test-browser`.

Where nodes are is read from the page's ``freewire.position``; what it shows, from its text and its canvases' pixels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
import torch

import freewire as fw
from tests.support.chromium import Chromium, Page, find_program
from tests.support.odd_names import ODD_NAMES

pytestmark = pytest.mark.browser

#: Whether nothing moves and everything is painted.
SETTLED = "document.getElementById('stage').ariaBusy === 'false'"
#: Opaque pixels of the edges that are seen; 0 before any.
INK = """(() => {
  const seen = [...document.querySelectorAll('canvas.edges')].find(canvas => canvas.style.visibility === 'visible');
  const bytes = seen.getContext('2d').getImageData(0, 0, seen.width, seen.height).data;
  return bytes.filter((byte, i) => i % 4 === 3 && byte).length;
})()"""
#: Opacity, from 0 to 255, of the nodes' canvas at a point of the window; through a copy, which may be read often.
OPACITY = """((x, y) => {
  const nodes = document.getElementById('nodes'), box = nodes.getBoundingClientRect(), copy = new OffscreenCanvas(1, 1);
  const context = copy.getContext('2d', {willReadFrequently: true});
  context.drawImage(nodes, box.left - x, box.top - y);
  return context.getImageData(0, 0, 1, 1).data[3];
})"""

NAMES = ("left", "right", "a", "b", "c", "out")
EDGES = {
    ("left", "a"): (0.5, 0.125),
    ("right", "a"): (-2.0, 0.0),
    ("left", "b"): (0.25, -3.5),
    ("right", "c"): (1e-7, 1.0),
    ("a", "out"): (1.5, 2.0),
    ("b", "out"): (-0.75, math.nan),
    ("c", "out"): (math.inf, 0.5),
    ("left", "out"): (0.0625, 0.25),
}


def small_network() -> fw.Network:
    """Six nodes and eight edges with chosen weights and gradients, one of each not finite."""
    G = nx.DiGraph()  # noqa: N806 (networkx's own name for it)
    G.add_nodes_from(NAMES)
    G.add_edges_from(EDGES)
    g = fw.Graph.from_networkx(G, activation="tanh")
    net = fw.Network(g)
    ends = [(g.nodes[u], g.nodes[v]) for u, v in g.edge_index.T.tolist()]
    with torch.no_grad():
        net.weight[:] = torch.tensor([EDGES[end][0] for end in ends])
        net.bias[:] = torch.tensor([0.1, 0.2, 0.3, 0.4])
    net.weight.grad = torch.tensor([EDGES[end][1] for end in ends])
    net.bias.grad = torch.tensor([1.0, -2.0, 3.0, -4.0])
    return net


def large_network() -> fw.Graph:
    """5,000 nodes in 12 layers, and 50,000 edges from each of the two layers before."""
    draw, sizes = np.random.default_rng(0), [200, *[475] * 10, 50]
    first = np.cumsum([0, *sizes])
    layer = np.repeat(np.arange(12), sizes)
    target = draw.integers(200, 5000, 50_000)
    low = first[np.maximum(layer[target] - 2, 0)]
    source = low + (draw.random(50_000) * (first[layer[target]] - low)).astype(np.int64)
    return fw.Graph.from_edges(source, target, num_nodes=5000, weight=draw.normal(size=50_000))


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as found:
        yield found


Opened = Callable[..., Page]


@pytest.fixture
def opened(browser: Chromium, tmp_path: Path) -> Iterator[Opened]:
    """Opens the page of a network; at the end, no page may have logged a problem or requested anything but itself."""
    pages = []

    def open_page(net: object, title: str | None = None, **options: object) -> Page:
        path = Path(fw.to_html(net, tmp_path / f"{len(pages)}.html", title))
        page = browser.open(path, **options)
        page.wait(SETTLED)
        pages.append((page, path))
        return page

    yield open_page
    for page, path in pages:
        assert page.problems() == []
        assert page.requests() == [path.as_uri()]
        page.close()


@pytest.fixture
def small(opened: Opened) -> Page:
    return opened(small_network(), "Six nodes")


def at(page: Page, name: str) -> tuple[float, float]:
    """Where a node of the small network is, in pixels of the window."""
    x, y = page.evaluate(f"freewire.position({NAMES.index(name)})")
    return x, y


def rows(page: Page, section: str) -> list[list[str]]:
    """The table of inputs or readers in the panel, without its head."""
    cells = "[...r.cells].map(c => c.innerText)"
    return page.evaluate(f"[...document.querySelectorAll('#{section} tr')].slice(1).map(r => {cells})")


def facts(page: Page, selector: str) -> dict[str, str]:
    text = page.text(f"{selector} dl, dl{selector}").replace("\n\n", "\n").split("\n")
    return dict(zip(text[::2], text[1::2], strict=True))


def opacity(page: Page, name: str) -> int:
    """Of the pixel at a node's centre, from 0 to 255."""
    return page.evaluate(f"{OPACITY}({', '.join(map(str, at(page, name)))})")


def settle(page: Page) -> None:
    """Wait for what an input has begun: two frames, and then until nothing moves."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.wait(SETTLED)


class TestReading:
    def test_heading(self, small):
        assert small.text("h1") == "Six nodes"
        counts = small.text("#counts")
        assert counts.startswith("6 nodes (2 inputs, 1 output) \u00b7 8 edges \u00b7 depth 2")
        assert counts.endswith("1 weight not finite \u00b7 1 gradient not finite")
        assert small.text("#drawn") == "All 8 edges."

    def test_hover_a_node(self, small):
        small.mouse("Moved", *at(small, "a"))
        small.wait("!document.getElementById('tooltip').hidden")
        assert small.text("#tooltip strong") == "a"
        assert facts(small, "#tooltip") == {
            "Kind": "hidden",
            "Level": "1 of 2",
            "Activation": "tanh",
            "Aggregation": "sum",
            "Bias": "0.1",
            "Bias gradient": "1",
            "Fan-in": "2",
            "Fan-out": "1",
        }
        x, y = at(small, "left")
        small.mouse("Moved", x, y)
        small.wait("document.querySelector('#tooltip strong').innerText === 'left'")
        assert facts(small, "#tooltip") == {
            "Kind": "input",
            "Level": "0 of 2",
            "Bias": "none (an input)",
            "Bias gradient": "none",
            "Fan-in": "0",
            "Fan-out": "3",
        }
        small.mouse("Moved", x - 60, y - 60)
        small.wait("document.getElementById('tooltip').hidden")

    @pytest.mark.parametrize(
        ("ends", "weight", "gradient"),
        [
            (("right", "a"), "\u22122", "0"),
            (("right", "c"), "1.000e\u22127", "1"),
            (("b", "out"), "\u22120.75", "NaN"),
            (("c", "out"), "infinite", "0.5"),
        ],
    )
    def test_hover_an_edge(self, ends, weight, gradient, small):
        (x0, y0), (x1, y1) = (at(small, name) for name in ends)
        small.mouse("Moved", x0 + 0.7 * (x1 - x0), y0 + 0.7 * (y1 - y0))
        small.wait("!document.getElementById('tooltip').hidden")
        assert small.text("#tooltip strong") == " \u2192 ".join(ends)
        assert facts(small, "#tooltip") == {"Weight": weight, "Gradient": gradient}

    def test_hover_beside_an_edge(self, small):
        (x0, y0), (x1, y1) = at(small, "right"), at(small, "c")
        small.mouse("Moved", (x0 + x1) / 2, (y0 + y1) / 2)
        small.wait("!document.getElementById('tooltip').hidden")
        small.mouse("Moved", (x0 + x1) / 2, (y0 + y1) / 2 + 15)
        small.wait("document.getElementById('tooltip').hidden")

    def test_click_highlights_inputs_and_readers(self, small):
        assert {opacity(small, name) for name in NAMES} == {255}
        small.click(*at(small, "a"))
        settle(small)
        assert small.text("#node-name") == "a"
        assert facts(small, "#facts")["Fan-in"] == "2"
        assert rows(small, "inputs") == [["right", "\u22122", "0"], ["left", "0.5", "0.125"]]
        assert rows(small, "readers") == [["out", "1.5", "2"]]
        assert {name for name in NAMES if opacity(small, name) == 255} == {"a", "left", "right", "out"}
        assert opacity(small, "b") < 80
        small.key("Escape")
        settle(small)
        assert small.text("#panel") == ""
        assert {opacity(small, name) for name in NAMES} == {255}

    def test_nothing_covers_the_tooltip(self, small):
        small.click(*at(small, "a"))
        settle(small)
        x, y = at(small, "out")
        small.drag((700, 200), (700 + 930 - x, 200))  # close to the panel
        small.mouse("Moved", 930, y)
        small.wait("!document.getElementById('tooltip').hidden")
        assert small.text("#tooltip strong") == "out"
        sides = "(id, side) => document.getElementById(id).getBoundingClientRect()[side]"
        assert small.evaluate(f"({sides})('tooltip', 'right')") < small.evaluate(f"({sides})('panel', 'left')")

    def test_edges_are_listed_strongest_first_and_lead_on(self, small):
        small.click(*at(small, "out"))
        settle(small)
        assert rows(small, "inputs") == [
            ["c", "infinite", "0.5"],
            ["a", "1.5", "2"],
            ["b", "\u22120.75", "NaN"],
            ["left", "0.0625", "0.25"],
        ]
        small.click_on("#inputs tr:nth-child(4) button")
        settle(small)
        assert small.text("#node-name") == "b"
        assert rows(small, "readers") == [["out", "\u22120.75", "NaN"]]
        small.click_on("#close")
        settle(small)
        assert small.text("#panel") == ""

    def test_long_lists_grow(self, opened):
        page = opened(fw.Graph.from_edges(np.arange(1500), np.full(1500, 1500), weight=np.arange(1500.0)))
        page.click_on("#search")
        page.type("1500")
        page.key("Enter")
        settle(page)
        assert len(rows(page, "inputs")) == 60
        assert page.text("#highlighted") == "Highlighted are the strongest 1,000 of its 1,500 edges."
        page.evaluate("document.querySelector('#inputs > button').scrollIntoView()")
        page.click_on("#inputs > button")
        assert [row[0] for row in rows(page, "inputs")] == [str(1499 - i) for i in range(120)]
        assert page.evaluate("document.activeElement.innerText") == "1439"

    def test_a_graph_without_weights(self, opened):
        page = opened(fw.generators.mlp([2, 2, 1]))
        page.click(*page.evaluate("freewire.position(2)"))
        settle(page)
        assert rows(page, "inputs") == [["0", "none stored"], ["1", "none stored"]]
        assert page.text("#legend").split() == ["input", "hidden", "output", "no", "weight"]


class TestMoving:
    def test_drag(self, small):
        x, y = at(small, "a")
        small.drag((700, 200), (610, 265))
        settle(small)
        assert at(small, "a") == pytest.approx((x - 90, y + 65))
        small.click_on("#fit")
        settle(small)
        assert at(small, "a") == pytest.approx((x, y), abs=0.1)

    def test_wheel_zooms_about_the_pointer(self, small):
        x, y = map(round, at(small, "b"))
        far = math.dist(at(small, "b"), at(small, "out"))
        small.wheel(x, y, -100)
        settle(small)
        assert at(small, "b") == pytest.approx((x, y), abs=1)
        assert math.dist(at(small, "b"), at(small, "out")) == pytest.approx(far * math.exp(0.16), rel=0.001)

    def test_keys_and_buttons(self, small):
        x, y = at(small, "a")
        small.evaluate("document.getElementById('stage').focus()")
        small.key("ArrowRight")
        small.key("ArrowDown")
        assert at(small, "a") == pytest.approx((x - 60, y - 60))
        far = math.dist(at(small, "a"), at(small, "out"))
        small.key("-")
        small.click_on("#zoom-out")
        settle(small)
        assert math.dist(at(small, "a"), at(small, "out")) == pytest.approx(far / 1.3 / 1.4)
        small.key("Tab")
        small.evaluate("document.getElementById('stage').focus()")
        small.key("0")
        settle(small)
        assert at(small, "a") == pytest.approx((x, y), abs=0.1)

    def test_touch(self, small):
        x, far = at(small, "a")[0], math.dist(at(small, "a"), at(small, "c"))
        small.touch("Start", (600, 300))
        for step in (1, 2, 3):
            small.touch("Move", (600 + 20 * step, 300))
        small.touch("End")
        settle(small)
        moved = at(small, "a")[0] - x
        assert 30 < moved <= 60  # browsers keep the first pixels of a touch to themselves
        small.touch("Start", (500, 300), (700, 300))
        for step in (1, 2, 3, 4):
            small.touch("Move", (500 + 10 * step, 300), (700 - 10 * step, 300))
        small.touch("End")
        settle(small)
        grown = math.dist(at(small, "a"), at(small, "c")) / far
        assert grown == pytest.approx(120 / 200, rel=0.1)
        assert small.text("#panel") == ""
        small.touch("Start", at(small, "a"))
        small.touch("End")
        settle(small)
        assert small.text("#node-name") == "a"


class TestSearch:
    def test_enter_goes_to_the_node(self, small):
        small.key("/")
        small.type("T")
        suggestions = "[...document.querySelectorAll('#suggestions li')].map(i => i.innerText)"
        found = [text.split("\n")[0] for text in small.evaluate(suggestions)]
        assert found == ["left", "right", "out"]
        small.key("ArrowDown")
        assert small.evaluate("document.querySelector('[aria-selected=true]').innerText").startswith("right")
        small.key("Enter")
        settle(small)
        assert small.text("#node-name") == "right"
        assert small.text("#suggestions") == ""
        assert [row[0] for row in rows(small, "readers")] == ["a", "c"]

    def test_the_found_node_is_in_sight(self, opened):
        page = opened(large_network())
        page.wheel(300, 150, -1500)
        settle(page)
        x, y = page.evaluate("freewire.position(3000)")
        assert not (0 < x < 1280 and 0 < y < 800)
        page.click_on("#search")
        page.type("3000")
        page.key("Enter")
        settle(page)
        x, y = page.evaluate("freewire.position(3000)")
        assert 270 < x < 960  # between the options and the panel
        assert 60 < y < 800
        assert page.evaluate(f"document.elementFromPoint({x}, {y}).id") == "stage"

    def test_order(self, opened):
        """An equal name, names that begin so, others; in each group the nodes' order."""
        page = opened(fw.Graph.from_edges([], [], num_nodes=240, inputs=[0], outputs=[0]))
        page.click_on("#search")
        page.type("23")
        items = page.evaluate("[...document.querySelectorAll('#suggestions li')].map(i => i.innerText.split('\\n')[0])")
        assert items == ["23", *(str(230 + i) for i in range(10)), "123", "and 1 more"]

    def test_nothing_found(self, small):
        small.click_on("#search")
        small.type("nowhere")
        assert small.text("#suggestions") == "No node has this in its name."
        small.key("Enter")
        small.key("Escape")
        assert small.text("#suggestions") + small.text("#panel") == ""


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
        G = nx.DiGraph([(name, "out") for name in ODD_NAMES])  # noqa: N806 (networkx's own name for it)
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


def test_a_missing_browser_fails_with_the_package_to_install(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(pytest.fail.Exception, match=r"install Debian's package chromium-headless-shell"):
        find_program()


class TestSpeed:
    def test_5000_nodes_and_50000_edges_stay_fluid(self, opened):
        """Frames are timed in the page while the mouse drags and the wheel turns; a 60th of a second is usual."""
        start = time.monotonic()
        page = opened(large_network())
        assert time.monotonic() - start < 5
        page.evaluate("document.getElementById('threshold').focus()")
        page.call("Input.dispatchKeyEvent", type="keyDown", key="End", windowsVirtualKeyCode=35)
        settle(page)
        page.evaluate("frames = []; (function next(now) { frames.push(now); requestAnimationFrame(next) })(0); 0")
        middle = (760.0, 430.0)
        page.mouse("Moved", *middle)
        page.mouse("Pressed", *middle, button="left", clickCount=1)
        for i in range(60):
            to = middle[0] + 150 * math.sin(i / 5), middle[1] + 100 * math.sin(i / 4)
            page.mouse("Moved", *to, button="left", buttons=1)
            time.sleep(0.01)
        page.mouse("Released", *middle, button="left", clickCount=1)
        for i in range(30):
            page.wheel(*middle, -80 if i < 15 else 80)
        times = np.diff(page.evaluate("frames.slice(2)"))
        assert len(times) > 50
        assert np.median(times) < 50
        assert np.percentile(times, 95) < 100

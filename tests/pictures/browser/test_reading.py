# SPDX-License-Identifier: MIT
"""What a page shows of nodes and edges, to a mouse and a keyboard. Run by `make test-browser`."""

from __future__ import annotations

import numpy as np
import pytest

import freewire as fw
from tests.pictures.browser.pages import NAMES, at, facts, large_network, opacity, rows, settle

pytestmark = pytest.mark.browser


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

# SPDX-License-Identifier: MIT
"""Moving the view of a page, and how fluid that is with 50,000 edges. Run by `make test-browser`."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from tests.pictures.browser.pages import at, large_network, settle
from tests.support.chromium import find_program

pytestmark = pytest.mark.browser


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

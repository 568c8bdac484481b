# SPDX-License-Identifier: MIT
"""A browser, and pages in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import freewire as fw
from tests.pictures.browser.pages import SETTLED, Opened, small_network
from tests.support.chromium import Chromium, Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as found:
        yield found


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

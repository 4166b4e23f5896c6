"""A real browser. `make browser` runs these tests: they need Chromium, which no Python package brings."""

import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-component-update"),
    *("--disable-background-networking", "--disable-sync"),
)
"""Nothing is asked of anybody outside; tests may run as root, in a container."""
WAIT = 30_000
"""Milliseconds until something must be there: generous, nothing waits so long."""


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    path = os.environ.get("FHIRGW_TEST_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if not path:
        pytest.fail(
            f"There is no browser: install {NAMES[0]}, or say where one is by FHIRGW_TEST_BROWSER", pytrace=False
        )
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        await browser.close()


@pytest.fixture
def wrong() -> list[str]:
    """What the page's console says, and what a page may not: it is to stay empty."""
    return []


@pytest.fixture
async def page(browser: Browser, wrong: list[str]) -> AsyncIterator[Page]:
    """A page of its own that has nothing to complain of when the test is over."""
    context = await browser.new_context(locale="en-GB", timezone_id="Europe/London")
    context.set_default_timeout(WAIT)
    page = await context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda told: wrong.append(told.text) if told.type in ("error", "warning") else None)
    yield page
    await context.close()
    assert wrong == []

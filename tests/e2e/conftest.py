"""Fixtures of the end-to-end tests of the chat page."""

from collections.abc import Iterator

import pytest

from tests.e2e.chat_browser import ChatBrowser, start_browser
from tests.e2e.scripted_server import Script, scripted_server


@pytest.fixture(scope="session")
def browser() -> Iterator[ChatBrowser]:
    """One Chromium for all tests; `open` gives each a first visit."""
    started = start_browser()
    yield started
    started.driver.quit()


@pytest.fixture(scope="session")
def scripted_page() -> Iterator[tuple[str, Script]]:
    with scripted_server() as served:
        yield served


@pytest.fixture
def script(browser: ChatBrowser, scripted_page: tuple[str, Script]) -> Script:
    """The page open in front of a scripted model."""
    url, script = scripted_page
    script.reset()
    browser.open(url)
    return script

"""The cluster page in Chromium, before a real server with a toy model."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.api.conftest import RunningServer, launch
from tests.e2e.chat_browser import ChatBrowser, start_browser

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def page_server() -> Iterator[RunningServer]:
    with ExitStack() as stack:
        yield launch(stack, "toy:5", ui=True)


def visit(browser: ChatBrowser, server: RunningServer) -> None:
    browser.driver.get(server.url + "/cluster")
    browser.until(lambda: browser.texts("#liveness")[0] == "live")
    browser.driver.get_log("browser")


def test_workers_and_requests_appear_while_they_live(
    browser: ChatBrowser, page_server: RunningServer
) -> None:
    visit(browser, page_server)
    (worker,) = browser.all(".worker")
    assert worker.get_attribute("data-state") == "ready"
    assert str(page_server.worker_pid()) in browser.text(".worker-pid")
    body = {"prompt": "abc", "max_tokens": 2000, "stream": True}
    with page_server.http.stream("POST", "/v1/completions", json=body) as response:
        lines = response.iter_lines()
        next(lines)
        browser.until(lambda: browser.text(".request-status") == "running")
        browser.until(lambda: browser.texts(".figure-value")[0] != "0")
        assert browser.all(".bar.kind-decode") and browser.texts(".figure-value")[1] == "1"
    browser.until(lambda: browser.text(".request-status") == "abort")
    assert browser.problems() == []


def test_text_of_others_is_never_code(browser: ChatBrowser, page_server: RunningServer) -> None:
    """What the page shows is put in as text, and the server refuses such names before."""
    name = "<img src=x onerror=alert(1)>"
    page_server.http.post(
        "/v1/completions",
        json={"prompt": "abc", "max_tokens": 1},
        headers={"x-request-id": name},
    )
    visit(browser, page_server)
    browser.until(lambda: browser.all(".request"))
    assert browser.all("#requests img") == [] and browser.problems() == []


def test_a_phone_needs_no_sideways_scrolling(page_server: RunningServer) -> None:
    phone = start_browser(phone=True)
    try:
        visit(phone, page_server)
        script = "return document.documentElement.scrollWidth <= window.innerWidth"
        assert phone.driver.execute_script(script)
    finally:
        phone.driver.quit()


def test_without_its_key_the_page_says_what_to_do(browser: ChatBrowser) -> None:
    with ExitStack() as stack:
        server = launch(stack, "toy", ui=True, api_key="secret")
        browser.driver.get(server.url + "/cluster")
        browser.until(lambda: "API key" in browser.text("#trouble"))
        browser.driver.execute_script("sessionStorage.setItem('artesian.api-key', 'secret')")
        browser.driver.get(server.url + "/cluster")
        browser.until(lambda: browser.texts("#liveness")[0] == "live")
        assert server.stop() == 0
        browser.until(lambda: browser.texts("#liveness")[0] == "not connected")
        browser.driver.execute_script("sessionStorage.clear()")

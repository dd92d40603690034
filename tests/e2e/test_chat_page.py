"""The chat page in Chromium, in front of the real server and a real model."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.chat_browser import ChatBrowser

pytestmark = pytest.mark.e2e

READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30
ANSWER = ".message.assistant .prose"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}ready", timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


@pytest.fixture(scope="module")
def server_url(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`artesian serve` as a user starts it, on a free port."""
    pytest.importorskip("artesian.ops.native", reason="the native module is not built")
    port = free_port()
    log_path = tmp_path_factory.mktemp("server") / "log.txt"
    url = f"http://127.0.0.1:{port}/"
    command = [sys.executable, "-m", "artesian", "serve", str(smollm2_path), "--port", str(port)]
    with log_path.open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline_s = time.monotonic() + READY_TIMEOUT_S
            while not is_ready(url):
                assert server.poll() is None, f"the server ended:\n{log_path.read_text()}"
                assert time.monotonic() < deadline_s, f"not ready:\n{log_path.read_text()}"
                time.sleep(0.1)
            yield url
        finally:
            server.terminate()
            server.wait(STOP_TIMEOUT_S)


@pytest.fixture
def page(browser: ChatBrowser, server_url: str) -> ChatBrowser:
    """A first visit, with greedy and short answers."""
    browser.open(server_url)
    browser.driver.execute_script(
        "localStorage.setItem('artesian.sampling', '{\"temperature\": 0, \"max_tokens\": 64}')"
    )
    browser.driver.refresh()
    return browser


def cached_tokens(page: ChatBrowser) -> int:
    return int(page.all('[data-stat="cached"]')[-1].get_attribute("data-value"))


def test_second_turn_reuses_the_first(page: ChatBrowser) -> None:
    page.ask("Name three rivers of Europe and say a sentence about each.")
    first = page.text(ANSWER)
    assert len(first) > 20
    assert page.state() == "done"
    assert page.text('[data-stat="rate"]').endswith("tok/s")
    page.ask("Which of them is the longest?")
    assert page.texts(ANSWER)[0] == first
    assert len(page.texts(ANSWER)[1]) > 0
    assert cached_tokens(page) > 0
    assert page.problems() == []


def test_text_grows_while_the_model_writes(page: ChatBrowser) -> None:
    page.write("Tell a long story about a well.\n")
    lengths = set()
    page.until(lambda: page.text(ANSWER))
    while page.streaming():
        lengths.add(len(page.text(ANSWER)))
    assert len(lengths) > 3


def test_stop_keeps_the_part_and_frees_the_model(page: ChatBrowser, server_url: str) -> None:
    page.driver.execute_script(
        "localStorage.setItem('artesian.sampling', '{\"temperature\": 0, \"max_tokens\": 4096}')"
    )
    page.driver.refresh()
    page.write("Tell a long story about a well.\n")
    page.until(lambda: len(page.text(ANSWER)) > 30)
    page.click("#composer-action")
    page.finish()
    assert page.state() == "stopped"
    assert len(page.text(ANSWER)) > 30
    page.until(lambda: num_running(server_url) == 0, timeout_s=10)


def num_running(url: str) -> float:
    """The running requests that the server's metrics show."""
    with urllib.request.urlopen(f"{url}metrics", timeout=5) as response:
        for line in response.read().decode().split("\n"):
            if line.startswith("artesian_num_requests_running"):
                return float(line.rsplit(" ", 1)[1])
    raise AssertionError("/metrics has no artesian_num_requests_running")


def test_same_seed_same_answer(page: ChatBrowser) -> None:
    page.click("#toggle-settings")
    page.one("#setting-temperature").click()
    page.press("CONTROL", "a")
    page.one("#setting-temperature").send_keys("1")
    page.one("#seed").send_keys("7\t")
    page.ask("Write a sentence about the sea.")
    first = page.text(ANSWER)
    page.click(".message.assistant [data-action=refresh]")
    page.finish()
    assert page.text(ANSWER) == first

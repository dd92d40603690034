"""Drives the chat page in Chromium."""

import shutil
from typing import Any

import pytest

WAIT_S = 60
PHONE = {"deviceMetrics": {"width": 390, "height": 844, "pixelRatio": 2, "touch": True}}


def start_browser(phone: bool = False) -> "ChatBrowser":
    """A headless Chromium; skips the test where it or its driver is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1280,900"):
        options.add_argument(f"--{flag}")
    if phone:
        options.add_experimental_option("mobileEmulation", PHONE)
    else:
        # A headless browser has no mouse, and the page would take it for a phone.
        options.add_argument(
            "--blink-settings=primaryHoverType=2,availableHoverTypes=2,"
            "primaryPointerType=4,availablePointerTypes=4"
        )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return ChatBrowser(webdriver.Chrome(options, webdriver.ChromeService(driver)))


class ChatBrowser:
    """The page's parts by name, and waiting for an answer to end."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """The page as on a first visit."""
        self.driver.get(url)
        self.driver.execute_script("localStorage.clear(); sessionStorage.clear();")
        self.driver.get(url)
        self.until(lambda: self.text(".model-name") not in ("", "not connected"))
        self.driver.get_log("browser")

    def all(self, selector: str) -> list[Any]:
        return list(self.driver.find_elements("css selector", selector))

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def texts(self, selector: str) -> list[str]:
        """The visible texts, read at once: the page may replace its nodes at any time."""
        read = "return [...document.querySelectorAll(arguments[0])].map((n) => n.innerText.trim())"
        return list(self.driver.execute_script(read, selector))

    def text(self, selector: str) -> str:
        """The last one's text; empty if there is none."""
        return (self.texts(selector) or [""])[-1]

    def until(self, condition: Any, timeout_s: float = WAIT_S) -> Any:
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, timeout_s, 0.02).until(lambda _: condition())

    def write(self, text: str) -> None:
        self.one("#composer-text").send_keys(text)

    def ask(self, text: str) -> None:
        """Sends with Enter and waits for the whole answer."""
        turns = len(self.all(".message.assistant"))
        self.write(text + "\n")
        self.until(lambda: len(self.all(".message.assistant")) > turns)
        self.finish()

    def finish(self) -> None:
        self.until(lambda: self.all(".message.assistant") and not self.streaming())

    def streaming(self) -> bool:
        return bool(self.all('.message[data-state="streaming"]'))

    def state(self) -> str:
        return str(self.all(".message.assistant")[-1].get_attribute("data-state"))

    def click(self, selector: str) -> None:
        """Clicks without the pointer: some buttons show only under it."""
        self.driver.execute_script("arguments[0].click()", self.all(selector)[-1])

    def press(self, *keys: str) -> None:
        from selenium.webdriver import ActionChains, Keys

        actions = ActionChains(self.driver)
        for name in keys[:-1]:
            actions.key_down(getattr(Keys, name))
        actions.send_keys(getattr(Keys, keys[-1], keys[-1]))
        for name in keys[:-1]:
            actions.key_up(getattr(Keys, name))
        actions.perform()

    def run(self, script: str, *arguments: Any) -> Any:
        """Runs an async script that calls `done(result)`; `args` are the arguments."""
        prefix = "const done = arguments[arguments.length - 1], args = arguments;"
        return self.driver.execute_async_script(prefix + script, *arguments)

    def stored(self) -> list[dict[str, Any]]:
        """The conversations in localStorage."""
        found = self.driver.execute_script(
            "return Object.keys(localStorage).filter((k) => k.startsWith('artesian.conversation.'))"
            ".map((k) => JSON.parse(localStorage.getItem(k)))"
        )
        return list(found)

    def problems(self) -> list[str]:
        """Warnings and errors in the console since the last call."""
        levels = ("WARNING", "SEVERE")
        log = self.driver.get_log("browser")
        return [entry["message"] for entry in log if entry["level"] in levels]

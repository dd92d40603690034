"""What the chat page does with each answer, refusal and click, in front of a scripted model."""

from typing import Any

import pytest

from tests.e2e.chat_browser import ChatBrowser, start_browser
from tests.e2e.scripted_server import Script, refusal

pytestmark = pytest.mark.e2e

ANSWER = ".message.assistant .prose"


def sent(script: Script) -> list[tuple[str, str]]:
    """The turns of the last request."""
    return [(turn["role"], turn["content"]) for turn in script.requests[-1]["messages"]]


def test_answer_streams_with_its_numbers(browser: ChatBrowser, script: Script) -> None:
    script.pieces = ["Tea ", "**and** ", "coffee"]
    browser.ask("Which?")
    assert browser.text(ANSWER) == "Tea and coffee"
    assert browser.text('[data-stat="prompt"]') == "100 prompt"
    assert browser.text('[data-stat="cached"]') == "64 cached"
    assert browser.text('[data-stat="completion"]') == "3 tokens"
    assert browser.text('[data-stat="ttft"]').endswith("to first")
    assert browser.text('[data-stat="finish"]') == "finished"
    request = script.requests[-1]
    assert request["model"] == "scripted"
    assert request["stream"] is True
    assert request["stream_options"] == {"include_usage": True}
    assert browser.problems() == []


def test_later_turns_carry_the_earlier_ones(browser: ChatBrowser, script: Script) -> None:
    browser.ask("One")
    browser.ask("Two")
    assert sent(script) == [("user", "One"), ("assistant", "Hello."), ("user", "Two")]


def test_shift_enter_breaks_the_line(browser: ChatBrowser, script: Script) -> None:
    browser.one("#composer-text").click()
    browser.write("a")
    browser.press("SHIFT", "ENTER")
    browser.ask("b")
    assert sent(script) == [("user", "a\nb")]


@pytest.mark.parametrize("way", ["button", "escape"])
def test_stop_keeps_the_part_so_far(browser: ChatBrowser, script: Script, way: str) -> None:
    script.pieces, script.pause_s = ["word "] * 500, 0.02
    browser.write("Talk\n")
    browser.until(lambda: len(browser.text(ANSWER)) > 20)
    if way == "button":
        browser.click("#composer-action")
    else:
        browser.press("ESCAPE")
    browser.finish()
    text = browser.text(ANSWER)
    assert browser.state() == "stopped"
    assert browser.text('[data-stat="finish"]') == "stopped by you"
    assert browser.stored()[0]["messages"][-1]["content"].strip() == text
    script.pieces, script.pause_s = ["Yes."], 0.0
    browser.ask("Go on")
    assert sent(script)[1] == ("assistant", text + " ")


def test_edit_drops_the_turns_after(browser: ChatBrowser, script: Script) -> None:
    browser.ask("One")
    browser.ask("Two")
    browser.driver.execute_script(
        "document.querySelector('.message.user [data-action=edit]').click()"
    )
    area = browser.one(".edit-form textarea")
    assert area.get_attribute("value") == "One"
    area.clear()
    area.send_keys("Uno\n")
    browser.until(lambda: len(browser.all(".message")) == 2)
    browser.finish()
    assert sent(script) == [("user", "Uno")]
    assert [message["content"] for message in browser.stored()[0]["messages"]] == ["Uno", "Hello."]


def test_cancelled_edit_changes_nothing(browser: ChatBrowser, script: Script) -> None:
    browser.ask("One")
    browser.click(".message.user [data-action=edit]")
    browser.one(".edit-form textarea").send_keys("more")
    browser.press("ESCAPE")
    assert browser.text(".message.user .bubble") == "One"
    assert len(script.requests) == 1


def test_answer_again_replaces_the_answer(browser: ChatBrowser, script: Script) -> None:
    browser.ask("One")
    script.pieces = ["Other."]
    browser.click(".message.assistant [data-action=refresh]")
    browser.until(lambda: browser.text(ANSWER) == "Other.")
    browser.finish()
    assert sent(script) == [("user", "One")]
    assert len(browser.all(".message")) == 2


def test_system_prompt_and_sampling_are_sent(browser: ChatBrowser, script: Script) -> None:
    browser.click("#toggle-settings")
    browser.one("#system-prompt").send_keys("Be brief.")
    for name, value in {"temperature": "0", "top_k": "7", "max_tokens": "99999"}.items():
        field = browser.one(f"#setting-{name}")
        field.click()
        browser.press("CONTROL", "a")
        field.send_keys(value)
    browser.one("#seed").send_keys("5")
    browser.ask("Hi")
    request = script.requests[-1]
    assert sent(script)[0] == ("system", "Be brief.")
    assert (request["temperature"], request["top_k"], request["seed"]) == (0, 7, 5)
    assert request["max_tokens"] == 4096
    assert "min_p" not in request, "a setting that changes nothing is not sent"
    browser.driver.refresh()
    browser.ask("Again")
    assert script.requests[-1]["temperature"] == 0


def wait_for_failure(browser: ChatBrowser) -> Any:
    return browser.until(lambda: (browser.all(".failure") or [None])[-1])


def test_too_long_says_so_and_can_be_tried_again(browser: ChatBrowser, script: Script) -> None:
    script.refusal = refusal(400, "The prompt has 9,000 tokens; the model takes 8,192.")
    browser.write("Hi\n")
    assert "9,000 tokens" in wait_for_failure(browser).text
    script.refusal = None
    browser.click(".failure .button")
    browser.until(lambda: browser.text(ANSWER) == "Hello.")
    assert browser.all(".failure") == []
    assert sent(script) == [("user", "Hi")]


def test_busy_holds_the_retry_back(browser: ChatBrowser, script: Script) -> None:
    script.refusal = refusal(429, "The queue is full.", {"Retry-After": "600"})
    browser.write("Hi\n")
    assert "The server is busy" in wait_for_failure(browser).text
    button = browser.one(".failure .button")
    assert not button.is_enabled()
    seconds = int(button.text.removeprefix("Try again in ").removesuffix(" s"))
    assert 60 < seconds <= 120, "a wait that nobody sits through is cut"


def test_busy_lets_the_retry_go_in_time(browser: ChatBrowser, script: Script) -> None:
    script.refusal = refusal(429, "The queue is full.", {"Retry-After": "1"})
    browser.write("Hi\n")
    wait_for_failure(browser)
    browser.until(browser.one(".failure .button").is_enabled)


def test_missing_key_leads_to_the_key_field(browser: ChatBrowser, script: Script) -> None:
    script.key = "secret"
    browser.driver.refresh()
    browser.write("Hi\n")
    assert "An API key is needed" in wait_for_failure(browser).text
    browser.click(".failure .button.primary")
    browser.driver.switch_to.active_element.send_keys("secret\n")
    browser.until(lambda: browser.text(".model-name") == "scripted")
    browser.until(lambda: browser.text(ANSWER) == "Hello.")
    kept = browser.driver.execute_script("return [{...localStorage}, {...sessionStorage}]")
    assert "secret" not in str(kept[0])
    assert "secret" in str(kept[1])


def test_broken_stream_keeps_its_part(browser: ChatBrowser, script: Script) -> None:
    script.pieces, script.breaks_after = ["one ", "two ", "three"], 2
    browser.write("Count\n")
    assert "No connection" in wait_for_failure(browser).text
    assert browser.text(ANSWER) == "one two"


def test_unreachable_server_is_named(browser: ChatBrowser, script: Script) -> None:
    browser.driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        browser.write("Hi\n")
        assert "cannot be reached" in wait_for_failure(browser).text
    finally:
        online = {**offline, "offline": False}
        browser.driver.execute_cdp_cmd("Network.emulateNetworkConditions", online)
    browser.click(".failure .button")
    browser.until(lambda: browser.text(ANSWER) == "Hello.")


def test_page_connects_once_the_server_is_ready(browser: ChatBrowser, script: Script) -> None:
    script.is_ready = False
    browser.driver.refresh()
    browser.until(lambda: browser.text(".model-name") == "not connected")
    browser.write("Hi\n")
    assert "not ready" in wait_for_failure(browser).text
    script.is_ready = True
    browser.until(lambda: browser.text(".model-name") == "scripted", timeout_s=10)
    browser.click(".failure .button")
    browser.until(lambda: browser.text(ANSWER) == "Hello.")


def test_failed_turn_is_joined_with_the_next(browser: ChatBrowser, script: Script) -> None:
    script.refusal = refusal(500, "Worker lost.")
    browser.write("One\n")
    wait_for_failure(browser)
    script.refusal = None
    browser.ask("Two")
    assert sent(script) == [("user", "One\n\nTwo")]


def test_conversations_are_kept_renamed_deleted(browser: ChatBrowser, script: Script) -> None:
    browser.ask("First topic")
    browser.press("CONTROL", "k")
    browser.until(lambda: browser.all(".welcome"))
    browser.ask("Second topic")
    browser.driver.refresh()
    assert browser.texts(".conversation-open") == ["Second topic", "First topic"]
    browser.click('.conversation:last-child [title="Rename"]')
    browser.one(".rename").send_keys("Renamed\n")
    browser.until(lambda: browser.text(".conversation-open") == "Renamed")
    browser.click('.conversation:last-child [title="Delete"]')
    browser.until(lambda: len(browser.all(".conversation-open")) == 1)
    assert [kept["title"] for kept in browser.stored()] == ["Second topic"]
    browser.click(".notice .quiet-button")
    browser.until(lambda: len(browser.all(".conversation-open")) == 2)
    assert browser.text("#conversation-title") == "Renamed"
    assert browser.problems() == []


def test_answers_run_on_in_a_conversation_left(browser: ChatBrowser, script: Script) -> None:
    script.pieces, script.pause_s = ["w "] * 40, 0.02
    browser.write("Long\n")
    browser.until(lambda: browser.text(ANSWER))
    browser.press("CONTROL", "k")
    browser.until(lambda: browser.all(".welcome"))
    browser.until(lambda: not browser.all(".conversation.running"))
    browser.click(".conversation-open")
    assert browser.text(ANSWER) == " ".join(["w"] * 40)


def test_export_is_readable_json(browser: ChatBrowser, script: Script) -> None:
    browser.ask("Keep this")
    exported = browser.run(
        """
        const real = URL.createObjectURL;
        URL.createObjectURL = (blob) => {
          blob.text().then((text) => done(JSON.parse(text)));
          URL.createObjectURL = real;
          return real.call(URL, blob);
        };
        document.getElementById("export-all").click();
        """
    )
    assert exported["format"] == "artesian-conversations"
    assert exported["conversations"][0]["messages"][0]["content"] == "Keep this"


def test_damaged_storage_does_not_stop_the_page(browser: ChatBrowser, script: Script) -> None:
    browser.driver.execute_script(
        "localStorage.setItem('artesian.conversation.a', '{');"
        "localStorage.setItem('artesian.conversation.b', '{\"id\": 5}');"
        'localStorage.setItem(\'artesian.sampling\', \'{"temperature": "hot", "top_k": 1e9}\');'
    )
    browser.driver.refresh()
    browser.ask("Hi")
    assert script.requests[-1]["temperature"] == pytest.approx(0.7)
    assert script.requests[-1]["top_k"] == 200


def distance_from_end(browser: ChatBrowser) -> float:
    return float(
        browser.driver.execute_script(
            "const t = document.getElementById('thread');"
            "return t.scrollHeight - t.scrollTop - t.clientHeight"
        )
    )


def test_scrolling_up_stops_following(browser: ChatBrowser, script: Script) -> None:
    script.pieces, script.pause_s = ["line\n\n"] * 2000, 0.01
    browser.write("Go\n")
    tall = "const t = document.getElementById('thread'); return t.scrollHeight > 2 * t.clientHeight"
    browser.until(lambda: browser.driver.execute_script(tall))
    browser.until(lambda: distance_from_end(browser) < 40)
    browser.driver.execute_script("document.getElementById('thread').scrollTop -= 300")
    browser.until(lambda: browser.one("#jump-latest").is_displayed())
    before = distance_from_end(browser)
    browser.until(lambda: distance_from_end(browser) > before + 100)
    browser.click("#jump-latest")
    browser.until(lambda: distance_from_end(browser) < 40)
    browser.click("#composer-action")
    browser.finish()


def test_slash_goes_to_the_message_box(browser: ChatBrowser, script: Script) -> None:
    browser.driver.execute_script("document.activeElement.blur()")
    browser.press("/")
    active = browser.driver.switch_to.active_element
    assert active.get_attribute("id") == "composer-text"
    assert active.get_attribute("value") == ""


def test_theme_toggle_is_remembered(browser: ChatBrowser, script: Script) -> None:
    ground = "return getComputedStyle(document.body).backgroundColor"
    before = browser.driver.execute_script(ground)
    browser.click("#toggle-theme")
    after = browser.driver.execute_script(ground)
    assert after != before
    browser.driver.refresh()
    assert browser.driver.execute_script(ground) == after


def test_controls_have_names(browser: ChatBrowser, script: Script) -> None:
    browser.ask("Hi")
    browser.click("#toggle-settings")
    unnamed = browser.driver.execute_script(
        """
        return [...document.querySelectorAll("button, input, textarea, select, a")]
          .filter((node) => !(node.getAttribute("aria-label") || node.textContent.trim()
            || (node.labels && node.labels.length)))
          .map((node) => node.outerHTML)
        """
    )
    assert unnamed == []


def test_phone_fits_and_opens_its_drawer(scripted_page: tuple[str, Script]) -> None:
    url, script = scripted_page
    script.reset()
    script.pieces = ["| a | b |\n|---|---|\n| " + "wide " * 60 + "| x |\n\n```\n" + "y" * 300]
    phone = start_browser(phone=True)
    try:
        phone.open(url)
        phone.write("Hi")
        phone.click("#composer-action")
        phone.until(lambda: phone.all(".message.assistant"))
        phone.finish()
        wide = "return document.documentElement.scrollWidth - innerWidth"
        assert phone.driver.execute_script(wide) <= 0
        assert not phone.one("#sidebar").is_displayed()
        phone.one("#toggle-sidebar").click()
        phone.until(lambda: phone.one(".conversation-open").is_displayed())
        phone.one(".conversation-open").click()
        phone.until(lambda: not phone.one("#sidebar").is_displayed())
    finally:
        phone.driver.quit()

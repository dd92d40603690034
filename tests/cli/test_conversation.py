"""The chat loop: commands, what is remembered, Ctrl-C."""

import io
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from artesian.cli.answers import Delta
from artesian.cli.conversation import Conversation
from artesian.engine.base import SamplingParams
from tests.cli.echo import EchoAnswerer


@pytest.fixture
def echo() -> EchoAnswerer:
    return EchoAnswerer()


def talk(echo: EchoAnswerer, *lines: str, system: str | None = None) -> tuple[Conversation, str]:
    """Runs a conversation over these lines; returns it and what was printed."""
    out = io.StringIO()
    console = Console(file=out, width=200, highlight=False)
    conversation = Conversation(echo, SamplingParams(), system, console)
    conversation.run(reader(list(lines)))
    return conversation, out.getvalue()


def reader(lines: list[str]) -> Callable[[str], str]:
    """Reads the lines, then the end of the input."""

    def read_line(_: str) -> str:
        if not lines:
            raise EOFError
        return lines.pop(0)

    return read_line


def test_earlier_turns_are_sent_again(echo: EchoAnswerer) -> None:
    conversation, out = talk(echo, "hello there", "", "and now?")
    assert [m["content"] for m in echo.asked[1]] == ["hello there", "hello there ", "and now?"]
    assert [m["role"] for m in conversation.messages] == ["user", "assistant"] * 2
    assert "hello there" in out
    assert "11 prompt tokens (1 cached)" in out


def test_reset_and_system(echo: EchoAnswerer) -> None:
    talk(echo, "one", "/reset", "/system be kind", "two", "/system", "three", system="be brief")
    assert [m["content"] for m in echo.asked[0]] == ["be brief", "one"]
    assert [m["content"] for m in echo.asked[1]] == ["be kind", "two"]
    assert [m["role"] for m in echo.asked[2]] == ["user", "assistant", "user"]


def test_save(echo: EchoAnswerer, tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    talk(echo, "héllo", f"/save {path}")
    assert json.loads(path.read_text())[0] == {"role": "user", "content": "héllo"}
    _, out = talk(echo, f"/save {tmp_path / 'no' / 'where'}")
    assert "cannot write" in out


def test_failure_is_told_and_the_question_forgotten(echo: EchoAnswerer) -> None:
    conversation, out = talk(echo, "fail", "/bogus", "/quit", "never read")
    assert conversation.messages == []
    assert "error: it failed try again" in out
    assert "/reset" in out


def test_ctrl_c_stops_the_answer_and_keeps_it(echo: EchoAnswerer) -> None:
    original = echo.complete

    def interrupted(prompt: str, sampling: SamplingParams) -> Iterator[Delta]:
        for delta in original(prompt, sampling):
            signal.raise_signal(signal.SIGINT)
            yield delta

    echo.complete = interrupted  # type: ignore[method-assign]
    handler = signal.getsignal(signal.SIGINT)
    conversation, out = talk(echo, "one two three")
    assert conversation.messages[-1]["content"] == "one "
    assert "stopped" in out
    assert signal.getsignal(signal.SIGINT) is handler

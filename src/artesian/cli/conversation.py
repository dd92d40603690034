"""The loop of `artesian chat`: reads a line, obeys a command or asks the model."""

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from rich.console import Console

from artesian.cli.answers import Answerer, AnswerError, Message
from artesian.cli.interrupt import caught_interrupt
from artesian.cli.stats import AnswerStats
from artesian.engine.base import SamplingParams

HELP = "/reset  /system TEXT  /save FILE  /quit    Ctrl-C stops an answer"


class Conversation:
    """Messages so far, and who answers them."""

    def __init__(
        self,
        answerer: Answerer,
        sampling: SamplingParams,
        system: str | None = None,
        console: Console | None = None,
    ) -> None:
        self.messages: list[Message] = []
        self.system = system
        self._answerer = answerer
        self._sampling = sampling
        self._console = console or Console(highlight=False, soft_wrap=True)

    def run(self, read_line: Callable[[str], str] = input) -> None:
        """Talks until the input ends."""
        with suppress(ImportError):  # Python may be built without it
            import readline  # noqa: F401  (gives `input` line editing and history)
        self._say(f"{self._answerer.name}    {HELP}")
        while True:
            try:
                line = read_line("> ").strip()
            except EOFError:
                self._console.print()
                return
            except KeyboardInterrupt:
                self._console.print("\n(Ctrl-D or /quit ends)", style="dim")
                continue
            if line == "/quit":
                return
            if line.startswith("/"):
                self._obey(line)
            elif line:
                self._ask(line)

    def _obey(self, line: str) -> None:
        command, _, argument = line.partition(" ")
        if command == "/reset":
            self.messages.clear()
            self._say("forgotten")
        elif command == "/system":
            self.system = argument.strip() or None
            self._say("system prompt set" if self.system else "no system prompt")
        elif command == "/save" and argument.strip():
            self._save(Path(argument.strip()).expanduser())
        else:
            self._say(HELP)

    def _save(self, path: Path) -> None:
        try:
            path.write_text(json.dumps(self._all_messages(), indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            self._say(f"cannot write {path}: {error.strerror}")
        else:
            self._say(f"saved {path}")

    def _all_messages(self) -> list[Message]:
        system = [{"role": "system", "content": self.system}] if self.system else []
        return system + self.messages

    def _ask(self, text: str) -> None:
        """Streams the answer; a question without any answer is forgotten again."""
        self.messages.append({"role": "user", "content": text})
        stats = AnswerStats()
        answer = ""
        try:
            with caught_interrupt() as interrupt:
                for delta in self._answerer.chat(self._all_messages(), self._sampling):
                    stats.take(delta)
                    answer += delta.text
                    self._console.print(delta.text, end="", markup=False)
                    if interrupt.is_set:
                        break
        except AnswerError as error:
            self._say(f"error: {error} {error.hint}")
        self._console.print()
        if not answer:
            self.messages.pop()
            return
        self.messages.append({"role": "assistant", "content": answer})
        self._say(f"{stats}{', stopped' if interrupt.is_set else ''}")

    def _say(self, text: str) -> None:
        """A line that is not part of the conversation."""
        self._console.print(text, style="dim", markup=False)

"""An answerer that repeats the last message, word by word, and remembers what it was asked."""

from collections.abc import Iterator, Sequence

from artesian.cli.answers import AnswerError, Delta, Message
from artesian.engine.base import SamplingParams


class EchoAnswerer:
    """Answers with the question; fails when the question is `fail`."""

    name = "echo"

    def __init__(self) -> None:
        self.asked: list[list[Message]] = []
        self.num_cancelled = 0

    def chat(self, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[Delta]:
        self.asked.append(list(messages))
        return self.complete(str(messages[-1]["content"]), sampling)

    def complete(self, prompt: str, sampling: SamplingParams) -> Iterator[Delta]:
        if prompt == "fail":
            raise AnswerError("it failed", "try again")
        try:
            for count, word in enumerate(prompt.split(), start=1):
                yield Delta(word + " ", len(prompt), 1, count)
        except GeneratorExit:
            self.num_cancelled += 1
            raise

    def close(self) -> None:
        pass

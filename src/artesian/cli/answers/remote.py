"""Answers from an OpenAI-compatible server."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

from artesian.cli.answers.base import AnswerError, Delta, Message
from artesian.cli.answers.client import ServerClient
from artesian.engine.base import SamplingParams


class RemoteAnswerer:
    """A server at a base URL such as `http://localhost:8000`, with or without `/v1`."""

    def __init__(
        self,
        url: str,
        api_key: str | None,
        model: str | None,
        fields: dict[str, Any] | None = None,
    ) -> None:
        """Asks the server for its model unless one is named; `fields` go into each request. Raises
        `AnswerError`."""
        self._fields = fields or {}
        self._server = ServerClient(url, api_key)
        self.base_url = self._server.base_url
        self.name = model or self._server.first_model()

    def chat(self, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[Delta]:
        """Answers a conversation. Raises `AnswerError`."""
        return self._stream("chat/completions", {"messages": list(messages)}, sampling)

    def complete(self, prompt: str, sampling: SamplingParams) -> Iterator[Delta]:
        """Goes on with a text. Raises `AnswerError`."""
        return self._stream("completions", {"prompt": prompt}, sampling)

    def close(self) -> None:
        """Closes the connection."""
        self._server.close()

    def _stream(self, path: str, body: dict[str, Any], sampling: SamplingParams) -> Iterator[Delta]:
        body |= {"model": self.name, "stream": True, "stream_options": {"include_usage": True}}
        body |= sampling_fields(sampling) | self._fields
        with self._server.stream(path, body) as lines:
            yield from map(read_event, events(lines))


def sampling_fields(sampling: SamplingParams) -> dict[str, Any]:
    """What a request body says about sampling; only what differs from the defaults."""
    default = SamplingParams()
    names = ("temperature", "top_p", "top_k", "min_p", "max_tokens", "seed", "ignore_eos")
    fields = {name: getattr(sampling, name) for name in names}
    return {
        name: value
        for name, value in fields.items()
        if value is not None and (name == "temperature" or value != getattr(default, name))
    }


def events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    """The JSON of each server-sent event. Raises `AnswerError` when one reports an error."""
    for line in lines:
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or data == "[DONE]":
            continue
        event = json.loads(data)
        if "error" in event:
            raise AnswerError(f"the server reports: {event['error'].get('message', event)}")
        yield event


def read_event(event: dict[str, Any]) -> Delta:
    """One streamed chunk; the last one may have usage and no choices."""
    usage = event.get("usage") or {}
    choice = (event.get("choices") or [{}])[0]
    text = (choice.get("delta") or {}).get("content") or choice.get("text") or ""
    return Delta(
        text,
        usage.get("prompt_tokens", 0),
        (usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        usage.get("completion_tokens", 0),
        choice.get("finish_reason"),
    )

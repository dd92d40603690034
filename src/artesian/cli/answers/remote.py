"""Answers from an OpenAI-compatible server."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx

from artesian.cli.answers.base import AnswerError, Delta, Message
from artesian.engine.base import SamplingParams

# A server may think for long over a long prompt, but it must accept the connection soon.
TIMEOUT = httpx.Timeout(600.0, connect=10.0)


class RemoteAnswerer:
    """A server at a base URL such as `http://localhost:8000`, with or without `/v1`."""

    def __init__(self, url: str, api_key: str | None, model: str | None) -> None:
        """Asks the server for its model unless one is named. Raises `AnswerError`."""
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.base_url = url.rstrip("/").removesuffix("/v1") + "/v1/"
        self._client = httpx.Client(base_url=self.base_url, headers=headers, timeout=TIMEOUT)
        self.name = model or self._first_model()

    def chat(self, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[Delta]:
        """Answers a conversation. Raises `AnswerError`."""
        return self._stream("chat/completions", {"messages": list(messages)}, sampling)

    def complete(self, prompt: str, sampling: SamplingParams) -> Iterator[Delta]:
        """Goes on with a text. Raises `AnswerError`."""
        return self._stream("completions", {"prompt": prompt}, sampling)

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def _first_model(self) -> str:
        try:
            response = self._client.get("models")
            check(response)
            return str(response.json()["data"][0]["id"])
        except httpx.HTTPError as error:
            raise unreachable(self._client.base_url, error) from error
        except (LookupError, ValueError) as error:
            raise AnswerError(f"{self._client.base_url} does not list its models") from error

    def _stream(self, path: str, body: dict[str, Any], sampling: SamplingParams) -> Iterator[Delta]:
        body |= {"model": self.name, "stream": True, "stream_options": {"include_usage": True}}
        body |= sampling_fields(sampling)
        try:
            with self._client.stream("POST", path, json=body) as response:
                if response.is_error:
                    response.read()
                    check(response)
                yield from map(read_event, events(response.iter_lines()))
        except httpx.HTTPError as error:
            raise unreachable(self._client.base_url, error) from error


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


def check(response: httpx.Response) -> None:
    """Raises `AnswerError` with the server's own words when the response is an error."""
    if not response.is_error:
        return
    try:
        reason = response.json()["error"]["message"]
    except (ValueError, LookupError, TypeError):
        reason = response.text[:200] or response.reason_phrase
    hint = "give the key: --api-key" if response.status_code == 401 else ""
    raise AnswerError(f"the server answered {response.status_code}: {reason}", hint)


def unreachable(url: httpx.URL, error: httpx.HTTPError) -> AnswerError:
    """The error for a server that does not answer."""
    return AnswerError(
        f"no answer from {url}: {str(error) or type(error).__name__}",
        "is the server running there? start one with: artesian serve",
    )

"""A connection to a server, with errors for people."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import httpx

from artesian.cli.answers.base import AnswerError

# A server may think for long over a long prompt, but it must accept the connection soon.
TIMEOUT = httpx.Timeout(600.0, connect=10.0)


class ServerClient:
    """A server at a base URL such as `http://localhost:8000`, with or without `/v1`."""

    def __init__(self, url: str, api_key: str | None) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self.base_url = url.rstrip("/").removesuffix("/v1") + "/v1/"
        self._client = httpx.Client(base_url=self.base_url, headers=headers, timeout=TIMEOUT)

    def call(self, method: str, path: str, **arguments: Any) -> Any:
        """The JSON of an answer. Raises `AnswerError`."""
        try:
            response = self._client.request(method, path, **arguments)
            check(response)
            return response.json()
        except httpx.HTTPError as error:
            raise unreachable(self._client.base_url, error) from error
        except ValueError as error:
            raise AnswerError(f"{self.base_url}{path} does not answer with JSON") from error

    @contextmanager
    def stream(self, path: str, body: dict[str, Any]) -> Iterator[Iterator[str]]:
        """The lines of an answer as they come. Raises `AnswerError`."""
        try:
            with self._client.stream("POST", path, json=body) as response:
                if response.is_error:
                    response.read()
                    check(response)
                yield response.iter_lines()
        except httpx.HTTPError as error:
            raise unreachable(self._client.base_url, error) from error

    def first_model(self) -> str:
        """The model that the server has. Raises `AnswerError`."""
        try:
            return str(self.call("GET", "models")["data"][0]["id"])
        except (LookupError, TypeError) as error:
            raise AnswerError(f"{self.base_url} does not list its models") from error

    def close(self) -> None:
        """Closes the connection."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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

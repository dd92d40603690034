"""`artesian cache why|warm|forget`: what a running server has cached."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from cyclopts import Parameter

from artesian.cli.answers.base import AnswerError
from artesian.cli.answers.client import ServerClient
from artesian.cli.errors import print_error
from artesian.cli.options import ApiKey, AsJson

ServerUrl = Annotated[str, Parameter(name="--url", help="The server's URL.")]
Salt = Annotated[
    str | None, Parameter(name="--cache-salt", help="That of the requests, if they have one.")
]
DEFAULT_URL = "http://localhost:8000"


def why(
    prompt: Annotated[str, Parameter(help="The prompt, or @FILE for a file that holds it.")],
    *,
    url: ServerUrl = DEFAULT_URL,
    server_key: ApiKey = None,
    cache_salt: Salt = None,
    as_json: AsJson = False,
) -> int:
    """Say how much of a prompt a running server has cached, and why it has no more.

    A file whose name ends in .json holds a list of messages, others hold text."""
    try:
        body = _body(prompt) | ({"cache_salt": cache_salt} if cache_salt else {})
        with ServerClient(url, server_key) as server:
            reply = server.call("POST", "cache/explain", json=body)
    except AnswerError as error:
        print_error(str(error), error.hint)
        return 1
    print(json.dumps(reply, indent=2) if as_json else reply["explanation"])
    return 0


def warm(
    file: Annotated[Path, Parameter(help="One prompt a line, as JSON.")],
    *,
    url: ServerUrl = DEFAULT_URL,
    server_key: ApiKey = None,
) -> int:
    """Let a running server compute and keep prompts before anybody asks.

    Each line is the body of a request to /v1/completions or /v1/chat/completions; it may have a
    session_id or a cache_salt. One token of each answer is generated and thrown away."""
    from rich.progress import track

    num_tokens = num_cached = 0
    try:
        bodies = list(_bodies(file))
        with ServerClient(url, server_key) as server:
            model = server.first_model()
            for body in track(bodies, "prompts", transient=True):
                path = "chat/completions" if "messages" in body else "completions"
                reply = server.call("POST", path, json={"model": model, **body, "max_tokens": 1})
                num_tokens += reply["usage"]["prompt_tokens"]
                num_cached += reply["usage"]["prompt_tokens_details"]["cached_tokens"]
    except AnswerError as error:
        print_error(str(error), error.hint)
        return 1
    print(f"{len(bodies)} prompts of {num_tokens} tokens, {num_cached} of which were cached before")
    return 0


def forget(
    session: Annotated[str, Parameter(help="The session_id of its requests.")],
    *,
    url: ServerUrl = DEFAULT_URL,
    server_key: ApiKey = None,
    cache_salt: Salt = None,
) -> int:
    """Delete a session's KV from memory and from every tier."""
    params = {"cache_salt": cache_salt} if cache_salt else {}
    try:
        with ServerClient(url, server_key) as server:
            reply = server.call("DELETE", f"sessions/{quote(session, safe='')}", params=params)
    except AnswerError as error:
        print_error(str(error), error.hint)
        return 1
    end = "are gone" if reply["deleted"] else "are being deleted still; ask again"
    print(f"{reply['num_blocks']} blocks {end}")
    return 0


def _body(prompt: str) -> dict[str, Any]:
    """The prompt of a request. Raises `AnswerError`."""
    if not prompt.startswith("@"):
        return {"prompt": prompt}
    path = Path(prompt[1:])
    text = _read(path)
    if path.suffix != ".json":
        return {"prompt": text}
    try:
        return {"messages": json.loads(text)}
    except ValueError as error:
        raise AnswerError(f"{path} is not JSON: {error}", "give a list of messages") from None


def _bodies(path: Path) -> Iterator[dict[str, Any]]:
    """The requests of a file. Raises `AnswerError` naming the line that is none."""
    for number, line in enumerate(_read(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            body = json.loads(line)
        except ValueError:
            body = None
        if not isinstance(body, dict) or not ("prompt" in body or "messages" in body):
            hint = 'write {"prompt": "..."} or {"messages": [...]}'
            raise AnswerError(f"{path}: line {number} is no request: {line[:60]}", hint)
        yield body


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise AnswerError(f"cannot read {path}: {reason}") from None

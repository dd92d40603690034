"""Sessions and explanations over HTTP, and the commands that ask for them, on a real model."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from artesian.cli.app import run
from tests.api.conftest import RunningServer, launch, until

pytest.importorskip("artesian._core", reason="the native module is not built")

STORY = "Tell me about the history of wells, and of those who dug them. " * 12


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kv")


@pytest.fixture(scope="module")
def real(smollm2_path: Path, directory: Path) -> Iterator[RunningServer]:
    with ExitStack() as stack:
        yield launch(
            stack,
            str(smollm2_path),
            max_model_len=1024,
            kv_cache_memory_bytes=1 << 27,
            context_cache_dir=directory,
        )


def say(server: RunningServer, text: str, session: str | None, **fields: Any) -> Any:
    body = {"prompt": text, "max_tokens": 2, "temperature": 0, "session_id": session, **fields}
    reply = server.http.post("/v1/completions", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    return reply.json()["usage"]


def test_a_session_is_shown_explained_and_deleted(
    real: RunningServer, directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = say(real, STORY, "wells/1 ?")
    listed = real.http.get("/v1/sessions").json()["data"]
    (session,) = [item for item in listed if item["id"] == "wells/1 ?"]
    assert session["num_tokens"] == usage["prompt_tokens"] + 2
    num_blocks = session["num_blocks"]
    assert num_blocks == (usage["prompt_tokens"] + 1) // 32 > 3
    url = ["--url", real.url]
    assert run(["cache", "why", STORY, *url]) == 0
    assert "nothing is missing" in capsys.readouterr().out
    until(lambda: _shown(directory, capsys) == [("wells/1 ?", num_blocks)])
    assert run(["cache", "forget", "wells/1 ?", *url]) == 0
    assert capsys.readouterr().out == f"{num_blocks} blocks are gone\n"
    assert run(["cache", "why", STORY, *url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_blocks_in_memory"], found["num_blocks_in_tiers"]) == (0, {"disk": 0})
    assert found["cause"] == "deleted with its session"
    assert run(["cache", "forget", "wells/1 ?", *url]) == 1
    assert "no session" in capsys.readouterr().err
    assert say(real, STORY, None)["prompt_tokens_details"]["cached_tokens"] == 0


def _shown(directory: Path, capsys: pytest.CaptureFixture[str]) -> list[tuple[str, int]]:
    assert run(["cache", "ls", str(directory), "--json"]) == 0
    sessions = json.loads(capsys.readouterr().out)
    return [(session["session_id"], session["num_blocks_here"]) for session in sessions]


def test_salts_have_sessions_of_their_own(real: RunningServer) -> None:
    say(real, STORY + "Salt.", "same", cache_salt="one")
    assert real.http.get("/v1/sessions/same").status_code == 404
    assert real.http.delete("/v1/sessions/same?cache_salt=two").status_code == 404
    shown = real.http.get("/v1/sessions/same?cache_salt=one").json()
    assert shown["num_blocks_in"]["memory"] == shown["num_blocks"] > 0
    assert real.http.post("/v1/sessions/same/resume?cache_salt=one").json()["object"]
    gone = real.http.delete("/v1/sessions/same?cache_salt=one")
    assert gone.status_code == 200 and gone.json()["deleted"] is True


def test_a_server_is_warmed(
    real: RunningServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "prompts.jsonl"
    messages = [{"role": "user", "content": STORY}]
    file.write_text(
        json.dumps({"prompt": "Warm. " + STORY})
        + "\n\n"
        + json.dumps({"messages": messages})
        + "\n"
    )
    assert run(["cache", "warm", str(file), "--url", real.url]) == 0
    assert "2 prompts of" in capsys.readouterr().out
    assert say(real, "Warm. " + STORY, None)["prompt_tokens_details"]["cached_tokens"] > 96
    file.write_text('{"prompt": "a"}\n{"nothing": 1}\n')
    assert run(["cache", "warm", str(file), "--url", real.url]) == 1
    assert "line 2 is no request" in capsys.readouterr().err
    assert run(["cache", "warm", str(tmp_path / "none"), "--url", real.url]) == 1
    assert "cannot read" in capsys.readouterr().err
    assert run(["cache", "why", "x", "--url", "http://127.0.0.1:9"]) == 1
    assert "no answer from" in capsys.readouterr().err


def test_a_defect_in_an_answer_ends_neither_worker_nor_front(server: RunningServer) -> None:
    reply = server.http.post("/v1/cache/explain", json={"prompt": "!crash"})
    assert reply.status_code == 500
    assert server.http.get("/ready").status_code == 200
    assert server.http.get("/v1/sessions").json() == {"object": "list", "data": []}
    assert server.http.get("/v1/sessions/" + "x" * 300).status_code == 400

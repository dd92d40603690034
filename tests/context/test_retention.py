"""Pins, quotas and times to live in a running engine."""

from pathlib import Path

import numpy as np
import pytest

from artesian.context.retention import Retention
from artesian.engine.base import Request
from artesian.engine.engine import LLMEngine
from artesian.engine.questions import PinSession, Sessions
from artesian.kvcache.hashing import BlockHasher
from tests.context.test_context_cache import close, context_of, expected, settle
from tests.context.test_sessions import FIRST, OTHER, ask, eventually, explain, sessions
from tests.engine.toy import greedy, make_engine, run

ROOM = 2 * 4096  # of a block


def small(directory: Path, num_blocks: int = 60, **settings: object) -> LLMEngine:
    """An engine with little memory, over a directory of so many blocks."""
    return make_engine(
        num_blocks=40,
        context_dir=directory,
        context_bytes=num_blocks * ROOM,
        **settings,  # type: ignore[arg-type]
    )


def pinned(engine: LLMEngine, prompt: list[int], seconds: float, session: str = "") -> None:
    request = Request(
        request_id="p",
        prompt_token_ids=prompt,
        sampling=greedy(4),
        session_id=session,
        pin_tokens=len(prompt),
        pin_s=seconds,
    )
    assert run(engine, request)["p"].tokens == expected(prompt, 4)
    settle(engine)
    engine._sessions._next_look_s = 0.0
    engine.step()


def flood(engine: LLMEngine, salt: str = "", count: int = 12) -> None:
    for start in range(count):
        ask(engine, [start, *OTHER], salt=salt)
        settle(engine)


def num_on_disk(engine: LLMEngine, prompt: list[int], salt: str = "") -> int:
    found = explain(engine, prompt, salt)
    return found.num_in_memory + found.num_loadable["disk"]


def test_what_is_pinned_stays_and_is_a_session(tmp_path: Path) -> None:
    engine = small(tmp_path)
    pinned(engine, FIRST, 3600)
    flood(engine)
    assert num_on_disk(engine, FIRST) == 10
    (session,) = sessions(engine)
    assert session.session_id.startswith("pin-")
    assert session.num_pinned_in_tier == {"disk": 10}
    reply = engine.answer(PinSession("", session.session_id, 0.0))
    assert isinstance(reply, Sessions) and reply.sessions[0].num_pinned_in_tier == {"disk": 0}
    flood(engine)
    assert num_on_disk(engine, FIRST) < 10
    close(engine)


def test_pins_have_a_budget_and_an_end(tmp_path: Path) -> None:
    now = [5_000.0]
    engine = small(tmp_path, context_clock=lambda: now[0], sessions_clock=lambda: now[0])
    pinned(engine, FIRST, 100, "one")
    pinned(engine, OTHER, 100, "two")
    (shelf,) = context_of(engine).shelves
    assert shelf.pinned_bytes == 15 * ROOM  # a quarter of 60
    counts = {info.session_id: info.num_pinned_in_tier["disk"] for info in sessions(engine)}
    assert counts == {"one": 10, "two": 5}
    assert engine.answer(PinSession("", "none", 5.0)) == Sessions([])
    now[0] += 101
    flood(engine)
    assert shelf.pinned_bytes == 0
    assert num_on_disk(engine, FIRST) < 10
    close(engine)


def test_other_servers_spare_it_too(tmp_path: Path) -> None:
    first, second = small(tmp_path), small(tmp_path)
    pinned(first, FIRST, 3600, "kept")
    eventually(second, lambda: [s.num_pinned_in_tier["disk"] for s in sessions(second)] == [10])
    flood(second)
    assert num_on_disk(second, FIRST) == 10
    close(first)
    close(second)


def test_a_tenant_that_takes_more_makes_room_first(tmp_path: Path) -> None:
    engine = small(tmp_path)
    ask(engine, FIRST, salt="modest")
    settle(engine)
    flood(engine, "greedy", 24)
    assert num_on_disk(engine, FIRST, "modest") == 10
    assert num_on_disk(engine, [0, *OTHER], "greedy") < 10
    close(engine)


def test_tenants_are_known_again_once_they_come_back(tmp_path: Path) -> None:
    engine = small(tmp_path)
    ask(engine, FIRST, salt="modest")
    close(engine)
    later = small(tmp_path)
    ask(later, FIRST, salt="modest")
    flood(later, "greedy", 24)
    assert num_on_disk(later, FIRST, "modest") == 10
    close(later)


def test_blocks_expire(tmp_path: Path) -> None:
    now = [100.0]
    engine = make_engine(
        context_dir=tmp_path, retention=Retention(ttl_s=50), context_clock=lambda: now[0]
    )
    ask(engine, FIRST)
    settle(engine)
    now[0] += 40
    ask(engine, OTHER)
    settle(engine)
    now[0] += 20
    engine.step()
    settle(engine)
    assert context_of(engine).count(names_of(engine, FIRST)) == {"disk": 0}
    assert context_of(engine).count(names_of(engine, OTHER)) == {"disk": 10}
    close(engine)


def names_of(engine: LLMEngine, prompt: list[int]) -> list[bytes]:
    hashes: list[bytes] = []
    BlockHasher(engine._identity).extend(hashes, np.array(prompt, np.int32))
    return hashes


@pytest.mark.parametrize("eviction", ["adaptive", "leaf-first-lru", "queue-aware"])
def test_what_waiting_requests_need_stays(tmp_path: Path, eviction: str) -> None:
    engine = make_engine(
        num_blocks=60,
        context_dir=tmp_path,
        context_bytes=60 * ROOM,
        max_num_seqs=1,
        retention=Retention(eviction),  # type: ignore[arg-type]
    )
    prompts = [[start, *OTHER] for start in range(12)] * 2
    requests = [
        Request(request_id=str(i), prompt_token_ids=prompt, sampling=greedy(4))
        for i, prompt in enumerate(prompts)
    ]
    done = run(engine, *requests)
    for i, prompt in enumerate(prompts):
        assert done[str(i)].tokens == expected(prompt, 4)
    close(engine)

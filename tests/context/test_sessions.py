"""Sessions: what belongs to them, and that it goes everywhere when they are deleted."""

import random
import time
from pathlib import Path

import pytest

from artesian.context.sessions import SessionBook, SessionKey, SessionRecord, SessionRecords
from artesian.context.sessions.record import tenant_of
from artesian.context.sessions.records import FOLDER
from artesian.engine.base import Request
from artesian.engine.engine import LLMEngine
from artesian.engine.questions import (
    Deleted,
    DeleteSession,
    ExplainPrompt,
    Explanation,
    ListSessions,
    Resumed,
    ResumeSession,
    SessionInfo,
    Sessions,
)
from tests.context.test_context_cache import close, context_of, expected, settle
from tests.engine.toy import greedy, make_engine, run

FIRST = [1 + i % 60 for i in range(41)]
OTHER = [60 - i % 60 for i in range(41)]


def ask(engine: LLMEngine, prompt: list[int], session: str = "", salt: str = "") -> list[int]:
    request = Request(
        request_id="r",
        prompt_token_ids=prompt,
        sampling=greedy(4),
        session_id=session,
        cache_salt=salt,
    )
    tokens = run(engine, request)["r"].tokens
    assert tokens == expected(prompt, 4)
    return tokens


def sessions(engine: LLMEngine, salt: str = "", limit: int = 9) -> list[SessionInfo]:
    reply = engine.answer(ListSessions(salt, limit))
    assert isinstance(reply, Sessions)
    return reply.sessions


def delete(engine: LLMEngine, session: str, salt: str = "") -> Deleted:
    reply = engine.answer(DeleteSession(salt, session))
    assert isinstance(reply, Deleted)
    return reply


def explain(engine: LLMEngine, prompt: list[int], salt: str = "") -> Explanation:
    reply = engine.answer(ExplainPrompt(salt, prompt))
    assert isinstance(reply, Explanation)
    return reply


def eventually(engine: LLMEngine, is_so: "object", timeout_s: float = 10.0) -> None:
    assert callable(is_so)
    until = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < until, "did not happen in time"
        engine._sessions._next_look_s = 0.0
        engine.step()
        time.sleep(0.01)


def test_a_session_grows_with_its_turns_and_is_its_tenants(tmp_path: Path) -> None:
    engine = make_engine(context_dir=tmp_path)
    answer = ask(engine, FIRST, "chat", "a")
    (first,) = sessions(engine, "a")
    assert (first.session_id, first.num_tokens, first.num_blocks) == ("chat", 45, 11)
    ask(engine, [*FIRST, *answer, 5, 6, 7], "chat", "a")
    ask(engine, FIRST, "later", "a")
    settle(engine)
    later, chat = sessions(engine, "a")
    assert (chat.num_tokens, chat.num_blocks, chat.num_in_memory) == (52, 12, 12)
    assert chat.num_in_tier == {"disk": 12}
    assert later.session_id == "later"
    assert sessions(engine, "a", limit=1) == [later]
    assert sessions(engine) == sessions(engine, "b") == []
    assert not delete(engine, "chat", "b").is_known
    close(engine)


def test_a_deleted_session_is_gone_from_memory_and_disk(tmp_path: Path) -> None:
    engine = make_engine(context_dir=tmp_path)
    ask(engine, FIRST, "chat")
    ask(engine, OTHER)
    assert context_of(engine).is_busy  # some is still being saved
    reply = delete(engine, "chat")
    assert reply.is_known and reply.num_blocks == 11
    settle(engine)
    assert delete(engine, "chat") == Deleted(is_known=False, is_gone=True)
    assert sessions(engine) == []
    found = explain(engine, FIRST)
    assert (found.num_in_memory, found.num_loadable, found.block_index) == (0, {"disk": 0}, 0)
    assert found.cause == "deleted with its session"
    assert explain(engine, OTHER).block_index is None
    assert len(context_of(engine).shelves[0].tier.entries()) == 11
    ask(engine, FIRST, "chat")
    close(engine)
    later = make_engine(context_dir=tmp_path)
    assert [info.session_id for info in sessions(later)] == ["chat"]
    close(later)


def test_what_another_session_needs_stays(tmp_path: Path) -> None:
    engine = make_engine(context_dir=tmp_path)
    ask(engine, [*FIRST, 1], "one")
    ask(engine, [*FIRST[:20], 9, 9, 9, 9, 9], "two")
    settle(engine)
    assert delete(engine, "one").num_blocks == 6  # 11 less the 5 that both begin with
    settle(engine)
    assert explain(engine, FIRST[:21]).num_in_memory == 5
    assert explain(engine, FIRST).num_in_memory == 5
    assert delete(engine, "two").num_blocks == 7
    settle(engine)
    assert explain(engine, FIRST).num_in_memory == 0
    close(engine)


def test_a_running_session_is_not_deleted() -> None:
    engine = make_engine()
    request = Request(request_id="r", prompt_token_ids=FIRST, sampling=greedy(8), session_id="chat")
    ask(engine, OTHER, "chat")
    engine.add_request(request)
    engine.step()
    assert delete(engine, "chat").is_running
    while engine.has_work():
        engine.step()
    assert delete(engine, "chat").is_gone
    assert explain(engine, FIRST).num_in_memory == 0


def test_other_servers_drop_it_as_well(tmp_path: Path) -> None:
    first, second = make_engine(context_dir=tmp_path), make_engine(context_dir=tmp_path)
    ask(first, FIRST, "chat")
    settle(first)
    eventually(second, lambda: len(sessions(second)) == 1)
    ask(second, FIRST)  # without the session's name: but these are its blocks
    assert explain(second, FIRST).num_in_memory == 10
    delete(first, "chat")
    settle(first)
    eventually(second, lambda: explain(second, FIRST).num_in_memory == 0)
    assert sessions(second) == []
    close(first)
    close(second)


def test_a_deletion_goes_on_after_a_crash(tmp_path: Path) -> None:
    engine = make_engine(context_dir=tmp_path)
    ask(engine, FIRST, "chat")
    close(engine)
    record = SessionRecord(
        key=SessionKey.of("", "chat"),
        names=engine._sessions._book.of_tenant("")[0].names,
        num_tokens=0,
        created_s=0.0,
        used_s=0.0,
        is_deleted=True,
    )
    records = SessionRecords(tmp_path)
    records.put(record)
    records.close(5.0)
    later = make_engine(context_dir=tmp_path)
    settle(later)
    assert sessions(later) == []
    assert context_of(later).shelves[0].tier.entries() == []
    close(later)


def test_sessions_expire(tmp_path: Path) -> None:
    now = [1_000.0]
    engine = make_engine(context_dir=tmp_path, session_ttl_s=60, sessions_clock=lambda: now[0])
    ask(engine, FIRST, "old")
    now[0] += 50
    ask(engine, OTHER, "new")
    now[0] += 20
    engine.step()
    settle(engine)
    assert [info.session_id for info in sessions(engine)] == ["new"]
    assert explain(engine, FIRST).cause == "deleted with its session"
    close(engine)


def test_a_session_is_brought_back_before_its_request(tmp_path: Path) -> None:
    engine = make_engine(context_dir=tmp_path)
    answer = ask(engine, FIRST, "chat")
    close(engine)
    later = make_engine(context_dir=tmp_path)
    reply = later.answer(ResumeSession("", "chat"))
    assert reply == Resumed(is_known=True, num_in_memory=0, num_coming=11)
    settle(later)
    assert explain(later, [*FIRST, *answer]).num_in_memory == 11
    assert later.answer(ResumeSession("", "none")) == Resumed(is_known=False)
    close(later)


def test_why_a_prompt_misses(tmp_path: Path) -> None:
    engine = make_engine(num_blocks=40, context_dir=tmp_path)
    ask(engine, FIRST)
    settle(engine)
    assert explain(engine, FIRST[:3]).num_usable_blocks == 0
    assert "nothing is missing" in explain(engine, FIRST).text
    changed = explain(engine, [*FIRST[:10], 77, *FIRST[11:]])
    assert (changed.num_in_memory, changed.block_index) == (2, 2)
    assert changed.cause == "never computed" and "tokens 8 to 11" in changed.text
    assert explain(engine, FIRST, "salt").block_index == 0
    for start in range(8):
        ask(engine, [start, *OTHER])
    assert explain(engine, FIRST).num_loadable["disk"] == 10
    close(engine)


def test_garbage_among_the_records_is_passed_over(tmp_path: Path) -> None:
    records = SessionRecords(tmp_path)
    record = SessionRecord(
        key=SessionKey.of("s", "chat"), names=[b"n" * 32], num_tokens=3, created_s=1.0, used_s=2.0
    )
    records.put(record)
    records.close(5.0)
    (tmp_path / FOLDER / "x.session").write_bytes(random.Random(0).randbytes(100))
    (tmp_path / FOLDER / "y.session").write_bytes(b"")
    (tmp_path / FOLDER / "z.draft").write_bytes(b"half")
    again = SessionRecords(tmp_path)
    assert again.poll() == [record]
    assert again.poll() == []
    again.close(5.0)
    for path in (tmp_path / FOLDER).glob("*.session"):
        assert b"chat" not in path.name.encode()
    assert (tmp_path / FOLDER).stat().st_mode & 0o777 == 0o700


def test_records_that_a_disk_refuses_are_written_later(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    records = SessionRecords(tmp_path)
    (tmp_path / FOLDER).rmdir()
    record = SessionRecord(
        key=SessionKey.of("", "x"), names=[], num_tokens=0, created_s=0.0, used_s=0.0
    )
    records.put(record)
    until = time.monotonic() + 10
    while "cannot keep sessions" not in caplog.text:
        assert time.monotonic() < until, "nobody was told"
        time.sleep(0.01)
    (tmp_path / FOLDER).mkdir()
    records.close(5.0)
    assert SessionRecords(tmp_path).poll() == [record]


def test_a_session_that_lives_again_does_not_keep_what_was_deleted(tmp_path: Path) -> None:
    engine = make_engine(context_dir=tmp_path)
    ask(engine, FIRST, "chat")
    assert context_of(engine).is_busy  # so that the deletion takes a while
    delete(engine, "chat")
    engine._sessions.note(SessionKey.of("", "chat"), [b"n" * 32], 4)
    settle(engine)
    assert explain(engine, FIRST).num_in_memory == 0
    assert explain(engine, FIRST).num_loadable == {"disk": 0}
    assert [info.num_blocks for info in sessions(engine)] == [1]
    close(engine)


def test_sessions_without_a_directory_are_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("artesian.context.sessions.keeper._MOST_SESSIONS", 2)
    engine = make_engine()
    for name in "abc":
        ask(engine, FIRST, name)
    assert [info.session_id for info in sessions(engine)] == ["c", "b"]


class SlowBook:
    """Counts users of blocks the obvious way."""

    def __init__(self) -> None:
        self.names: dict[SessionKey, list[bytes]] = {}

    def remove(self, key: SessionKey) -> list[bytes]:
        names = self.names.pop(key, [])
        others = {name for other in self.names.values() for name in other}
        return [name for name in reversed(names) if name not in others]


@pytest.mark.parametrize("seed", range(20))
def test_a_book_agrees_with_an_obvious_one(seed: int) -> None:
    rng = random.Random(seed)
    book, twin = SessionBook(1_000), SlowBook()
    blocks = [bytes([i]) * 32 for i in range(30)]
    for step in range(300):
        key = SessionKey.of("", str(rng.randrange(8)))
        if rng.random() < 0.2:
            assert book.remove(key) == twin.remove(key)
            continue
        names = rng.choices(blocks, k=rng.randrange(6))
        book.note(key, names, step, float(step))
        kept = twin.names.setdefault(key, [])
        kept.extend(name for name in dict.fromkeys(names) if name not in kept)
        assert book.get(key) is not None
        assert len(book) == len(twin.names)


def test_a_book_is_bounded_and_keeps_what_was_used_last() -> None:
    book = SessionBook(2)
    keys = [SessionKey.of("", name) for name in "abc"]
    for number, key in enumerate(keys):
        book.note(key, [b"x" * 32], 1, float(number))
    assert book.take_excess() == keys[:1]
    assert [record.key for record in book.of_tenant("")] == [keys[2], keys[1]]
    assert book.expired(2.0) == [keys[1]]


def test_salts_cannot_be_read_from_tenants() -> None:
    assert tenant_of("") == ""
    assert "secret" not in tenant_of("secret") and tenant_of("secret") != tenant_of("secre")

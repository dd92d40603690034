"""Made conversations keep to the paper's statistics; traces are read as they were written."""

import json
import lzma
from pathlib import Path

import pytest

from artesian.sim import TraceError, agents, make_sessions, mooncake


def test_sessions_are_like_the_papers() -> None:
    sessions = make_sessions(9000, 1.0, 60.0, seed=3)
    num_turns = [len(session.turns) for session in sessions]
    tokens = [session.num_tokens for session in sessions]
    assert sum(num_turns) / 9000 == pytest.approx(5.75, rel=0.03)
    assert sum(count > 1 for count in num_turns) / 9000 == pytest.approx(0.73, abs=0.015)
    assert sum(count > 2048 for count in tokens) / 9000 == pytest.approx(0.47, abs=0.015)
    assert sum(count > 4096 for count in tokens) / 9000 == pytest.approx(0.30, abs=0.015)
    assert sessions[-1].arrival_s == pytest.approx(9000, rel=0.05)
    gaps = [turn.gap_s for session in sessions for turn in session.turns]
    assert sum(gaps) / len(gaps) == pytest.approx(60, rel=0.03)
    assert make_sessions(50, 1.0, 60.0, seed=3) != make_sessions(50, 1.0, 60.0, seed=4)


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    with lzma.open(path, "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
    return path


def test_mooncake_names_are_blocks(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"timestamp": 0, "input_length": 700, "output_length": 5, "hash_ids": [1, 2]},
        {"timestamp": 1500, "input_length": 1200, "output_length": 6, "hash_ids": [1, 2, 3]},
    ]
    trace = mooncake(write(tmp_path / "trace.jsonl.xz", rows))
    (_, first), (start_s, second) = trace.arrivals()
    assert start_s == trace.last_arrival_s == 1.5
    assert second.names[:2] == first.names
    assert (trace.num_blocks, trace.num_prompt_tokens, trace.block_tokens) == (3, 1900, 512)
    assert trace.following(first) is None


def test_agents_share_what_their_prompts_share(tmp_path: Path) -> None:
    start = "x" * 300
    rows: list[dict[str, object]] = [
        {"timestamp": 10e6, "input": start, "output": "abcd", "session_id": "s"},
        {"timestamp": 12e6, "input": start + "y" * 200, "output": "", "session_id": "s"},
        {"timestamp": 14e6, "input": start[:200] + "z" * 200, "output": "", "session_id": "t"},
    ]
    trace = agents([write(tmp_path / "calls.jsonl.xz", rows)], start_share=0.5)
    (_, one), (start_s, other) = trace.arrivals()
    assert start_s == 2.0
    following = trace.following(one)
    assert following is not None
    gap_s, second = following
    assert gap_s == 2.0
    assert second.names[:2] == one.names and len(second.names) == 3
    assert other.names[0] == one.names[0] and other.names[1] != one.names[1]
    assert trace.following(second) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "line 1 is no JSON"),
        ("[]", "line 1 is no object"),
        ('{"timestamp": 1}', "line 1 is no request"),
        ('{"timestamp": 1, "input_length": 1, "output_length": 1, "hash_ids": 5}', "no request"),
    ],
)
def test_bad_traces_are_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text(text + "\n")
    with pytest.raises(TraceError, match=message):
        mooncake(path)
    if "request" in message:
        with pytest.raises(TraceError, match="line 1 is no call"):
            agents([path], 1.0)

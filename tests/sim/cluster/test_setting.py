"""Traces, machines and the command."""

import json
import lzma
from itertools import pairwise
from pathlib import Path

import pytest

from artesian.cli import app
from artesian.sim.cluster import Call, openthoughts_like, sharegpt_like
from artesian.sim.cluster.accelerators import (
    A100,
    H100,
    LLAMA2_7B,
    LLAMA2_13B,
    Model,
    machine_by_roofline,
)
from artesian.sim.cluster.recorded import read_calls
from artesian.sim.cluster.setting import Setting, SettingError, machine_by_name, offload_of
from artesian.sim.traces import TraceError

AZURE = """\
TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.6805900,396,109
2023-11-16 18:15:48.6805900,879,55
"""


def test_azure_calls_come_in_order_from_0(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.xz"
    path.write_bytes(lzma.compress(AZURE.encode()))
    calls = read_calls(path, 10, None)
    assert [(c.num_prompt_tokens, c.num_output_tokens) for c in calls] == [
        (374, 44),
        (879, 55),
        (396, 109),
    ]
    assert [c.arrival_s for c in calls] == pytest.approx([0, 2, 4])
    assert [c.arrival_s for c in read_calls(path, 10, 4.0)] == pytest.approx([0, 0.25, 0.5])
    assert len(read_calls(path, 2, None)) == 2


def test_prefixes_of_mooncake_that_came_before_are_cached(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    rows = [
        {"timestamp": 0, "input_length": 1500, "output_length": 5, "hash_ids": [1, 2, 3]},
        {"timestamp": 1500, "input_length": 1200, "output_length": 5, "hash_ids": [1, 2, 9]},
        {"timestamp": 2000, "input_length": 1024, "output_length": 5, "hash_ids": [1, 2]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    calls = read_calls(path, 10, None)
    assert [c.num_cached_tokens for c in calls] == [0, 1024, 1023]
    assert [c.arrival_s for c in calls] == pytest.approx([0, 1.5, 2])


def test_our_own_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    first = {"arrival_s": 3.0, "num_prompt_tokens": 10, "num_output_tokens": 5}
    rows = [first, first | {"arrival_s": 4.5, "num_cached_tokens": 7, "key": "a"}]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    assert read_calls(path, 10, None) == [Call(0.0, 10, 5), Call(1.5, 10, 5, 7, "a")]


def test_lengths_without_times_need_a_rate(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    rows = "".join(f"{n},{n},0,0\n" for n in range(1, 2001))
    path.write_text("num_prefill_tokens,num_decode_tokens,num_total_tokens,pd_ratio\n" + rows)
    with pytest.raises(TraceError, match="give a rate"):
        read_calls(path, 10, None)
    calls = read_calls(path, 2000, 5.0)
    assert calls[-1].arrival_s == pytest.approx(400, rel=0.1)
    assert all(a.arrival_s < b.arrival_s for a, b in pairwise(calls))
    assert calls == read_calls(path, 2000, 5.0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a,b\n1,2\n",
        AZURE.replace("374", "many"),
        AZURE.replace("2023-11-16 18:15:46", "yesterday"),
        '{"timestamp": 0}',
        '{"timestamp"',
        '{"arrival_s": 1, "num_prompt_tokens": "x", "num_output_tokens": 1}',
        AZURE.split("\n")[0],
    ],
)
def test_what_is_no_trace_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(TraceError, match=str(path)):
        read_calls(path, 10, None)


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.xz"
    path.write_bytes(b"no archive")
    with pytest.raises(TraceError, match=str(path)):
        read_calls(path, 10, None)


def mean(values: list[int]) -> float:
    return sum(values) / len(values)


def test_made_up_calls_have_the_lengths_they_are_named_after() -> None:
    calls = sharegpt_like(20_000, 10.0)
    assert mean([c.num_prompt_tokens for c in calls]) == pytest.approx(161, rel=0.1)
    assert mean([c.num_output_tokens for c in calls]) == pytest.approx(338, rel=0.1)
    assert calls[-1].arrival_s == pytest.approx(2000, rel=0.05)
    long = openthoughts_like(20_000, 10.0)
    assert mean([c.num_output_tokens for c in long]) > 2000
    for call, window in [*((c, 2048) for c in calls), *((c, 4096) for c in long)]:
        assert call.num_prompt_tokens + call.num_output_tokens <= window
    assert sharegpt_like(50, 1.0, seed=3) == sharegpt_like(50, 1.0, seed=3)
    assert sharegpt_like(50, 1.0, seed=3) != sharegpt_like(50, 1.0, seed=4)


def test_rooflines_of_accelerators() -> None:
    small, large = machine_by_roofline(A100, LLAMA2_7B), machine_by_roofline(A100, LLAMA2_13B)
    assert small.kv_bytes == 512 << 10
    assert large.kv_bytes == 800 << 10
    assert small.capacity_tokens > 2 * large.capacity_tokens * 0.9
    assert large.costs.decode_s(1, 1) > 1.6 * small.costs.decode_s(1, 1)
    quick = machine_by_roofline(H100, LLAMA2_7B)
    assert quick.costs.decode_s(1, 1) < small.costs.decode_s(1, 1)
    rates = [small.executor_bytes_per_s(share) for share in (0.0, 0.1, 0.2, 0.5, 0.99)]
    assert rates == sorted(rates)
    assert rates[0] == 0
    assert rates[-1] <= small.decode_bytes_per_s * (1 + 1e-9)
    huge = Model(name="huge", num_params=70e9, num_layers=80, hidden_size=8192)
    with pytest.raises(ValueError, match="does not fit"):
        machine_by_roofline(A100, huge)


def test_names_that_mean_nothing_are_refused() -> None:
    with pytest.raises(SettingError, match="a100:llama2-7b"):
        machine_by_name("b200:llama2-7b")
    for name in ("some", "-1", "nan"):
        with pytest.raises(SettingError, match="none, any, all"):
            offload_of(name)
    with pytest.raises(SettingError, match="nobody decodes"):
        Setting(decode=0).roles()
    with pytest.raises(SettingError, match="share"):
        Setting(share=1.0).run(machine_by_name("a100:llama2-7b"), [Call(0, 1, 1)])


ARGUMENTS = "simulate --trace sharegpt-like --num-requests 60 --rate 20 --profile a100:llama2-7b"


def test_the_command_prints_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run([*ARGUMENTS.split(), "--offload", "any", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)["any"]
    assert report["num_finished"] == 60
    assert report["tpot_ms"][0] <= report["tpot_ms"][1]
    assert app.run(ARGUMENTS.split()) == 0
    printed = capsys.readouterr().out
    assert "TPOT p50 / p99, ms" in printed
    assert "Llama-2-7B on A100-80GB" in printed


def test_the_command_sweeps_and_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "sweep.svg"
    assert app.run([*ARGUMENTS.split(), "--sweep", "ratio", "--plot", str(path)]) == 0
    assert "1.2" in capsys.readouterr().out
    assert path.read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--trace nowhere", "nowhere is no file"),
        ("--profile nothing", "nothing is no file"),
        ("--plot x.svg", "--sweep ratio"),
        ("--decode 0", "nobody decodes"),
        ("--executor-share 1.5", "share"),
        ("--offload much", "none, any, all"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    given = dict(zip(ARGUMENTS.split()[1::2], ARGUMENTS.split()[2::2], strict=True))
    name, value = arguments.split()
    changed = given | {name: value}
    assert app.run(["simulate", *(part for pair in changed.items() for part in pair)]) == 2
    assert message in capsys.readouterr().err

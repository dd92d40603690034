"""The command line from outside: help, errors, exit codes, start-up time."""

import json
import os
import socket
import subprocess
import sys

import pytest

from artesian.cli.app import VERBS, run


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb, _ in VERBS)


@pytest.mark.parametrize("verb", [verb for verb, _ in VERBS])
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([verb, "--help"]) == 0
    assert f"artesian {verb}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["doktor"], 'Did you mean "doctor"?'),
        (["doctor", "--prot", "1"], "Did you mean --port?"),
        (["doctor", "--port", "high"], "--port: 'high' should be a valid integer"),
        (["doctor", "--log-level", "loud"], "Choose from"),
        (["doctor", "--config", "/no/where.yaml"], "cannot read the config file"),
    ],
)
def test_wrong_use_is_one_line_and_a_hint(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    error, *hints = captured.err.strip().split("\n")
    assert error.startswith("error: ")
    assert message in error
    assert all(line.startswith("hint: ") for line in hints)


def test_doctor_exit_code_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["doctor", "--port", "0", "--json"]) == 0
    names = [finding["name"] for finding in json.loads(capsys.readouterr().out)]
    assert "kernels" in names
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert run(["doctor", "--port", str(listener.getsockname()[1])]) == 1


def test_closed_pipe_is_no_error() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "artesian", "version"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.wait(timeout=30) == 1
    assert process.stderr.read() == b""
    process.stderr.close()


def test_help_is_quick() -> None:
    """Counts processor time, so that a busy machine does not fail it."""
    before = os.times()
    subprocess.run(
        [sys.executable, "-m", "artesian", "--help"], check=True, stdout=subprocess.DEVNULL
    )
    after = os.times()
    seconds = after.children_user + after.children_system
    assert seconds - before.children_user - before.children_system < 0.5

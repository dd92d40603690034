"""How the commands tell a server what their flags say."""

import pytest

from artesian.cli.answers.fields import request_fields
from artesian.config import Settings, SettingsError


def fields(**flags: str) -> dict[str, object]:
    return request_fields(Settings(flags=flags, environ={}))


def test_what_was_not_said_is_left_to_the_server() -> None:
    assert fields() == {}
    assert fields(attention="dense") == {"attention": {"selector": "dense"}}


def test_numbers_go_with_the_selector() -> None:
    assert fields(attention="progressive", attention_epsilon="0.9", num_skipped="4") == {
        "attention": {"selector": "progressive", "epsilon": 0.9},
        "num_skipped": 4,
    }
    assert fields(attention="top-k", attention_budget_tokens="1024") == {
        "attention": {"selector": "top-k", "budget_tokens": 1024}
    }


@pytest.mark.parametrize(
    "flags",
    [
        {"attention": "best"},
        {"attention": "top-k"},
        {"attention": "progressive", "attention_epsilon": "2"},
        {"attention_epsilon": "0.9"},
        {"num_skipped": "few"},
    ],
)
def test_what_cannot_be_is_refused(flags: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        fields(**flags)

"""Stop strings across pieces of text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artesian.engine.stop import StopStrings


def feed(
    stops: tuple[str, ...], pieces: list[str], include: bool = False
) -> tuple[str, str | None]:
    """All text shown, and what stopped it."""
    checker = StopStrings(stops, include)
    shown = ""
    for piece in pieces:
        text, stop = checker.feed(piece)
        shown += text
        if stop is not None:
            return shown, stop
    return shown + checker.flush(), None


@pytest.mark.parametrize(
    ("pieces", "shown", "stop"),
    [
        (["abc", "STOP", "def"], "abc", "STOP"),
        (["abcS", "T", "OPdef"], "abc", "STOP"),
        (["abcST", "Odd"], "abcSTOdd", None),
        (["SSTOP"], "S", "STOP"),
        (["ST"], "ST", None),
        (["", "S", "", "TOP"], "", "STOP"),
    ],
)
def test_a_stop_string_may_span_pieces(pieces: list[str], shown: str, stop: str | None) -> None:
    assert feed(("STOP",), pieces) == (shown, stop)


def test_nothing_is_shown_that_might_belong_to_a_stop_string() -> None:
    checker = StopStrings(("\n\nUser:",), False)
    assert checker.feed("Hi.\n") == ("Hi.", None)
    assert checker.feed("\n") == ("", None)
    assert checker.feed("You") == ("\n\nYou", None)


def test_the_stop_string_itself_is_shown_if_wanted() -> None:
    assert feed(("END",), ["xE", "NDy"], include=True) == ("xEND", "END")


def test_the_first_in_the_text_wins_and_of_these_the_longest() -> None:
    assert feed(("late", "ear"), ["an ear too late"])[1] == "ear"
    assert feed(("ab", "abc"), ["xabc"])[1] == "abc"


def test_nothing_stops_before_it_may() -> None:
    checker = StopStrings(("aa",), False)
    assert checker.feed("xaay", may_stop=False) == ("xaay", None)
    assert checker.feed("aab") == ("", "aa")


@given(
    st.lists(st.text("ab", min_size=1, max_size=3), max_size=3),
    st.lists(st.text("abc", max_size=3), max_size=12),
)
def test_the_text_does_not_depend_on_the_pieces_unless_it_stops(
    stops: list[str], pieces: list[str]
) -> None:
    shown, stop = feed(tuple(stops), pieces)
    whole = "".join(pieces)
    if stop is None:
        assert shown == whole
        assert not any(s in whole for s in stops)
    else:
        assert whole.startswith(shown + stop)
        assert not any(s in shown for s in stops)

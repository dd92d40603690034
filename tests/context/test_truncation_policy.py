"""Where streams are cut: a function of their length, and the same one until the next overflow."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artesian.context.policies import Truncation

BLOCK = 4


@st.composite
def truncations(draw: st.DrawFn) -> Truncation:
    sinks = draw(st.integers(0, 5))
    window = draw(st.integers(sinks + 2, 40))
    spare = draw(st.integers(0, BLOCK - 1))
    ratio = draw(st.sampled_from([0.1, 0.5, 0.9]))
    return Truncation.of_window(window * BLOCK + spare, BLOCK, sinks * BLOCK, ratio)


@given(truncations(), st.integers(1, 2000))
def test_cuts_are_those_of_a_window_that_is_filled_token_by_token(
    cuts: Truncation, num_tokens: int
) -> None:
    held, num_cuts = 0, 0
    for _ in range(num_tokens):
        if held == cuts.window_tokens:
            held -= cuts.step_blocks * BLOCK
            num_cuts += 1
        held += 1
    assert cuts.cut(num_tokens) == num_cuts
    assert num_tokens - cuts.dropped_tokens(num_cuts) == held
    assert held <= cuts.window_tokens


@given(truncations(), st.integers(1, 2000))
def test_a_cut_stays_until_the_next_overflow(cuts: Truncation, num_tokens: int) -> None:
    cut = cuts.cut(num_tokens)
    assert cuts.cut(cuts.end(cut)) == cut
    assert cuts.cut(cuts.end(cut) + 1) == cut + 1
    if cut:
        assert cuts.end(cut - 1) < num_tokens
        kept = num_tokens - cuts.dropped_tokens(cut)
        assert kept > cuts.sink_tokens, "not only what never goes"


@given(truncations(), st.integers(1, 2000), st.one_of(st.none(), st.integers(1, 500)))
def test_an_answer_has_room(cuts: Truncation, num_tokens: int, max_tokens: int | None) -> None:
    num_tokens = min(num_tokens, cuts.longest_stream - 1)
    most = cuts.most_tokens(num_tokens, max_tokens)
    assert num_tokens < most <= cuts.longest_stream
    if max_tokens is not None:
        assert most <= num_tokens + max_tokens
    elif most < cuts.longest_stream:
        assert most - num_tokens >= cuts.step_blocks * BLOCK


@given(truncations(), st.integers(1, 2000))
def test_entries_are_the_windows_that_still_hold_something_of_the_last_one(
    cuts: Truncation, num_tokens: int
) -> None:
    last = cuts.cut(num_tokens)
    first_kept = cuts.sink_tokens + cuts.dropped_tokens(last)
    useful = [cut for cut in range(last, -1, -1) if cuts.end(cut) > first_kept]
    assert list(cuts.entries(num_tokens)) == useful


def test_the_papers_ratio_and_whole_blocks() -> None:
    cuts = Truncation.of_window(2047, 32)
    assert (cuts.window_blocks, cuts.step_blocks, cuts.turned_blocks) == (63, 32, 31)
    cuts = Truncation.of_window(2048, 32, sink_tokens=4)
    assert (cuts.sink_blocks, cuts.step_blocks, cuts.turned_blocks) == (1, 32, 31)


def test_a_window_that_cannot_be_cut_says_why() -> None:
    with pytest.raises(ValueError, match="64 tokens that keeps the first 4 has no two blocks"):
        Truncation.of_window(64, 32, 4)

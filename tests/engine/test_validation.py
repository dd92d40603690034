"""Every field of a request is checked, and the message says what is wrong."""

from typing import Any

import msgspec
import pytest

from artesian.engine.base import InvalidRequestError, Request, SamplingParams
from artesian.engine.validation import check_request

VOCAB_SIZE = 100
NAN = float("nan")

WRONG: list[tuple[str, list[Any]]] = [
    ("n", [0, 129, 1.0, True, "1", None]),
    ("temperature", [-0.1, NAN, float("inf"), 101, "hot", None, True]),
    ("top_p", [0, -0.5, 1.01, NAN, "x", None]),
    ("top_k", [-2, 1.5, 2**31, None]),
    ("min_p", [-0.1, 1.1, NAN, None]),
    ("repetition_penalty", [0, -1, NAN, 101, None]),
    ("presence_penalty", [-2.1, 2.1, NAN, None]),
    ("frequency_penalty", [-2.1, 2.1, NAN, None]),
    ("logit_bias", [{100: 1.0}, {-1: 1.0}, {1: NAN}, {1: 101}, {"a": 1}, [1], None]),
    ("logprobs", [-1, 21, 1.5, True]),
    ("prompt_logprobs", [-1, 21, "all"]),
    ("seed", [2**64, -(2**63) - 1, 1.5, "x"]),
    ("stop", ["text", ("",), ("x" * 4097,), (1,), ("x",) * 65, None]),
    ("stop_token_ids", [(100,), (-1,), (1.5,), ("a",)]),
    ("include_stop_str_in_output", [1, None]),
    ("max_tokens", [0, -1, 1.5, True]),
    ("min_tokens", [-1, 1.5, None]),
    ("ignore_eos", [0, None]),
    ("skip_special_tokens", ["yes", None]),
]


def check(prompt: list[Any] | None = None, **fields: Any) -> None:
    request_fields = {
        key: fields.pop(key) for key in list(fields) if key in Request.__struct_fields__
    }
    request = Request(
        request_id="r",
        prompt_token_ids=[1, 2, 3] if prompt is None else prompt,
        sampling=SamplingParams(**fields),
        **request_fields,
    )
    check_request(request, VOCAB_SIZE, 50)


@pytest.mark.parametrize(("name", "value"), [(name, v) for name, vs in WRONG for v in vs])
def test_a_wrong_value_is_named(name: str, value: Any) -> None:
    with pytest.raises(InvalidRequestError, match=name):
        check(**{name: value})


def test_every_sampling_field_is_covered() -> None:
    assert {name for name, _ in WRONG} == {f.name for f in msgspec.structs.fields(SamplingParams)}


def test_extreme_values_that_are_allowed() -> None:
    check(
        n=128,
        temperature=0,
        top_p=1,
        top_k=-1,
        logprobs=0,
        seed=-1,
        max_tokens=2**31 - 1,
        stop=("x",) * 64,
        logit_bias={0: -100, 99: 100.0},
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": []}, "no tokens"),
        ({"prompt": [1] * 50}, r"50 tokens.*max_model_len is 50"),
        ({"prompt": [1, 100]}, r"prompt_token_ids.*0 to 99.*got 100"),
        ({"prompt": [1, -1]}, "got -1"),
        ({"prompt": [1, "a"]}, "whole numbers, got 'a'"),
        ({"timeout_s": -1.0}, "timeout_s"),
        ({"timeout_s": NAN}, "timeout_s"),
        ({"priority": 1.5}, "priority"),
        ({"output_token_ids": [1], "n": 2}, "n = 1, got n = 2"),
        ({"output_token_ids": [1] * 48}, "51 tokens"),
        ({"output_token_ids": [100]}, "output_token_ids"),
        ({"min_tokens": 5, "max_tokens": 4}, r"min_tokens \(5\).*max_tokens \(4\)"),
    ],
)
def test_requests_that_cannot_run_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        check(**fields)


def test_long_values_are_cut_in_messages() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        check(stop="x" * 100_000)
    assert len(str(caught.value)) < 200

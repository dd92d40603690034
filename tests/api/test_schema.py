"""Requests made up from the API's own description, right and wrong ones."""

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_schema_conformance,
    status_code_conformance,
)

from artesian.api.app import create_api
from tests.api.conftest import RunningServer, launch

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
TIMEOUT_S = 30


@pytest.fixture(scope="module")
def small_server() -> Iterator[RunningServer]:
    """Its context is short, so that requests for many tokens end soon."""
    with ExitStack() as stack:
        server = launch(stack, "toy:0", max_model_len=48, max_num_seqs=512)
        yield server
        assert server.http.get("/ready").status_code == 200
        assert server.metric("artesian_worker_restarts_total") == 0


schema = schemathesis.openapi.from_dict(create_api().openapi())
quiet: dict[str, Any] = {
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
}


@schema.parametrize()
@settings(max_examples=12, derandomize=True, **quiet)
def test_the_server_keeps_its_word(
    case: schemathesis.Case[Any], small_server: RunningServer
) -> None:
    case.call_and_validate(small_server.url, checks=CHECKS, timeout=TIMEOUT_S)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@schema.parametrize()
@settings(max_examples=500, **quiet)
def test_the_server_keeps_its_word_for_long(
    case: schemathesis.Case[Any], small_server: RunningServer
) -> None:
    case.call_and_validate(small_server.url, checks=CHECKS, timeout=TIMEOUT_S)

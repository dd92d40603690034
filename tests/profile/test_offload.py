"""From a profile to what may be offloaded."""

from typing import Any

import msgspec
import pytest

from artesian.profile import StepCosts, plan_offload
from tests.profile.test_profile import PROFILE

PROFILE_ = msgspec.structs.replace(
    PROFILE,
    costs=StepCosts(fixed_s=0.0, row_s=2e-3, prompt_row_s=1e-3, kv_token_s=5e-7, pair_s=0.0),
)
"""Attention here reads 2 GB/s; 1,000 tokens of a prompt take a second."""


def test_the_executor_gets_what_prefills_do_not_need() -> None:
    plans = [plan_offload(PROFILE_, ttft_s=t, prompt_tokens=1000, kv_part=1.0) for t in (1.1, 9)]
    assert [plan.share for plan in plans] == pytest.approx([0.4, 0.8])
    assert [plan.limits.ratio for plan in plans] == pytest.approx([0.75, 1.0])
    assert plans[0].limits.executor_bytes_per_s == pytest.approx(1.5e9)
    assert plans[0].limits.decode_bytes_per_s == pytest.approx(2e9)


def test_a_target_that_prefills_miss_anyway_leaves_nothing() -> None:
    plan = plan_offload(PROFILE_, ttft_s=0.5, prompt_tokens=1000)
    assert plan.share == 0
    assert plan.limits.ratio == 0


def test_each_bound_may_be_the_tightest() -> None:
    def ratio(**values: Any) -> float:
        return plan_offload(PROFILE_, ttft_s=9, prompt_tokens=1000, **values).limits.ratio

    assert ratio(kv_part=0.3) == pytest.approx(0.3)
    assert ratio(kv_part=1.0, num_decode=2) == pytest.approx(0.5)
    assert ratio(kv_part=1.0, num_prefill=2) == pytest.approx(2.0)
    # Rows of 1,024 tokens take 2 ms and 0.512 ms of attention: without it a quarter more fit.
    assert ratio(kv_part=1.0, tpot_s=0.1) == pytest.approx(0.256)
    assert ratio(kv_part=1.0, tpot_s=0.1, context_tokens=4096) == pytest.approx(1.0)

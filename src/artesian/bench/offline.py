"""Runs a workload on an engine in this process: no HTTP, no other process."""

import random
import time
from collections import deque

from artesian.bench.base import RequestTiming, Workload
from artesian.engine.base import Engine, Request, SamplingParams


def run_offline(
    engine: Engine, vocab_size: int, workload: Workload
) -> tuple[list[RequestTiming], float]:
    """Timings of all requests, and the duration of the run in seconds.

    Prompts are random tokens, so that no two share a cached prefix. A request starts when it
    arrives, even if it then has to wait for a place.
    """
    source = random.Random(workload.seed)
    sampling = SamplingParams(
        temperature=0.0, max_tokens=workload.output_len_tokens, ignore_eos=True
    )
    arrivals = deque(enumerate(workload.arrivals_s()))
    timings: dict[str, RequestTiming] = {}
    num_open = 0
    started_s = time.perf_counter()
    while arrivals or num_open:
        elapsed_s = time.perf_counter() - started_s
        while arrivals and num_open < workload.max_concurrency and arrivals[0][1] <= elapsed_s:
            index, arrival_s = arrivals.popleft()
            tokens = [source.randrange(vocab_size) for _ in range(workload.input_len_tokens)]
            name = f"bench-{index}"
            timings[name] = RequestTiming(started_s + arrival_s)
            engine.add_request(Request(request_id=name, prompt_token_ids=tokens, sampling=sampling))
            num_open += 1
        if not num_open:
            time.sleep(max(0.0, arrivals[0][1] - elapsed_s))
            continue
        outputs = engine.step()
        now = time.perf_counter()
        for output in outputs:
            timing = timings[output.request_id]
            timing.output_s += [now] * len(output.token_ids)
            timing.num_prompt_tokens = output.num_prompt_tokens
            timing.num_cached_tokens = output.num_cached_tokens
            timing.num_output_tokens = output.num_output_tokens
            timing.error = output.error
            num_open -= output.finish_reason is not None
    return list(timings.values()), time.perf_counter() - started_s

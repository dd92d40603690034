"""How long a request would take on a worker, by what was observed of it."""

from artesian.cluster.policies.base import RequestView, WorkerLoad


def place_wait_s(request: RequestView, load: WorkerLoad) -> float:
    """Until the worker has a slot and blocks for the request.

    Sequences are taken to be as long as the request: with `num_running` of them one ends every
    num_output_tokens * step_s / num_running seconds (ours).
    """
    num_tokens = request.num_prompt_tokens + request.num_output_tokens
    num_blocks = -(-num_tokens // load.block_size_tokens)
    num_before = 0 if request.priority < 0 else load.num_waiting
    has_room = load.num_free_slots > num_before and load.free_blocks >= num_blocks
    if has_room or not load.num_running:
        return 0.0
    return (num_before + 1) * request.num_output_tokens * load.step_s / load.num_running


def prefill_s(request: RequestView, load: WorkerLoad) -> float:
    """Until the worker has computed the prompt, behind what it has queued."""
    queue_s = 0.0 if request.priority < 0 else load.queue_s
    return queue_s + request.num_uncached(load.worker_id) * load.token_s


def answer_s(request: RequestView, load: WorkerLoad) -> float:
    """Until the last token, if the worker does all of it.

    A worker of role `decode` has its prompts computed elsewhere, which takes as long for any of
    them; but it too loads or computes what is not cached.
    """
    decoding_s = request.num_output_tokens * load.step_s
    return max(place_wait_s(request, load), prefill_s(request, load)) + decoding_s

"""Workers and requests as the policies see them."""

from artesian.cluster.member import Member
from artesian.cluster.policies import RequestView, WorkerLoad
from artesian.engine.base import Request

_TYPICAL_OUTPUT_TOKENS = 128
"""Expected of an answer that may be longer."""


class LoadView:
    """Makes observations of one cluster's workers, whose settings are the same."""

    def __init__(self, max_num_seqs: int, block_size_tokens: int) -> None:
        self._max_num_seqs = max_num_seqs
        self._block_size = block_size_tokens

    def load(self, member: Member, num_jobs: int = 0, job_tokens: int = 0) -> WorkerLoad:
        """A worker now; `num_jobs` prompts of `job_tokens` tokens are with it for peers.

        Sequences are those that the front has sent: it knows them at once, the worker's own counts
        come a few times a second.
        """
        num_sequences = member.num_sequences + num_jobs
        num_running = min(num_sequences, self._max_num_seqs)
        num_blocks = member.stats.num_kv_blocks
        used_blocks = round(member.stats.kv_cache_usage_ratio * num_blocks)
        return WorkerLoad(
            worker_id=member.record.worker_id,
            role=member.record.role,
            is_available=member.state == "ready",
            num_running=num_running,
            num_waiting=num_sequences - num_running,
            num_free_slots=self._max_num_seqs - num_running,
            queued_tokens=member.num_unstarted_tokens + job_tokens,
            used_blocks=used_blocks,
            free_blocks=num_blocks - used_blocks if num_blocks else 1 << 20,
            block_size_tokens=self._block_size,
            step_s=member.speed.step_s,
            token_s=member.speed.token_s,
        )


def view_of(request: Request) -> RequestView:
    """A request; what an earlier worker generated has to be computed again."""
    num_done = len(request.output_token_ids)
    num_allowed = request.sampling.max_tokens or _TYPICAL_OUTPUT_TOKENS
    return RequestView(
        num_prompt_tokens=len(request.prompt_token_ids) + num_done,
        num_output_tokens=max(1, min(num_allowed, _TYPICAL_OUTPUT_TOKENS) - num_done),
        priority=request.priority,
        key=f"{request.cache_salt}/{request.session_id}" if request.session_id else "",
    )

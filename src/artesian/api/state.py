"""What every request handler needs."""

import time
from dataclasses import dataclass, field
from typing import Annotated, cast

from fastapi import Depends, Request

from artesian.api.auth import ApiKeys
from artesian.api.errors import model_not_found, unavailable
from artesian.api.prompts import PromptEncoder
from artesian.cluster.queue import FrontQueue
from artesian.cluster.traces import TraceBook
from artesian.cluster.transfers import TransferWatch
from artesian.config import ServerConfig
from artesian.engine.base import EngineInfo
from artesian.metrics.serving import ServingMetrics
from artesian.metrics.workers import WorkerCounts
from artesian.worker.client import EngineClient


@dataclass
class ServerState:
    """One server: its settings, its engine, and what it counts."""

    config: ServerConfig
    engine: EngineClient
    queue: FrontQueue
    traces: TraceBook
    transfers: TransferWatch
    keys: ApiKeys
    metrics: ServingMetrics
    default_seed: int | None = None
    encoder: PromptEncoder | None = None
    draining: bool = False
    num_connections: int = 0
    created: int = field(default_factory=lambda: int(time.time()))

    def info(self) -> EngineInfo:
        """The engine's description. Raises `ApiError` (503) while the model is loading."""
        if self.engine.info is None or self.encoder is None:
            raise unavailable("the model is still loading", code="model_loading")
        return self.engine.info

    def prompts(self) -> PromptEncoder:
        """The tokenizer. Raises `ApiError` (503) while the model is loading."""
        self.info()
        assert self.encoder is not None
        return self.encoder

    def model_name(self) -> str:
        """The model's name in the API."""
        return self.config.served_model_name or self.info().model_name

    def check_model(self, name: str | None) -> str:
        """The served name, if `name` is it or None. Raises `ApiError` (404)."""
        served = self.model_name()
        if name is not None and name != served:
            raise model_not_found(name, served)
        return served


def engine_counts(
    engine: EngineClient, queue: FrontQueue, transfers: TransferWatch
) -> dict[str, float]:
    """The workers' counts under the names of the metrics; what waits here waits too."""
    stats = engine.stats
    return {
        "num_requests_running": stats.num_requests_running,
        "num_requests_waiting": stats.num_requests_waiting + queue.num_waiting,
        "offload_ratio": transfers.offload_ratio(),
        "kv_cache_usage_perc": stats.kv_cache_usage_ratio,
        "num_kv_blocks": stats.num_kv_blocks,
        "worker_resident_memory_bytes": stats.resident_memory_bytes,
        "prefix_cache_queries": stats.prefix_cache_queries_tokens,
        "prefix_cache_hits": stats.prefix_cache_hits_tokens,
        "prompt_tokens": stats.prompt_tokens,
        "generation_tokens": stats.generation_tokens,
        "num_preemptions": stats.num_preemptions,
        "engine_steps": stats.num_steps,
        "context_early_starts": stats.context_early_starts,
        "context_rewinds": stats.context_rewinds,
        "context_overflows": stats.context_overflows,
        "context_turned_blocks": stats.context_turned_blocks,
        "context_recomputed": stats.context_recomputed,
        "spec_decode_num_drafts": stats.draft_rounds,
        "spec_decode_num_draft_tokens": stats.drafted_tokens,
        "spec_decode_num_accepted_tokens": stats.accepted_tokens,
        "attention_sparse_tokens": stats.attention_sparse_tokens,
        "attention_groups_read": stats.attention_groups_read,
        "attention_groups_visible": stats.attention_groups_visible,
        "attention_audits": stats.attention_audits,
        "attention_kept_weight": stats.attention_kept_weight,
        "attention_estimated_weight": stats.attention_estimated_weight,
        "skipping_tokens": stats.skipping_tokens,
        "worker_restarts": engine.num_restarts,
    }


def worker_counts(engine: EngineClient) -> list[WorkerCounts]:
    """The same for each worker."""
    return [
        WorkerCounts(
            worker=member.worker_id,
            role=member.role,
            generation=member.generation,
            is_up=member.state not in ("starting", "dead"),
            num_prefills=member.num_prefills,
            stats=member.stats,
        )
        for member in engine.status().members
    ]


async def _server_state(request: Request) -> ServerState:
    return cast(ServerState, request.app.state.server)


State = Annotated[ServerState, Depends(_server_state)]

"""Makes the front's queue from a server's settings."""

from artesian.api.auth import ApiKeys, cache_salt
from artesian.cluster.policies.slo_admission import Slo
from artesian.cluster.queue import FrontQueue
from artesian.cluster.workers import Workers
from artesian.config import EngineConfig, ServerConfig
from artesian.config.server import key_weights
from artesian.metrics.serving import ServingMetrics
from artesian.worker.client import EngineClient


def create_queue(
    engine_config: EngineConfig,
    config: ServerConfig,
    engine: EngineClient,
    metrics: ServingMetrics,
) -> FrontQueue:
    """The queue in front of all workers; keys are known by `cache_salt`."""
    weights = key_weights(config.api_key_weights)
    return FrontQueue(
        engine_config.max_queue_len,
        Slo(seconds(config.ttft_slo_ms), seconds(config.tpot_slo_ms)),
        metrics,
        Workers(engine.status, engine_config.max_num_seqs, engine_config.max_num_batched_tokens),
        weights={cache_salt(key.encode()): weight for key, weight in weights.items()},
        num_keys=max(1, len(ApiKeys(config.api_key))),
        max_queue_len_per_key=config.max_queue_len_per_key,
        timeout_s=config.request_timeout_s,
    )


def seconds(value_ms: float | None) -> float | None:
    """Milliseconds in seconds."""
    return None if value_ms is None else value_ms / 1e3

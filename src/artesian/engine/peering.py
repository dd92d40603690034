"""What makes an engine a peer: memory that others reach, and an executor beside it."""

from dataclasses import dataclass, replace

from artesian.engine.landings import Offload, OffloadRule, PrefillPlacement
from artesian.engine.offload import Exchange, ExchangeSize, ExecutorSettings, OffloadExecutor
from artesian.engine.peers import PeerMemory
from artesian.kvcache.landing import PeerArenas, RegionPad
from artesian.kvcache.region import RegionArena
from artesian.loader.native import NativeRunner
from artesian.models.base import ModelConfig
from artesian.ops.base import KvLayout

_GENERATION = 1
"""Of an executor: a worker's next process has another region."""


@dataclass(frozen=True, slots=True)
class PeerRules:
    """Policies of an engine with peers.

    Attributes:
        placement: which prompts peers compute; offload: which sequences stay with them.
        executor_share: of the time, for attention while the engine works; None: the usual one.
    """

    placement: PrefillPlacement
    offload: OffloadRule | None = None
    executor_share: float | None = None


def exchange_size(model: ModelConfig) -> ExchangeSize:
    """Mailboxes for a model's layers."""
    return ExchangeSize.of_heads(model.num_heads, model.num_kv_heads, model.head_dim)


def join_peers(
    arena: RegionArena,
    runner: NativeRunner,
    model: ModelConfig,
    layout: KvLayout,
    fingerprint: str,
    rules: PeerRules,
) -> PeerMemory:
    """Opens what peers use of this engine. `fingerprint`: of the arena.

    Raises:
        OffloadError: no executor can be started.
    """
    exchange = Exchange(arena.region, exchange_size(model), runner.program)
    settings = ExecutorSettings()
    if rules.executor_share is not None:
        settings = replace(settings, share=rules.executor_share)
    executor = OffloadExecutor(exchange, runner.runtime, arena.memory, _GENERATION, settings)
    arenas = PeerArenas(arena.memory, layout, fingerprint, runner.runtime.num_threads)
    offload = None if rules.offload is None else Offload(rules.offload, exchange)

    def close() -> None:
        executor.close()
        arena.close()

    return PeerMemory(
        RegionPad(arena), arenas.open_writer, rules.placement, offload, executor, close
    )

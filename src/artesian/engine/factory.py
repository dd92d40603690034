"""Puts an engine together: checkpoint, memory plan, arena, kernels."""

import logging
import time
from collections.abc import Callable
from functools import partial

from artesian.attention import SparseAttention
from artesian.config.engine import EngineConfig
from artesian.context import Compression, ContextCache, DiskTier, HostTier, PreloadRule, Tier
from artesian.context.cost_file import CostFile
from artesian.context.retention import Retention
from artesian.context.sessions import SessionKeeper, SessionRecords
from artesian.engine.approximation import SkipChoice
from artesian.engine.base import EngineInfo
from artesian.engine.engine import LLMEngine
from artesian.engine.peering import PeerRules, exchange_size, join_peers
from artesian.engine.skip_choice import open_skips
from artesian.engine.speculation import Speculator
from artesian.kvcache import Arena, KvIdentity, PrefixCache
from artesian.kvcache.memory_plan import MemoryPlan, plan_memory
from artesian.kvcache.region import RegionArena
from artesian.loader import Checkpoint, open_checkpoint
from artesian.loader.native import create_runner
from artesian.machine import memory_limit, num_usable_cpus
from artesian.ops.base import KvLayout
from artesian.ops.native import default_isa, default_kv_dtype, kv_block_bytes
from artesian.speculate import AdaptiveLength, Draft

_logger = logging.getLogger(__name__)
_MOST_SAVING_BYTES = 256 << 20
"""Blocks that wait to be saved are held in the arena: this much of it at most."""


def create_engine(
    config: EngineConfig,
    opener: Callable[[PrefixCache, EngineConfig], ContextCache | None] | None = None,
    rules: PeerRules | None = None,
) -> LLMEngine:
    """Loads `config.model` and plans memory. `opener` makes the context cache; see `open_context`.
    With `rules`, and memory that others reach, the engine has peers.

    Raises:
        CheckpointError: the model cannot be read.
        MemoryPlanError: it does not fit; the message says what to change.
    """
    phases = _Phases()
    checkpoint = open_checkpoint(config.model)
    tokenizer = checkpoint.tokenizer()
    phases.end("load")
    layout, plan = plan_kv(checkpoint, config)
    _logger.info("%s", plan)
    arena = _open_arena(config, plan, layout, checkpoint)
    phases.end("KV arena")
    runner = create_runner(checkpoint, arena.memory, layout, config)
    phases.end("pack weights")
    skips = open_skips(config, checkpoint.fingerprint())
    numerics = {"isa": runner.isa, "quantization": config.quantization or "none"}
    if config.context_cache_compression == "int8":
        numerics["disk"] = "int8"  # what came from there was rounded
    if layout.summaries != "none":
        numerics["summaries"] = layout.summaries  # they are part of a block
    identity = KvIdentity(checkpoint.fingerprint(), layout.dtype, config.block_size, extra=numerics)
    cache = PrefixCache(arena)
    context = (opener or partial(open_context, layout=layout))(cache, config)
    if context is not None and config.context_cache_dir is not None:
        machine = f"{identity} {config.num_threads or num_usable_cpus()} threads"
        context.keep_costs(CostFile(config.context_cache_dir, machine))
    sessions = open_sessions(cache, context, config)
    peers = None
    if isinstance(arena, RegionArena) and rules is not None:
        fingerprint = _fingerprint(config, layout, checkpoint)
        peers = join_peers(arena, runner, checkpoint.config, layout, fingerprint, rules)
    phases.end("context cache")
    info = EngineInfo(
        model_name=checkpoint.name,
        max_model_len=plan.max_model_len,
        vocab_size=checkpoint.config.vocab_size,
        description=f"{checkpoint.config.architecture}, KV in {layout.dtype}, {runner.isa} kernels",
        phases_ms=phases.times_ms,
        memory_plan_bytes=_memory_plan_bytes(plan),
    )
    return LLMEngine(
        runner,
        tokenizer,
        cache,
        identity,
        config,
        info,
        context=context,
        sessions=sessions,
        peers=peers,
        speculator=open_speculator(config, skips),
        skips=skips,
    )


def open_speculator(config: EngineConfig, skips: SkipChoice | None) -> Speculator | None:
    """What guesses tokens, if the settings ask for it.

    Raises:
        ValueError: guesses are to leave out more sublayers than `skips` knows.
    """
    if config.speculate == "off":
        return None
    attention, left_out = None, None
    if config.speculate != "skip":
        attention = SparseAttention(
            selector=config.speculate,
            budget_tokens=config.speculate_budget_tokens,
            min_context_tokens=2 * config.speculate_budget_tokens,
        )
    if config.speculate_skipped and skips is not None:
        if config.speculate_skipped > skips.most:
            raise ValueError(
                f"speculate_skipped is {config.speculate_skipped}: at most {skips.most} sublayers "
                "can be left out"
            )
        left_out = skips.choose(config.speculate_skipped)
    return Speculator(Draft(attention, left_out), AdaptiveLength(config.speculate_tokens))


def _open_arena(
    config: EngineConfig, plan: MemoryPlan, layout: KvLayout, checkpoint: Checkpoint
) -> Arena | RegionArena:
    """Memory for KV blocks: the process's own, or a region if the settings name one."""
    size = (plan.num_blocks, plan.block_bytes, layout.num_layers)
    if config.kv_region is None:
        return Arena(*size)
    return RegionArena(
        config.kv_region,
        *size,
        fingerprint=_fingerprint(config, layout, checkpoint),
        mailbox_bytes=exchange_size(checkpoint.config).num_bytes,
    )


def _fingerprint(config: EngineConfig, layout: KvLayout, checkpoint: Checkpoint) -> str:
    """Of all that the bytes of a block depend on, besides its tokens."""
    isa = config.isa or default_isa()
    return f"{checkpoint.fingerprint()} {layout} {isa} {config.quantization}"


def open_context(cache: PrefixCache, config: EngineConfig, layout: KvLayout) -> ContextCache | None:
    """The context cache in the pools and the directory that are set; None without any. `layout` is
    that of the blocks.

    Raises:
        OSError, ContextCacheError: one cannot be used; the message says why.
    """
    arena = cache.allocator
    most_saving_bytes = min(_MOST_SAVING_BYTES, arena.num_blocks * arena.block_bytes // 8)
    tiers: list[Tier] = []
    pools = (
        ("host", config.context_pool, config.context_pool_bytes),
        ("remote", config.context_remote_pool, config.context_remote_pool_bytes),
    )
    for label, address, num_bytes in pools:
        if address is not None:
            tiers.append(HostTier(address, num_bytes, arena, most_saving_bytes, label))
    if (directory := config.context_cache_dir) is not None:
        compression = _compression(config, layout)
        num_bytes = config.context_cache_bytes
        tiers.append(
            DiskTier(directory, num_bytes, arena, most_saving_bytes, compression=compression)
        )
    for tier in tiers:
        _logger.info(
            "context cache: the %s tier holds %d blocks of any model, %.0f of %.0f MiB",
            tier.label,
            len(tier.entries()),
            tier.used_bytes / 2**20,
            tier.capacity_bytes / 2**20,
        )
    if not tiers:
        return None
    retention = Retention(config.context_eviction, config.context_ttl_s, config.context_pin_share)
    return ContextCache(
        cache,
        tiers,
        config.block_size,
        write=config.context_cache_write,
        retention=retention,
        rule=PreloadRule(),
    )


def _compression(config: EngineConfig, layout: KvLayout) -> Compression | None:
    if config.context_cache_compression == "none":
        return None
    shape = (
        layout.num_layers,
        layout.num_kv_heads,
        layout.head_dim,
        layout.block_size_tokens,
        layout.dtype,
        layout.summaries,
    )
    return Compression(config.context_cache_compression, shape)


def open_sessions(
    cache: PrefixCache, context: ContextCache | None, config: EngineConfig
) -> SessionKeeper:
    """Sessions, kept in `config.context_cache_dir` if that is set. Raises `OSError`."""
    directory = config.context_cache_dir
    records = None if directory is None else SessionRecords(directory)
    return SessionKeeper(cache, context, records, config.session_ttl_s)


def plan_kv(checkpoint: Checkpoint, config: EngineConfig) -> tuple[KvLayout, MemoryPlan]:
    """The shape of the model's KV, and how much of it fits. Raises `MemoryPlanError`."""
    dtype = default_kv_dtype(config.isa)
    model = checkpoint.config
    layout = KvLayout(
        num_layers=model.num_layers,
        num_kv_heads=model.num_kv_heads,
        head_dim=model.head_dim,
        block_size_tokens=config.block_size,
        dtype=dtype if config.kv_cache_dtype == "auto" else config.kv_cache_dtype,
        summaries="cuboid" if config.has_summaries else "none",
    )
    weight_bytes = sum(checkpoint.tensor(name).data.nbytes for name in checkpoint.tensor_names())
    plan = plan_memory(
        memory_limit().bounded(config.memory_limit_bytes),
        weight_bytes,
        kv_block_bytes(layout),
        config.block_size,
        model.max_model_len,
        config.max_num_seqs,
        config.max_model_len,
        config.kv_cache_memory_bytes,
    )
    return layout, plan


def _memory_plan_bytes(plan: MemoryPlan) -> dict[str, int]:
    return {
        "limit": plan.limit.total_bytes,
        "weights": plan.weight_bytes,
        "kv_cache": plan.kv_bytes,
        "kv_block": plan.block_bytes,
    }


class _Phases:
    """Times of the phases of a start."""

    def __init__(self) -> None:
        self.times_ms: dict[str, float] = {}
        self._last = time.monotonic()

    def end(self, name: str) -> None:
        """Books the time since the last phase under `name`."""
        now = time.monotonic()
        self.times_ms[name] = (now - self._last) * 1e3
        self._last = now

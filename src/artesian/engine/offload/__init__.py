"""Attention of some sequences by the executor beside another worker's engine (Adrenaline).

The engine that decodes has an `Exchange`, by whose `connect` it reaches executors of peers; the
engine that lends its time and memory has an `OffloadExecutor`, to which it admits sequences.
"""

from artesian.engine.offload.base import (
    ExecutorStats,
    OffloadError,
    RemoteName,
    RemotePeer,
    RemoteRows,
    RemoteStats,
)
from artesian.engine.offload.exchange import Exchange, ExchangeSize
from artesian.engine.offload.executor import ExecutorSettings, OffloadExecutor

__all__ = [
    "Exchange",
    "ExchangeSize",
    "ExecutorSettings",
    "ExecutorStats",
    "OffloadError",
    "OffloadExecutor",
    "RemoteName",
    "RemotePeer",
    "RemoteRows",
    "RemoteStats",
]

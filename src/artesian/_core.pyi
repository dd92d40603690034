"""The Rust kernels. Only `artesian.ops.native` and thin wrappers import this module."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from types import NotImplementedType
from typing import Any, Literal, Self, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

T = TypeVar("T")
# Arrays are buffers, but typed as such only from Python 3.12 on.
Bytes: TypeAlias = Buffer | npt.NDArray[Any]

def available_isas() -> list[str]:
    """Names of the instruction sets this machine can run, weakest first."""

def dequantize(
    data: npt.NDArray[np.uint8], format_name: str, rows: int, cols: int
) -> npt.NDArray[np.float32]:
    """A GGUF tensor's bytes, uint8 (num_bytes,), as float32 (rows, cols).

    `format_name` is GGUF's name of the format, such as "Q4_K".

    Raises `ValueError` for an unknown format or sizes that do not fit.
    """

class InvalidLogitsError(ValueError):
    """No token can be chosen from some rows of logits: NaN, +inf, or -inf throughout."""

    rows: list[int]
    """Which rows; the message speaks of the first."""

def sample(
    logits: npt.NDArray[np.float32],
    temperature: npt.NDArray[np.float32],
    top_k: npt.NDArray[np.int32],
    top_p: npt.NDArray[np.float32],
    min_p: npt.NDArray[np.float32],
    seeds: npt.NDArray[np.uint64],
    steps: npt.NDArray[np.uint64],
) -> npt.NDArray[np.int32]:
    """One token, int32 (num_rows,), from each row of logits, float32 (num_rows, vocab_size).

    All other arrays are (num_rows,). Temperatures below 1e-5 take the best token. Filters apply in
    the order temperature, min_p, top_k (<= 0 keeps all), top_p; of equal logits the lower token is
    the better one. A row's token depends on the row, its parameters, its seed and its step alone.

    Raises `InvalidLogitsError`, and `ValueError` for a parameter out of range.
    """

def logprobs(
    logits: npt.NDArray[np.float32], chosen: npt.NDArray[np.int32], num_top: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Natural log probabilities for logits float32 (num_rows, vocab_size).

    Returns those of the `chosen` tokens, float32 (num_rows,), and the `num_top` best tokens, best
    first, int32 (num_rows, num_top), with theirs, float32 (num_rows, num_top). Where fewer tokens
    have a probability above zero, the rest is token -1 at -inf.

    Raises `InvalidLogitsError`, and `ValueError` for a token or count out of range.
    """

def penalize(
    logits_row: npt.NDArray[np.float32],
    prompt_ids: npt.NDArray[np.int32],
    output_ids: npt.NDArray[np.int32],
    repetition: float,
    presence: float,
    frequency: float,
    bias_ids: npt.NDArray[np.int32],
    bias_values: npt.NDArray[np.float32],
) -> None:
    """Adds biases to one row of logits, float32 (vocab_size,), then penalises, in place.

    `repetition` divides positive and multiplies other logits of tokens in prompt or output;
    `presence` is taken off once, `frequency` for each time, from tokens in the output.

    Raises `ValueError` for a token or parameter out of range; the row is then unchanged.
    """

class Runtime:
    """Kernel threads with an instruction set."""

    def __init__(self, num_threads: int, isa: str | None = None) -> None: ...
    @property
    def num_threads(self) -> int: ...
    @property
    def isa(self) -> str: ...
    def add_nice(self, more: int) -> bool:
        """Adds to the nice values of all these threads, the calling one included; whether the
        system agreed. Only privileged processes may take away."""

class Weight:
    """A packed (rows, cols) weight."""

    def __init__(
        self,
        runtime: Runtime,
        data: npt.NDArray[np.uint8],
        format_name: str,
        rows: int,
        cols: int,
        int8: bool = False,
    ) -> None: ...
    @property
    def rows(self) -> int: ...
    @property
    def cols(self) -> int: ...
    @property
    def num_bytes(self) -> int: ...

class KvLayout:
    """Shape of the KV of a model."""

    def __init__(
        self,
        num_layers: int,
        num_kv_heads: int,
        head_dim: int,
        block_size_tokens: int,
        dtype: str,
        summaries: str = "none",
    ) -> None: ...
    @property
    def block_bytes(self) -> int: ...

class ProgramBuilder:
    """Records a model's operations; values are numbers."""

    def __init__(self) -> None: ...
    def embed(self, table: Weight, factor: float) -> int: ...
    def rms_norm(
        self, x: int, weight: npt.NDArray[np.float32], eps: float, residual: int | None = None
    ) -> int: ...
    def linear(
        self,
        x: int,
        weights: list[Weight],
        bias: npt.NDArray[np.float32] | None = None,
        residual: int | None = None,
    ) -> int: ...
    def attention(
        self,
        qkv: int,
        layer: int,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        scale: float,
        window: int | None = None,
        softcap: float | None = None,
        norm_eps: float = 1e-6,
        inv_freq: npt.NDArray[np.float32] | None = None,
        interleaved: bool = False,
        magnitude: float = 1.0,
        q_norm: npt.NDArray[np.float32] | None = None,
        k_norm: npt.NDArray[np.float32] | None = None,
    ) -> int: ...
    def gated(self, x: int, activation: str) -> int: ...
    def add(self, x: int, y: int) -> int: ...
    def logit_rows(self, x: int) -> int: ...
    def softcap(self, x: int, cap: float) -> int: ...
    def build(self, runtime: Runtime, output: int, layout: KvLayout, max_rows: int) -> Program: ...

class Program:
    """A built forward pass."""

    @property
    def output_width(self) -> int: ...
    @property
    def max_rows(self) -> int: ...
    @property
    def num_sublayers(self) -> int: ...
    @property
    def report_shape(self) -> tuple[int, int, int]: ...
    def run(
        self,
        runtime: Runtime,
        tokens: npt.NDArray[np.int32],
        positions: npt.NDArray[np.int32],
        row_starts: npt.NDArray[np.int32],
        context_lens: npt.NDArray[np.int32],
        block_tables: npt.NDArray[np.int32],
        logit_rows: npt.NDArray[np.int32],
        arena: npt.NDArray[np.uint8],
        out: npt.NDArray[np.float32],
        gates: Sequence[tuple[int, LayerGate]] = (),
        timeout_s: float = 0.0,
        remotes: Sequence[tuple[RemoteAttention, npt.NDArray[np.uint32], float]] = (),
        pushes: Sequence[tuple[int, LandingWriter]] = (),
        skips: Sequence[tuple[int, Sequence[int], Sequence[float]]] = (),
        probe: npt.NDArray[np.float32] | None = None,
        sparse: Sequence[tuple[int, str, float, int, int, int, bool]] = (),
        report: npt.NDArray[np.float32] | None = None,
    ) -> list[int]: ...
    def turn(
        self,
        runtime: Runtime,
        arena: npt.NDArray[np.uint8],
        from_blocks: npt.NDArray[np.int32],
        to_blocks: npt.NDArray[np.int32],
        delta: int,
    ) -> None: ...
    def set_trace(self, is_on: bool) -> None: ...
    def take_trace(self) -> list[tuple[int, float, float, float]]: ...

class KvRegion:
    """A worker's memory that its peers can reach; see `artesian.kvcache.region`."""

    def __init__(
        self,
        name: str,
        num_blocks: int,
        block_bytes: int,
        fingerprint: str,
        generation: int = 0,
        num_landings: int = 0,
        mailbox_bytes: int = 0,
    ) -> None: ...
    @staticmethod
    def remove(name: str) -> bool: ...
    @staticmethod
    def names() -> list[str]: ...
    @property
    def name(self) -> str: ...
    @property
    def generation(self) -> int: ...
    @property
    def memory(self) -> npt.NDArray[np.uint8]: ...
    def back(self, start: int, end: int) -> bool: ...
    def close(self) -> None: ...

class LandingPad:
    """The landings in a region, for its owner; see `artesian.kvcache.landing.RegionPad`."""

    def __init__(self, region: KvRegion) -> None: ...
    def open(self) -> tuple[int, int] | None: ...
    def revoke(self, slot: int) -> bool: ...
    def release(self, slot: int) -> None: ...
    def state(
        self, slot: int
    ) -> Literal["free", "open", "writing", "complete", "failed", "quarantined", "revoked"]: ...
    def is_quiet(self, slot: int) -> bool: ...
    def progress(self, slot: int) -> tuple[int, int, int]: ...
    def idle_s(self, slot: int) -> float: ...
    @property
    def num_lent(self) -> int: ...

class LandingWriter:
    """Writes KV into a peer's arena; see `artesian.kvcache.landing.RegionWriter`."""

    def __init__(
        self,
        region_name: str,
        fingerprint: str,
        slot: int,
        generation: int,
        first_block: int,
        blocks: list[int],
        layout: KvLayout,
        arena: npt.NDArray[np.uint8],
        num_threads: int,
    ) -> None: ...
    @property
    def num_bytes(self) -> int: ...
    @property
    def is_open(self) -> bool: ...
    def push_blocks(self, blocks: list[int], first: int) -> bool: ...
    def complete(self) -> bool: ...
    def close(self) -> None: ...

class Exchange:
    """The mailboxes of a worker's region."""

    def __init__(
        self,
        region: KvRegion,
        num_clients: int,
        num_links: int,
        max_rows: int,
        qkv_width: int,
        out_width: int,
    ) -> None: ...
    @staticmethod
    def num_bytes(
        num_clients: int, num_links: int, max_rows: int, qkv_width: int, out_width: int
    ) -> int:
        """Bytes of mailboxes that such an exchange needs."""

    def connect(
        self,
        program: Program,
        peer: str,
        generation: int = 0,
        timeout_s: float = 1.0,
        spin_s: float = 50e-6,
        yield_s: float = 0.0,
    ) -> RemoteAttention:
        """Connects with the executor that serves in the region called `peer`.

        Raises `RuntimeError` for one that is gone, full, silent or another, `ValueError` for one
        of another model, `OSError` when the region cannot be opened.
        """

class RemoteAttention:
    """A connection to a peer's executor."""

    @property
    def is_broken(self) -> bool: ...
    @property
    def is_alive(self) -> bool: ...
    @property
    def max_rows(self) -> int: ...
    def reconnect(self, timeout_s: float) -> None: ...
    def stats(self) -> dict[str, int]: ...

class AttentionExecutor:
    """Threads that attend for peers over the arena of this process."""

    def __init__(
        self,
        exchange: Exchange,
        runtime: Runtime,
        program: Program,
        arena: npt.NDArray[np.uint8],
        generation: int,
        num_slots: int,
        num_threads: int = 1,
        share: float = 1.0,
        spin_s: float = 10e-6,
        yield_s: float = 0.0,
        nice: int | None = None,
        slice_s: float = 0.0,
    ) -> None: ...
    def admit(self, blocks: Sequence[int], num_tokens: int) -> tuple[int, int]: ...
    def extend(self, slot: int, generation: int, blocks: Sequence[int]) -> None: ...
    def release(self, slot: int, generation: int) -> bool: ...
    def num_tokens(self, slot: int, generation: int) -> int | None: ...
    def set_share(self, share: float) -> None: ...
    @property
    def is_alive(self) -> bool: ...
    def stats(self) -> dict[str, int]: ...
    def close(self) -> None: ...

class PoolHandle:
    """One client of a pool of shared memory; see `artesian.pool.Pool`."""

    def __new__(
        cls,
        name: str,
        *,
        size_bytes: int | None = None,
        nodes: int | None = None,
        replicas: int | None = None,
        lease_ms: int | None = None,
        max_clients: int | None = None,
        create: bool | None = None,
    ) -> PoolHandle: ...
    @property
    def created(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    def close(self) -> None: ...
    def drop_namespace(self, name: str) -> None: ...

class Store:
    """Keys and values of a namespace; see `artesian.pool.HashStore`."""

    def __new__(
        cls,
        handle: PoolHandle,
        name: str,
        *,
        quota_bytes: int | None = None,
        ttl: float | None = None,
    ) -> Self: ...
    def is_busy(self) -> bool:
        """Whether an operation would have to wait for another thread's."""
    @overload
    def get(self, key: bytes | str) -> bytes | None: ...
    @overload
    def get(self, key: bytes | str, default: T) -> bytes | T:
        """The value of `key`, or `default`."""
    @overload
    def get_now(self, key: bytes | str) -> bytes | NotImplementedType | None: ...
    @overload
    def get_now(self, key: bytes | str, default: T) -> bytes | NotImplementedType | T:
        """As `get`, but `NotImplemented` if that would take longer than a few microseconds.

        It does if the value is large, or another thread's operation is under way.
        """
    def get_into(self, key: bytes | str, buffer: Bytes) -> int | None:
        """Copies the value of `key` to the start of a writable buffer.

        Returns its bytes, or None if there is none. Raises `ValueError` if the buffer is too small.
        """
    def get_range(self, key: bytes | str, offset: int, length: int) -> bytes | None:
        """Up to `length` bytes of the value of `key` from byte `offset` on; None if it has none."""
    def size(self, key: bytes | str) -> int | None:
        """Bytes of the value of `key`; None if it has none."""
    def get_versioned(self, key: bytes | str) -> tuple[bytes, int] | None:
        """The value of `key` and the name of its present state; None if it has none.

        A state's name never comes again, whatever becomes of the key.
        """
    def put(self, key: bytes | str, value: Bytes, *, ttl: float | None = None) -> None:
        """Gives `key` this value, whatever it had.

        It is gone after `ttl` seconds; after those of the namespace if None, never if infinite.
        """
    def insert(self, key: bytes | str, value: Bytes, *, ttl: float | None = None) -> bool:
        """Gives `key` this value if it has none; whether it did."""
    def update(self, key: bytes | str, value: Bytes, *, ttl: float | None = None) -> bool:
        """Gives `key` this value if it has one; whether it did."""
    def delete(self, key: bytes | str) -> bool:
        """Takes the value of `key` away; whether there was one."""
    def compare_and_set(
        self,
        key: bytes | str,
        expected: int | None,
        value: Bytes,
        *,
        ttl: float | None = None,
    ) -> int | None:
        """Gives `key` this value if it is in the state named `expected` (None: has no value).

        Returns the name of the new state, or None if it was in another one.
        """
    def compare_and_delete(self, key: bytes | str, expected: int) -> bool:
        """Takes the value of `key` away if it is in the state named `expected`; whether it was."""
    def increment(self, key: bytes | str, by: int = 1) -> int:
        """Adds to the value of `key`, a signed integer of 8 bytes, little-endian; the sum.

        A key without value counts as 0; one that has a value keeps its time to live. Raises
        `PoolUsageError` if the value is no integer, or the sum does not fit.
        """
    def append(self, key: bytes | str, value: Bytes) -> int:
        """Puts bytes behind the value of `key`; how long it is then."""
    def ttl(self, key: bytes | str) -> float | None:
        """Seconds until the value of `key` expires; None if it never does or there is none."""
    def expire(self, key: bytes | str, ttl: float) -> bool:
        """Lets the value of `key` expire after `ttl` seconds; whether there is one.

        The value stays as it is, but its state gets another name. Never if `ttl` is infinite.
        """
    def persist(self, key: bytes | str) -> bool:
        """Lets the value of `key` never expire; whether there is one."""
    def scan(self, cursor: int, limit: int) -> tuple[list[bytes], int]:
        """Some keys, `limit` or somewhat more, and the cursor to go on with.

        Begin with cursor 0, which is also what the last call returns.
        """
    def count(self) -> int:
        """How many keys there are: exactly if they are few, an estimate if they are many."""
    def clear(self) -> int:
        """Deletes all keys; how many there were. Keys that others write meanwhile may stay."""
    def used_bytes(self) -> int:
        """Bytes of the objects in one copy, as far as the clients have told."""
    def get_many(self, keys: Iterable[bytes | str]) -> list[bytes | None]:
        """The values of many keys, in their order; None for those that have none.

        Much faster than one by one. Each value is whole, but not all are of the same moment. If
        something goes wrong with some keys, the others are still read, then the first error is
        raised.
        """
    def put_many(
        self,
        items: Mapping[bytes, Bytes] | Mapping[str, Bytes] | Iterable[tuple[bytes | str, Bytes]],
        *,
        ttl: float | None = None,
    ) -> None:
        """Gives many keys their values, whatever they had; much faster than one by one.

        Others may see some before the rest. If a key comes more than once, its last value stays. If
        something goes wrong with some keys, the others still get their values, then the first error
        is raised; but nothing is written if an item is no key and value. `ttl` as in `put`.
        """
    def delete_many(self, keys: Iterable[bytes | str]) -> list[bool]:
        """Takes the values of many keys away; for each, in order, whether there was one.

        If something goes wrong with some keys, the others are still deleted, then the first error
        is raised.
        """
    def get_view(self, key: bytes | str) -> memoryview | None:
        """The value of `key` where it lies in the pool, not copied; None if it has none.

        The view is read-only, and its bytes stay as they are however the key changes, until it is
        released or nobody has it any more. Memory that is seen is not reused, and the pool cannot
        be closed by its user meanwhile: do not keep views without need. A value of more than 16 KiB
        lies in pieces and is copied after all if these are several; so is one if this client has
        too many views already.
        """
    def __contains__(self, key: bytes | str) -> bool: ...

class Tree:
    """Keys of a namespace in order, and their values; see `artesian.pool.TreeStore`."""

    def __new__(cls, handle: PoolHandle, name: str, *, quota_bytes: int | None = None) -> Self: ...
    def is_busy(self) -> bool:
        """Whether an operation would have to wait for another thread's."""
    @overload
    def get(self, key: bytes | str) -> bytes | None: ...
    @overload
    def get(self, key: bytes | str, default: T) -> bytes | T:
        """The value of `key`, or `default`."""
    def put(self, key: bytes | str, value: Bytes) -> None:
        """Gives `key` this value, whatever it had."""
    def insert(self, key: bytes | str, value: Bytes) -> bool:
        """Gives `key` this value if it has none; whether it did."""
    def delete(self, key: bytes | str) -> bool:
        """Takes the value of `key` away; whether there was one."""
    def rows(
        self,
        start: bytes | str | None,
        stop: bytes | str | None,
        *,
        limit: int,
        reverse: bool = False,
        open_start: bool = False,
    ) -> list[tuple[bytes, bytes]]:
        """Keys from `start` on and below `stop` with their values, at most `limit`.

        With `reverse` those nearest to `stop`, the last first; `open_start` leaves `start` out.
        """
    def used_bytes(self) -> int:
        """Bytes of nodes and values in one copy, as far as the clients have told."""
    def __contains__(self, key: bytes | str) -> bool: ...

class Cache:
    """Keys and values of a namespace that evicts; see `artesian.pool.Cache`."""

    def __new__(
        cls,
        handle: PoolHandle,
        name: str,
        *,
        max_bytes: int,
        max_keys: int,
        algorithms: list[str],
        adaptive: bool,
        sample: int,
        history: int,
        ttl: float | None = None,
    ) -> Self: ...
    def is_busy(self) -> bool:
        """Whether an operation would have to wait for another thread's."""
    @overload
    def get(self, key: bytes | str) -> bytes | None: ...
    @overload
    def get(self, key: bytes | str, default: T) -> bytes | T:
        """The value of `key`, or `default`. Counts as a use of it."""
    def put(self, key: bytes | str, value: Bytes, *, ttl: float | None = None) -> None:
        """Gives `key` this value, whatever it had. If there is no room, something else goes.

        It is gone after `ttl` seconds; after those of the namespace if None, never if infinite.
        """
    def delete(self, key: bytes | str) -> bool:
        """Takes the value of `key` away; whether there was one."""
    def touch(self, key: bytes | str) -> bool:
        """Counts a use of `key` without reading its value; whether it has one."""
    def counts(self) -> dict[str, Any]:
        """The fields of `artesian.pool.CacheStats`."""
    def __contains__(self, key: bytes | str) -> bool: ...

class Transaction:
    """Reads and writes that happen together; see `artesian.pool.Transaction`."""

    def __new__(cls, handle: PoolHandle) -> Self: ...
    @overload
    def get(self, store: Store, key: bytes | str) -> bytes | None: ...
    @overload
    def get(self, store: Store, key: bytes | str, default: T) -> bytes | T:
        """The value of `key` in `store`, or `default`; sees this transaction's own writes."""
    def put(
        self, store: Store, key: bytes | str, value: Bytes, *, ttl: float | None = None
    ) -> None:
        """`key` has this value in `store` once the transaction is committed."""
    def delete(self, store: Store, key: bytes | str) -> None:
        """`key` has no value in `store` once the transaction is committed."""
    def commit(self) -> None:
        """Makes all writes visible at once.

        Raises `ConflictError` if others changed what was read or is to be written: nothing has
        happened then.
        """
    def abort(self) -> None:
        """Forgets everything."""
    @property
    def is_over(self) -> bool: ...

def save_pool(handle: PoolHandle, path: str, frozen: bool) -> dict[str, Any]:
    """Saves all stores of the pool to a file: the fields of `artesian.pool.Snapshot`."""

def load_pool(handle: PoolHandle, path: str) -> dict[str, Any]:
    """Restores a file into the pool: the fields of `artesian.pool.Snapshot`."""

def verify_snapshot(path: str) -> dict[str, Any]:
    """Reads a whole file and checks everything in it: the fields of `artesian.pool.Snapshot`."""

def add_node(
    handle: PoolHandle, number: int | None, told: Callable[[int, int], object] | None
) -> dict[str, int]:
    """Makes a memory node and gives it its share; see `artesian.pool.Pool.add_node`."""

def drain_node(
    handle: PoolHandle, number: int, told: Callable[[int, int], object] | None
) -> dict[str, int]:
    """Moves everything off a memory node; see `artesian.pool.Pool.drain_node`."""

def check_pool(handle: PoolHandle, repair: bool) -> dict[str, Any]:
    """Checks a pool: the fields of `artesian.pool.CheckReport`."""

def list_pools() -> list[str]:
    """Names of this user's pools on this host, sorted."""

def remove_pool(name: str) -> int:
    """Removes a pool with all that is in it; how many nodes it had."""

def look_at_pool(name: str) -> dict[str, Any]:
    """What can be seen of a pool without joining it: the fields of `artesian.pool.PoolStats`."""

class LayerGate:
    """How far a group of blocks has come."""

    @property
    def ready_bytes(self) -> int: ...
    @property
    def is_open(self) -> bool: ...
    @property
    def is_complete(self) -> bool: ...
    @property
    def elapsed_s(self) -> float: ...
    def wait(self, num_bytes: int, timeout_s: float) -> bool: ...

def try_codec(
    name: str, shape: tuple[int, int, int, int, str, str], block: npt.NDArray[np.uint8]
) -> tuple[int, npt.NDArray[np.uint8], float, float]:
    """Bytes of the shorter form, the block as it comes back, seconds there and back."""

class BlockMover:
    """Moves KV blocks between an arena and a store; `artesian.context` wraps it."""

    def __init__(
        self,
        path: PathLike[str],
        capacity_bytes: int,
        segment_bytes: int,
        layer_bytes: int,
        memory: npt.NDArray[np.uint8],
        num_threads: int,
        most_saving_bytes: int,
        bytes_per_s: float | None = None,
        compression: tuple[str, tuple[int, int, int, int, str, str]] | None = None,
    ) -> None: ...
    @staticmethod
    def in_pool(
        name: str,
        capacity_bytes: int,
        memory: npt.NDArray[np.uint8],
        num_threads: int,
        most_saving_bytes: int,
    ) -> BlockMover: ...
    @property
    def capacity_bytes(self) -> int: ...
    @property
    def used_bytes(self) -> int: ...
    @property
    def num_blocks(self) -> int: ...
    @property
    def num_open(self) -> int: ...
    def find(self, keys: Sequence[bytes]) -> int: ...
    def save(self, key: bytes, offset: int, num_bytes: int) -> int | None: ...
    def copy(self, key: bytes, num_bytes: int, source: BlockMover) -> int | None: ...
    def load(
        self, blocks: Sequence[tuple[bytes, int]], num_bytes: int, stage_bytes: int
    ) -> tuple[list[int], LayerGate]: ...
    def cancel(self, gate: LayerGate) -> None: ...
    def set_trace(self, is_on: bool) -> None: ...
    def take_trace(self) -> list[tuple[bool, int, int, float, float]]: ...
    def remove(self, key: bytes) -> int: ...
    def poll(self) -> list[tuple[int, str, float]]: ...
    def wait(self, timeout_s: float) -> bool: ...
    def entries(self) -> list[tuple[bytes, int, int]]: ...
    def take_error(self) -> str | None: ...

class AccessStreamTree:
    """The tree of access streams; see `artesian.files.tree`."""

    def __init__(self, **options: float) -> None: ...
    def access(
        self,
        path: str,
        offset: int,
        length: int,
        file_bytes: int,
        stream: int,
        reader: int,
        time_s: float,
    ) -> tuple[int, bool]: ...
    def list(self, folder: str, names: Sequence[str]) -> None: ...
    def unit_of(self, path: str) -> int: ...
    def take_changes(self) -> Sequence[tuple[int, str, str]]: ...
    def unit(
        self, unit: int
    ) -> tuple[float, float, float, int, int, float, int, float, int, bool] | None: ...
    def explain(
        self, path: str
    ) -> Sequence[tuple[str, str, str, bool, bool, dict[str, float]]]: ...
    def remember(self) -> Sequence[tuple[str, str, bool]]: ...
    def recall(self, verdicts: Sequence[tuple[str, str, bool]]) -> None: ...
    def was_reread(self, path: str) -> bool: ...
    def size(self) -> tuple[int, int, int]: ...

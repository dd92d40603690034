"""The mailboxes of a worker's region, and connections to executors of peers."""

from typing import NamedTuple

from artesian import _core
from artesian.engine.offload.base import OffloadError
from artesian.engine.offload.remote import RemoteExecutor


class ExchangeSize(NamedTuple):
    """Boxes of an exchange; peers may have different ones.

    Attributes:
        num_clients: peers that the own executor can have.
        num_links: executors that the own engine can be connected to.
        max_rows: sequences of a step that one executor attends for, 256 at most.
        qkv_width, out_width: floats of a row of queries, keys and values, and of an output row.
    """

    num_clients: int
    num_links: int
    max_rows: int
    qkv_width: int
    out_width: int

    @classmethod
    def of_heads(
        cls,
        num_heads: int,
        num_kv_heads: int,
        head_dim: int,
        *,
        num_clients: int = 8,
        num_links: int = 8,
        max_rows: int = 256,
    ) -> "ExchangeSize":
        """For a model whose layers have so many heads."""
        qkv_width = (num_heads + 2 * num_kv_heads) * head_dim
        return cls(num_clients, num_links, max_rows, qkv_width, num_heads * head_dim)

    @property
    def num_bytes(self) -> int:
        """Bytes of mailboxes that it takes in a region. Raises `ValueError` for what cannot be."""
        return _core.Exchange.num_bytes(*self)


class Exchange:
    """The mailboxes of the own region.

    Args:
        region: of this process, with mailboxes of `size.num_bytes`.
        size: its boxes.
        program: of the own engine.
    """

    def __init__(self, region: _core.KvRegion, size: ExchangeSize, program: _core.Program) -> None:
        self.native = _core.Exchange(region, *size)
        self.program = program

    def connect(self, region: str, generation: int = 0, timeout_s: float = 1.0) -> RemoteExecutor:
        """Connects with the executor in a peer's region.

        Args:
            region: its name.
            generation: of the executor; 0 takes any.
            timeout_s: to wait for its answer.

        Raises:
            OffloadError: there is none, it is another one, of another model, full or silent.
        """
        try:
            native = self.native.connect(self.program, region, generation, timeout_s)
        except (RuntimeError, OSError, ValueError) as error:
            raise OffloadError(f"cannot use the executor in {region}: {error}") from None
        return RemoteExecutor(native)

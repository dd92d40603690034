"""KV blocks in memory that other workers of this host can reach."""

import os
from concurrent.futures import ThreadPoolExecutor

from artesian import _core
from artesian.kvcache.lending import BlockLender

_AHEAD_BYTES = 64 << 20
"""Memory behind the blocks in use that has huge pages before it is used."""
_NICENESS = 19


class RegionArena(BlockLender):
    """A `BlockAllocator` over a region: shared memory that peers find by name, and write to where
    they were lent blocks (see `artesian.kvcache.landing`).

    Args:
        name: letters, digits, - and _, at most 61; unique among this user's regions of this host.
        num_blocks, block_bytes, num_layers: as of `Arena`; block_bytes is a multiple of 64.
        fingerprint: names all that the blocks' bytes depend on, such as `str(KvIdentity)`. Peers
            with another one are refused.
        generation: which of the worker's lives this is.
        num_landings: landings that can be open at once.
        mailbox_bytes: shared memory beside the blocks, for messages.

    Raises:
        ValueError: impossible sizes.
        OSError: no room, or a region of that name exists: `remove_region` if its owner has died.
    """

    def __init__(
        self,
        name: str,
        num_blocks: int,
        block_bytes: int,
        num_layers: int = 1,
        *,
        fingerprint: str,
        generation: int = 0,
        num_landings: int = 256,
        mailbox_bytes: int = 0,
    ) -> None:
        super().__init__(num_blocks, block_bytes, num_layers)
        self.region = _core.KvRegion(
            name,
            num_blocks,
            block_bytes,
            fingerprint,
            generation,
            num_landings=num_landings,
            mailbox_bytes=mailbox_bytes,
        )
        self.memory = self.region.memory
        self._backed_bytes = 0
        self._backing = ThreadPoolExecutor(1, "artesian-back", _be_nice)
        self._back_ahead(0)

    def allocate(self) -> int:
        """The number of a free block; its bytes are arbitrary. Raises `OutOfBlocksError`."""
        block = super().allocate()
        self._back_ahead((block + 1) * self.block_bytes)
        return block

    def _back_ahead(self, used_bytes: int) -> None:
        """Has memory that will be used get huge pages meanwhile: attention over many small ones
        waits for page tables."""
        if used_bytes + _AHEAD_BYTES // 2 > self._backed_bytes < self.memory.size:
            start, self._backed_bytes = self._backed_bytes, used_bytes + _AHEAD_BYTES
            self._backing.submit(self.region.back, start, self._backed_bytes)

    @property
    def name(self) -> str:
        """By which peers find the region."""
        return self.region.name

    def close(self) -> None:
        """Takes the memory away from peers. What was lent stays usable in this process."""
        self._backing.shutdown(cancel_futures=True)
        self.region.close()


def _be_nice() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, _NICENESS)  # of this thread alone, on Linux


def remove_region(name: str) -> bool:
    """Removes the region of an owner that has died; whether there was one. Raises `OSError`."""
    return _core.KvRegion.remove(name)


def region_names() -> list[str]:
    """Names of this user's regions on this host, those of dead owners too. Raises `OSError`."""
    return _core.KvRegion.names()

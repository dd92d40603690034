"""Which processes use a store, and which of them are dead."""

import os
from pathlib import Path

from artesian.files.flight import ByteLocks
from artesian.files.index import Index


class Members:
    """Numbers of processes. Each holds a lock, which the system takes from the dead."""

    def __init__(self, path: Path, index: Index) -> None:
        self._locks = ByteLocks(path)
        with index.transaction() as db:
            row = db.execute("SELECT value FROM meta WHERE key = 'owners'").fetchone()
            self.number = 1 + (row[0] if row else 0)
            db.execute("INSERT OR REPLACE INTO meta VALUES ('owners', ?)", (self.number,))
            # Within the transaction, so that nobody sees the number without its lock.
            self._locks.acquire(self.number)
        self.pid = os.getpid()

    def is_dead(self, number: int) -> bool:
        """Whether the process of that number is gone."""
        return number != self.number and self._locks.is_free(number)

    def close(self) -> None:
        """This process is no member any more."""
        self._locks.close()

"""The stores that this process has open: one for each way of using a directory."""

import atexit
import os
import threading

from artesian.files.config import StoreConfig
from artesian.files.store import FileStore

_lock = threading.Lock()
_stores: dict[StoreConfig, FileStore] = {}
_parents: list[FileStore] = []


def open_store(config: StoreConfig) -> FileStore:
    """The store of this process; a forked child has one of its own."""
    store = _stores.get(config)
    if store is not None:
        return store
    with _lock:
        store = _stores.get(config)
        if store is None:
            store = _stores[config] = FileStore(config)
        return store


def close_all() -> None:
    """Leaves all stores."""
    with _lock:
        while _stores:
            _stores.popitem()[1].close()


def _begin_again() -> None:
    """In a forked child: nothing that the parent has open can be used, or be closed either."""
    global _lock
    _lock = threading.Lock()
    for store in _stores.values():
        store.abandon()
        _parents.append(store)
    _stores.clear()


os.register_at_fork(after_in_child=_begin_again)
atexit.register(close_all)

"""What can go wrong with a pool: each class says what its caller can do about it.

Every message names what was wrong, with which value, and what to do. A wrong type is a
`TypeError`, as everywhere in Python.
"""


class PoolError(Exception):
    """Base of all errors of the pool. Numbers of an error are its attributes, by name."""

    def __init__(self, message: str = "", **numbers: object) -> None:
        super().__init__(message)
        self.__dict__.update(numbers)


class PoolUsageError(PoolError, ValueError):
    """An argument that cannot be used."""


class PoolNotFoundError(PoolError, LookupError):
    """There is no pool of that name, and it was not to be created."""


class PoolExistsError(PoolError):
    """There is a pool of that name, and it was to be created."""


class PoolMismatchError(PoolError, ValueError):
    """The pool exists with other numbers (size, nodes, ...) than were asked for."""


class PoolClosedError(PoolError):
    """The pool was closed by this process: open it again."""


class PoolForkedError(PoolError):
    """The pool was opened before a fork: open it again in the child."""


class PoolSystemError(PoolError, OSError):
    """The operating system refused, for example because `/dev/shm` is full."""

    def __init__(self, message: str = "", **numbers: object) -> None:
        super().__init__(message, **numbers)
        self.strerror = message
        self.filename = None

    def __str__(self) -> str:
        return str(self.strerror)


class PoolFullError(PoolError, MemoryError):
    """No room for `size_bytes` bytes, and nothing left to reclaim."""

    size_bytes: int


class QuotaExceededError(PoolError):
    """The namespace would exceed its quota."""

    namespace: str
    used_bytes: int
    quota_bytes: int


class TooLargeError(PoolError, ValueError):
    """Base of the next two: `size_bytes` is over `limit_bytes`."""

    size_bytes: int
    limit_bytes: int


class KeyTooLargeError(TooLargeError):
    """A key with more bytes than keys can have."""


class ValueTooLargeError(TooLargeError):
    """A value with more bytes than values can have."""


class DataLostError(PoolError):
    """The data cannot be had: its memory nodes are lost, or its bytes do not verify."""


class CorruptPoolError(PoolError):
    """Bytes in the pool break an invariant; `artesian pool check` tells more."""


class ConflictError(PoolError):
    """A transaction met another one on the same keys and was rolled back: try again."""


class FencedError(PoolError):
    """This client was declared dead, because it did not answer: open the pool again."""


class PoolTimeoutError(PoolError, TimeoutError):
    """Others held what was needed for longer than `waited_ms` milliseconds."""

    waited_ms: int

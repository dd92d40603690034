"""Bytes that are put together from pieces, each copied once."""

import io
from types import TracebackType
from typing import Self


class Assembly:
    """Memory to fill, which becomes a `bytes` object as it is.

    Joining pieces would copy each a second time, in fresh memory; for reads of many blocks that is
    half of the time. `BytesIO` takes and gives `bytes` without copying if nobody else has them.
    """

    def __init__(self, num_bytes: int) -> None:
        # Nobody else has these zeros, so they are filled in and given away as they are.
        self._io = io.BytesIO(bytes(num_bytes))
        self.view = self._io.getbuffer()

    def take(self) -> bytes:
        """The bytes; nothing can be filled in any more. Parts of `view` have to be released."""
        self.view.release()
        return self._io.getvalue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.view.release()

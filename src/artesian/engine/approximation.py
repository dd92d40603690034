"""How requests are computed other than exactly, if they are."""

from collections.abc import Callable
from dataclasses import dataclass

from artesian.attention import SparseAttention, configured_attention
from artesian.config.engine import EngineConfig
from artesian.engine.base import InvalidRequestError, Request
from artesian.kvcache.kind import KvKind
from artesian.skip import OnlineExtension, SkipSet


@dataclass(frozen=True, slots=True)
class Approximation:
    """What the sequences of a request leave out.

    Attributes:
        attention: how generated tokens attend; None: to everything.
        skip: sublayers that are left out, of the prompt too; None: nothing is.
        num_watched: generated tokens behind which more are left out; 0: the set stays.
    """

    attention: SparseAttention | None = None
    skip: SkipSet | None = None
    num_watched: int = 0

    @property
    def kind(self) -> KvKind:
        """Of the KV that comes from it."""
        return KvKind(
            skip="" if self.skip is None else self.skip.identity,
            attention="" if self.attention is None else self.attention.identity,
        )


NOTHING_LEFT_OUT = Approximation()


@dataclass(frozen=True, slots=True)
class SkipChoice:
    """The sublayers that an engine may leave out.

    Attributes:
        most: how many at most; default: how many where a request does not say.
        choose: the set of so many.
        extend: makes what watches a request's first generated tokens to leave out more behind
            them; None: nothing does. num_watched: these tokens. num_sublayers: of the model.
    """

    most: int
    default: int
    choose: Callable[[int], SkipSet]
    extend: Callable[[SkipSet], OnlineExtension] | None = None
    num_watched: int = 0
    num_sublayers: int = 0


class Approximations:
    """Turns what requests ask for into what is left out for them."""

    def __init__(self, config: EngineConfig, skips: SkipChoice | None = None) -> None:
        self._configured = configured_attention(config)
        self._has_summaries = config.has_summaries
        self._skips = skips

    def of(self, request: Request) -> Approximation:
        """What the request leaves out. Raises `InvalidRequestError` for what cannot be had here."""
        attention, skip = self._attention(request), self._skip(request)
        if attention is None and skip is None:
            return NOTHING_LEFT_OUT
        watches = skip is not None and self._skips is not None and self._skips.extend is not None
        num_watched = self._skips.num_watched if watches and self._skips is not None else 0
        return Approximation(attention, skip, num_watched)

    def _attention(self, request: Request) -> SparseAttention | None:
        asked = self._configured if request.attention is None else request.attention
        if asked.is_exact:
            return None
        if not self._has_summaries:
            raise InvalidRequestError(
                f"attention {asked.selector} needs a server that keeps summaries of keys: start it "
                "with attention progressive, or with attention_summaries"
            )
        return asked

    def _skip(self, request: Request) -> SkipSet | None:
        num_skipped = request.num_skipped
        if self._skips is None:
            if num_skipped:
                raise InvalidRequestError(
                    f"num_skipped is {num_skipped}, but nothing is known about this model's "
                    "sublayers: start the server with skip and the file of artesian calibrate"
                )
            return None
        if num_skipped is None:
            num_skipped = self._skips.default
        if num_skipped > self._skips.most:
            raise InvalidRequestError(
                f"num_skipped must be 0 to {self._skips.most}, the sublayers that may be left out, "
                f"got {num_skipped}"
            )
        return self._skips.choose(num_skipped) if num_skipped else None

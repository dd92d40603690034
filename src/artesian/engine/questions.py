"""What an engine can be asked beside its requests, and its answers."""

import msgspec


class ListSessions(msgspec.Struct, frozen=True, tag=True):
    """Sessions of the requests with this salt, `limit` at most; answered by `Sessions`."""

    cache_salt: str
    limit: int


class ShowSession(msgspec.Struct, frozen=True, tag=True):
    """One session; answered by `Sessions` with one or none."""

    cache_salt: str
    session_id: str


class DeleteSession(msgspec.Struct, frozen=True, tag=True):
    """Takes a session's blocks away; answered by `Deleted` when that has begun."""

    cache_salt: str
    session_id: str


class ResumeSession(msgspec.Struct, frozen=True, tag=True):
    """Brings a session's blocks into memory before its next request; answered by `Resumed`."""

    cache_salt: str
    session_id: str


class PinSession(msgspec.Struct, frozen=True, tag=True):
    """All blocks of a session stay for so long, or go like others again after 0 seconds; answered
    by `Sessions` with the session, or none."""

    cache_salt: str
    session_id: str
    seconds: float


class ExplainPrompt(msgspec.Struct, frozen=True, tag=True):
    """Where the blocks of a prompt are, and why the first missing one is; see `Explanation`."""

    cache_salt: str
    prompt_token_ids: list[int]


class SessionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A session.

    Attributes:
        num_tokens: of its longest prompt with the answer.
        num_in_memory, num_in_tier: blocks in the engine's memory, and in each tier.
        num_pinned_in_tier: blocks that stay in each tier until `pinned_until_s`.
        created_s, used_s, pinned_until_s: Unix times; 0 when nothing is pinned.
    """

    session_id: str
    num_tokens: int
    num_blocks: int
    num_in_memory: int
    num_in_tier: dict[str, int]
    num_pinned_in_tier: dict[str, int]
    pinned_until_s: float
    created_s: float
    used_s: float


class Sessions(msgspec.Struct, frozen=True, tag=True):
    """Those that were asked for, the one used last first."""

    sessions: list[SessionInfo]


class Deleted(msgspec.Struct, frozen=True, tag=True):
    """What became of a `DeleteSession`.

    Attributes:
        is_known: whether there was such a session.
        is_running: it was not deleted, as requests of it are running.
        num_blocks: are being taken away; those that other sessions need as well stay.
        is_gone: nothing of it is left anywhere that this engine knows of.
    """

    is_known: bool
    is_running: bool = False
    num_blocks: int = 0
    is_gone: bool = False


class Resumed(msgspec.Struct, frozen=True, tag=True):
    """What became of a `ResumeSession`: blocks that are in memory, and that are coming."""

    is_known: bool
    num_in_memory: int = 0
    num_coming: int = 0


class Explanation(msgspec.Struct, frozen=True, tag=True):
    """Why a prompt would, or would not, be found.

    Attributes:
        num_usable_blocks: those of the prompt that could be found: its last token is always
            computed.
        num_in_memory: blocks from the beginning that are in memory; num_loadable: those behind
            them that a tier has.
        block_index: the first block that is nowhere; None when there is none.
        cause: what became of it.
        text: all of that for a person.
    """

    num_tokens: int
    block_size_tokens: int
    num_usable_blocks: int
    num_in_memory: int
    num_loadable: dict[str, int]
    block_index: int | None
    cause: str
    text: str


Question = ListSessions | ShowSession | DeleteSession | ResumeSession | PinSession | ExplainPrompt
Reply = Sessions | Deleted | Resumed | Explanation

"""Answers questions about sessions and cached blocks."""

import numpy as np

from artesian.context import ContextCache
from artesian.context.sessions import SessionKeeper, SessionKey
from artesian.context.sessions.keeper import SessionPlaces
from artesian.context.sessions.record import tenant_of
from artesian.engine.base import Request
from artesian.engine.questions import (
    Deleted,
    DeleteSession,
    ExplainPrompt,
    Explanation,
    ListSessions,
    PinSession,
    Question,
    Reply,
    Resumed,
    ResumeSession,
    SessionInfo,
    Sessions,
    ShowSession,
)
from artesian.engine.scheduler import Scheduler
from artesian.engine.truncation import Truncator
from artesian.kvcache.hashing import BlockHasher, KvIdentity
from artesian.kvcache.prefix_cache import PrefixCache


class Answers:
    """Knows the parts of an engine that can be asked."""

    def __init__(
        self,
        cache: PrefixCache,
        scheduler: Scheduler,
        sessions: SessionKeeper,
        context: ContextCache | None,
        identity: KvIdentity,
        truncator: Truncator | None = None,
    ) -> None:
        self._cache = cache
        self._scheduler = scheduler
        self._sessions = sessions
        self._context = context
        self._identity = identity
        self._truncator = truncator

    def answer(self, question: Question) -> Reply:
        """The answer, at once."""
        match question:
            case ListSessions(salt, limit):
                places = self._sessions.sessions(tenant_of(salt), limit)
                return Sessions([_info(place) for place in places])
            case ShowSession(salt, session_id):
                place = self._sessions.find(SessionKey.of(salt, session_id))
                return Sessions([] if place is None else [_info(place)])
            case DeleteSession(salt, session_id):
                return self._delete(SessionKey.of(salt, session_id))
            case ResumeSession(salt, session_id):
                return self._resume(SessionKey.of(salt, session_id))
            case PinSession(salt, session_id, seconds):
                return self._pin(SessionKey.of(salt, session_id), seconds)
            case ExplainPrompt(salt, prompt_token_ids):
                return self._explain(salt, prompt_token_ids)

    def _delete(self, key: SessionKey) -> Deleted:
        if self._sessions.find(key) is None:
            is_going = self._sessions.is_going(key)
            return Deleted(is_known=is_going, is_gone=not is_going)
        if any(_key_of(sequence.state.request) == key for sequence in self._scheduler.sequences()):
            return Deleted(is_known=True, is_running=True)
        num_blocks = self._sessions.delete(key)
        is_gone = not self._sessions.is_going(key)
        return Deleted(is_known=True, num_blocks=num_blocks, is_gone=is_gone)

    def _pin(self, key: SessionKey, seconds: float) -> Sessions:
        place = self._sessions.find(key)
        if place is None:
            return Sessions([])
        if seconds > 0:
            self._sessions.pin(key, place.record.names, seconds)
        else:
            self._sessions.unpin(key)
        place = self._sessions.find(key)
        return Sessions([] if place is None else [_info(place)])

    def _resume(self, key: SessionKey) -> Resumed:
        place = self._sessions.find(key)
        if place is None:
            return Resumed(is_known=False)
        names = place.record.names
        hits = self._cache.lookup(names)
        num_coming = 0
        if self._context is not None:
            num_reserved = len(self._scheduler.running)
            onboarding = self._context.onboard(names, hits, num_reserved)
            num_coming = 0 if onboarding is None else len(onboarding.names)
        return Resumed(is_known=True, num_in_memory=len(hits), num_coming=num_coming)

    def _explain(self, cache_salt: str, prompt_token_ids: list[int]) -> Explanation:
        block_size = self._identity.block_size_tokens
        hashes: list[bytes] = []
        hasher = BlockHasher(self._identity, cache_salt)
        hasher.extend(hashes, np.array(prompt_token_ids, np.int32))
        num_tokens = len(prompt_token_ids)
        if self._truncator is not None and num_tokens > self._truncator.cuts.window_tokens:
            window = self._truncator.choose(hasher, hashes, num_tokens)
            num_tokens = min(window.num_tokens(num_tokens), self._truncator.cuts.window_tokens)
            hashes = [window.name(index) for index in range(num_tokens // block_size)]
        usable = hashes[: max(0, num_tokens - 1) // block_size]
        num_in_memory = len(self._cache.lookup(usable))
        rest = usable[num_in_memory:]
        num_loadable = {} if self._context is None else self._context.find(rest)
        num_found = num_in_memory + sum(num_loadable.values())
        index, cause = None, "none"
        if num_found < len(usable):
            index, cause = num_found, self._cause(usable, num_found)
        return Explanation(
            num_tokens=len(prompt_token_ids),
            block_size_tokens=block_size,
            num_usable_blocks=len(usable),
            num_in_memory=num_in_memory,
            num_loadable=num_loadable,
            block_index=index,
            cause=cause,
            text=_text(len(usable), num_in_memory, num_loadable, index, cause, block_size),
        )

    def _cause(self, usable: list[bytes], index: int) -> str:
        known = None if self._context is None else self._context.misses.cause(usable[index])
        if known is not None:
            return known
        reason = self._cache.explain_miss(usable[: index + 1]).reason
        return "evicted from memory, and in no tier" if reason == "evicted" else "never computed"


def _key_of(request: Request) -> SessionKey | None:
    return SessionKey.of(request.cache_salt, request.session_id) if request.session_id else None


def _info(place: SessionPlaces) -> SessionInfo:
    record = place.record
    return SessionInfo(
        session_id=record.key.session_id,
        num_tokens=record.num_tokens,
        num_blocks=len(record.names),
        num_in_memory=place.num_in_memory,
        num_in_tier=place.num_in_tier,
        num_pinned_in_tier=place.num_pinned_in_tier,
        pinned_until_s=record.pinned_until_s,
        created_s=record.created_s,
        used_s=record.used_s,
    )


def _text(
    num_usable: int,
    num_in_memory: int,
    num_loadable: dict[str, int],
    index: int | None,
    cause: str,
    block_size: int,
) -> str:
    if num_usable == 0:
        return f"the prompt is too short: only whole blocks of {block_size} tokens are kept"
    places = [f"{num_in_memory} in memory"]
    places += [f"{num} in the {label} tier" for label, num in num_loadable.items() if num]
    text = f"of {num_usable} blocks {', '.join(places)}"
    if index is None:
        return text + ": nothing is missing"
    first, last = index * block_size, (index + 1) * block_size - 1
    text += f"; block {index} (tokens {first} to {last}) is missing: {cause}"
    if cause == "never computed":
        text += (
            f". No prompt with this cache salt that began with the same {last + 1} tokens was "
            "computed with this model and these settings, or that was long ago"
        )
    return text

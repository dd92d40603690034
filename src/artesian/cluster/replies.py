"""What several workers answer to one question, as one answer."""

from collections.abc import Sequence
from typing import cast

import msgspec

from artesian.engine.questions import (
    Deleted,
    Explanation,
    ListSessions,
    Question,
    Reply,
    Resumed,
    SessionInfo,
    Sessions,
)


def merge(question: Question, replies: Sequence[Reply]) -> Reply:
    """One answer; `replies` are of the kind that the question has, at least one."""
    match replies[0]:
        case Sessions():
            limit = question.limit if isinstance(question, ListSessions) else 1
            infos = [info for reply in replies for info in cast(Sessions, reply).sessions]
            return Sessions(_merge_sessions(infos)[:limit])
        case Deleted():
            return _merge_deleted([cast(Deleted, reply) for reply in replies])
        case Resumed():
            resumed = [cast(Resumed, reply) for reply in replies]
            return Resumed(
                is_known=any(reply.is_known for reply in resumed),
                num_in_memory=max(reply.num_in_memory for reply in resumed),
                num_coming=max(reply.num_coming for reply in resumed),
            )
        case Explanation():
            # The worker that has most of the prompt.
            return max(
                (cast(Explanation, reply) for reply in replies),
                key=lambda e: (e.num_in_memory + sum(e.num_loadable.values()), e.num_in_memory),
            )


def _merge_deleted(replies: list[Deleted]) -> Deleted:
    """Gone is what is gone everywhere."""
    return Deleted(
        is_known=any(reply.is_known for reply in replies),
        is_running=any(reply.is_running for reply in replies),
        num_blocks=max(reply.num_blocks for reply in replies),
        is_gone=all(reply.is_gone for reply in replies),
    )


def _merge_sessions(infos: list[SessionInfo]) -> list[SessionInfo]:
    """By id, the one used last first.

    Several workers may have served a session, the last one all of it: numbers are the greatest, not
    sums, as blocks in several workers' memory are the same ones.
    """
    merged: dict[str, SessionInfo] = {}
    for info in infos:
        known = merged.get(info.session_id)
        merged[info.session_id] = info if known is None else _merge_session(known, info)
    return sorted(merged.values(), key=lambda info: info.used_s, reverse=True)


def _merge_session(one: SessionInfo, other: SessionInfo) -> SessionInfo:
    last = one if one.used_s >= other.used_s else other
    return msgspec.structs.replace(
        last,
        num_tokens=max(one.num_tokens, other.num_tokens),
        num_blocks=max(one.num_blocks, other.num_blocks),
        num_in_memory=max(one.num_in_memory, other.num_in_memory),
        num_in_tier=_greatest(one.num_in_tier, other.num_in_tier),
        num_pinned_in_tier=_greatest(one.num_pinned_in_tier, other.num_pinned_in_tier),
        pinned_until_s=max(one.pinned_until_s, other.pinned_until_s),
        created_s=min(one.created_s, other.created_s),
    )


def _greatest(one: dict[str, int], other: dict[str, int]) -> dict[str, int]:
    return {tier: max(one.get(tier, 0), other.get(tier, 0)) for tier in one | other}

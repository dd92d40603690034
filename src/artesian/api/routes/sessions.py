"""`/v1/sessions` and `/v1/cache/explain`: what is kept of conversations, and of a prompt."""

import asyncio
import time
from typing import Annotated, cast

from fastapi import APIRouter, Path, Query, Request, Response

from artesian.api.auth import salt_of
from artesian.api.errors import ApiError
from artesian.api.protocol.base import MAX_SESSION_ID_CHARS
from artesian.api.protocol.sessions import (
    CacheExplanation,
    ExplainRequest,
    PinRequest,
    Session,
    SessionDeleted,
    SessionList,
    SessionResumed,
)
from artesian.api.routes import BODY_ERRORS, errors
from artesian.api.routes.tokens import encode
from artesian.api.state import ServerState, State
from artesian.engine.questions import (
    Deleted,
    DeleteSession,
    ExplainPrompt,
    Explanation,
    ListSessions,
    PinSession,
    Resumed,
    ResumeSession,
    SessionInfo,
    Sessions,
    ShowSession,
)

router = APIRouter()

SessionId = Annotated[str, Path(min_length=1, max_length=MAX_SESSION_ID_CHARS)]
Salt = Annotated[
    str | None,
    Query(min_length=1, max_length=256, description="that of the session's requests, if any"),
]
Limit = Annotated[int, Query(ge=1, le=1000, description="so many at most")]
ERRORS = errors(400, 401, 404, 500, 503)

DELETE_TIMEOUT_S = 10.0
DELETE_INTERVAL_S = 0.02


@router.get("/v1/sessions", responses=ERRORS)
async def list_sessions(
    request: Request, state: State, cache_salt: Salt = None, limit: Limit = 100
) -> SessionList:
    """The sessions of this key that were used last."""
    reply = await state.engine.ask(ListSessions(salt_of(request, cache_salt), limit))
    return SessionList(data=[_session(info) for info in cast(Sessions, reply).sessions])


@router.get("/v1/sessions/{session_id:path}", responses=ERRORS)
async def show_session(
    session_id: SessionId, request: Request, state: State, cache_salt: Salt = None
) -> Session:
    """One session, and where its KV is."""
    question = ShowSession(salt_of(request, cache_salt), session_id)
    found = cast(Sessions, await state.engine.ask(question)).sessions
    if not found:
        raise _unknown(session_id)
    return _session(found[0])


@router.delete(
    "/v1/sessions/{session_id:path}",
    responses={
        **errors(400, 401, 404, 409, 500, 503),
        202: {"model": SessionDeleted, "description": "it goes on"},
    },
)
async def delete_session(
    session_id: SessionId,
    request: Request,
    response: Response,
    state: State,
    cache_salt: Salt = None,
) -> SessionDeleted:
    """Deletes a session's KV in memory, in every tier, and on servers that share them."""
    question = DeleteSession(salt_of(request, cache_salt), session_id)
    until = time.monotonic() + DELETE_TIMEOUT_S
    reply = cast(Deleted, await state.engine.ask(question))
    if not reply.is_known:
        raise _unknown(session_id)
    if reply.is_running:
        raise ApiError(
            409,
            "a request of the session is running or waiting; end it first",
            param="session_id",
            code="session_is_running",
        )
    num_blocks = reply.num_blocks
    while not reply.is_gone and time.monotonic() < until:
        await asyncio.sleep(DELETE_INTERVAL_S)
        reply = cast(Deleted, await state.engine.ask(question))
    response.status_code = 200 if reply.is_gone else 202
    return SessionDeleted(id=session_id, deleted=reply.is_gone, num_blocks=num_blocks)


@router.post("/v1/sessions/{session_id:path}/resume", responses=ERRORS)
async def resume_session(
    session_id: SessionId, request: Request, state: State, cache_salt: Salt = None
) -> SessionResumed:
    """Brings a session's KV into memory before its next request comes."""
    question = ResumeSession(salt_of(request, cache_salt), session_id)
    reply = cast(Resumed, await state.engine.ask(question))
    if not reply.is_known:
        raise _unknown(session_id)
    return SessionResumed(
        id=session_id,
        num_blocks_in_memory=reply.num_in_memory,
        num_blocks_coming=reply.num_coming,
    )


@router.post("/v1/sessions/{session_id:path}/pin", responses=BODY_ERRORS)
async def pin_session(
    session_id: SessionId,
    body: PinRequest,
    request: Request,
    state: State,
    cache_salt: Salt = None,
) -> Session:
    """Keeps a session's KV in the tiers for so long, as far as the budgets for that allow."""
    return await _pin(session_id, salt_of(request, cache_salt), state, body.seconds)


@router.post("/v1/sessions/{session_id:path}/unpin", responses=ERRORS)
async def unpin_session(
    session_id: SessionId, request: Request, state: State, cache_salt: Salt = None
) -> Session:
    """Lets a session's KV go like any other."""
    return await _pin(session_id, salt_of(request, cache_salt), state, 0.0)


async def _pin(session_id: str, salt: str, state: ServerState, seconds: float) -> Session:
    reply = await state.engine.ask(PinSession(salt, session_id, seconds))
    found = cast(Sessions, reply).sessions
    if not found:
        raise _unknown(session_id)
    return _session(found[0])


@router.post("/v1/cache/explain", responses=BODY_ERRORS)
async def explain(body: ExplainRequest, request: Request, state: State) -> CacheExplanation:
    """Which part of a prompt would be found now, and why the rest would not."""
    state.check_model(body.model)
    token_ids = await encode(body, state)
    question = ExplainPrompt(salt_of(request, body.cache_salt), token_ids)
    reply = cast(Explanation, await state.engine.ask(question))
    return CacheExplanation(
        explanation=reply.text,
        num_tokens=reply.num_tokens,
        block_size_tokens=reply.block_size_tokens,
        num_usable_blocks=reply.num_usable_blocks,
        num_blocks_in_memory=reply.num_in_memory,
        num_blocks_in_tiers=reply.num_loadable,
        missing_block=reply.block_index,
        cause=reply.cause,
    )


def _session(info: SessionInfo) -> Session:
    return Session(
        id=info.session_id,
        created=int(info.created_s),
        last_used=int(info.used_s),
        num_tokens=info.num_tokens,
        num_blocks=info.num_blocks,
        num_blocks_pinned_in=info.num_pinned_in_tier,
        pinned_until=int(info.pinned_until_s) or None,
        num_blocks_in={"memory": info.num_in_memory, **info.num_in_tier},
    )


def _unknown(session_id: str) -> ApiError:
    return ApiError(
        404,
        f"there is no session {session_id!r} of this API key and cache salt",
        param="session_id",
        code="session_not_found",
    )

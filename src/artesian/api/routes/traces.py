"""`/v1/traces`: what happened to the last requests of an API key."""

import time
from itertools import islice
from typing import Annotated

import msgspec
from fastapi import APIRouter, Path, Query, Request

from artesian.api.auth import key_of
from artesian.api.errors import ApiError
from artesian.api.protocol.traces import RequestTrace, TraceList, TraceSpan
from artesian.api.routes import errors
from artesian.api.state import State
from artesian.cluster.traces import Trace

router = APIRouter()

Limit = Annotated[int, Query(ge=1, le=1000, description="so many at most")]
Slowest = Annotated[bool, Query(description="those that took longest, instead of the newest")]
TraceName = Annotated[
    str, Path(min_length=1, max_length=128, description="the response's id, or x-request-id")
]


@router.get("/v1/traces", responses=errors(400, 401, 503))
async def list_traces(
    request: Request, state: State, limit: Limit = 20, slowest: Slowest = False
) -> TraceList:
    """The last requests of this key that the server still knows of."""
    key = key_of(request)
    own = (trace for trace in state.traces.recent() if trace.owner == key)
    found = sorted(own, key=took_ms, reverse=True) if slowest else own
    return TraceList(data=[shown(trace) for trace in islice(found, limit)])


@router.get("/v1/traces/{name}", responses=errors(400, 401, 404, 503))
async def show_trace(name: TraceName, request: Request, state: State) -> RequestTrace:
    """One request, while it runs too."""
    trace = state.traces.find(name, key_of(request))
    if trace is None:
        raise ApiError(
            404,
            f"there is no trace of {name!r}: the request may be too old, or of another API key",
            code="trace_not_found",
        )
    return shown(trace)


def took_ms(trace: Trace) -> float:
    """How long it took, or is taking as far as its spans tell."""
    if trace.duration_ms is not None:
        return trace.duration_ms
    return max((span.start_ms for span in trace.spans), default=0.0)


def shown(trace: Trace) -> RequestTrace:
    """A trace without what is nobody's business."""
    fields = {
        name: getattr(trace, name)
        for name in Trace.__struct_fields__
        if name not in ("owner", "parent_id", "started_s", "spans")
    }
    spans = [TraceSpan(**msgspec.structs.asdict(span)) for span in trace.spans]
    age_ms = round(max(0.0, time.time() - trace.started_s) * 1e3, 3)
    return RequestTrace(**fields, age_ms=age_ms, started=round(trace.started_s, 3), spans=spans)

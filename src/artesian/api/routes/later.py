"""Parts of OpenAI's and Anthropic's APIs that this server does not have yet."""

from fastapi import APIRouter, Request

from artesian.api.errors import ApiError

router = APIRouter(include_in_schema=False)


@router.post("/v1/embeddings")
@router.post("/v1/responses")
@router.post("/v1/messages")
@router.post("/v1/messages/count_tokens")
@router.post("/v1/audio/{rest:path}")
@router.post("/v1/images/{rest:path}")
@router.post("/v1/moderations")
@router.post("/v1/rerank")
async def not_yet(request: Request) -> None:
    """Says so."""
    path = request.url.path
    raise ApiError(
        501,
        f"{path} is not implemented yet; use /v1/chat/completions or /v1/completions",
        type_="not_implemented_error",
        code="not_implemented",
    )

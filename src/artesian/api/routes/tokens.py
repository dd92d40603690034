"""`/tokenize` and `/detokenize`."""

from fastapi import APIRouter

from artesian.api.errors import ApiError
from artesian.api.protocol.tokens import (
    DetokenizeRequest,
    DetokenizeResponse,
    TokenizeRequest,
    TokenizeResponse,
)
from artesian.api.routes import BODY_ERRORS
from artesian.api.state import ServerState, State

router = APIRouter()


@router.post("/tokenize", responses=BODY_ERRORS)
async def tokenize(body: TokenizeRequest, state: State) -> TokenizeResponse:
    """Token ids of a text or of a conversation."""
    state.check_model(body.model)
    encoder = state.prompts()
    token_ids = await encode(body, state)
    texts = [encoder.token_text(t) for t in token_ids] if body.return_token_strs else None
    return TokenizeResponse(
        count=len(token_ids),
        max_model_len=state.info().max_model_len,
        tokens=token_ids,
        token_strs=texts,
    )


@router.post("/detokenize", responses=BODY_ERRORS)
async def detokenize(body: DetokenizeRequest, state: State) -> DetokenizeResponse:
    """The text of token ids."""
    state.check_model(body.model)
    vocab_size = state.info().vocab_size
    if body.tokens and max(body.tokens) >= vocab_size:
        raise ApiError(
            400,
            f"tokens: token id {max(body.tokens)} is not below the vocabulary's size, {vocab_size}",
            param="tokens",
        )
    return DetokenizeResponse(prompt=await state.prompts().decode(body.tokens))


async def encode(body: TokenizeRequest, state: ServerState) -> list[int]:
    """Token ids of what a body holds."""
    encoder = state.prompts()
    if body.messages is None:
        return await encoder.encode(body.prompt or "", body.add_special_tokens is not False)
    return await encoder.encode_chat(
        body.messages,
        body.add_generation_prompt is not False,
        body.chat_template_kwargs or {},
        body.add_special_tokens is True,
    )

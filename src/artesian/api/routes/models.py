"""`/v1/models`."""

from fastapi import APIRouter

from artesian.api.protocol.models import ModelCard, ModelList
from artesian.api.routes import PLAIN_ERRORS
from artesian.api.state import ServerState, State

router = APIRouter()


@router.get("/v1/models", responses=PLAIN_ERRORS)
async def list_models(state: State) -> ModelList:
    """The model that is served."""
    return ModelList(data=[_card(state)])


@router.get("/v1/models/{model:path}", responses=PLAIN_ERRORS)
async def show_model(model: str, state: State) -> ModelCard:
    """The model of that name."""
    state.check_model(model)
    return _card(state)


def _card(state: ServerState) -> ModelCard:
    info = state.info()
    return ModelCard(
        id=state.model_name(),
        created=state.created,
        root=info.model_name,
        max_model_len=info.max_model_len,
    )

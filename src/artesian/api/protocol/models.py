"""`/v1/models`, `/version`, `/health` and `/ready`."""

from typing import Literal

from artesian.api.protocol.base import ApiResponse


class ModelCard(ApiResponse):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["artesian"] = "artesian"
    root: str
    max_model_len: int


class ModelList(ApiResponse):
    """All models that are served: one."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class Version(ApiResponse):
    """The server's version."""

    version: str


class Status(ApiResponse):
    """The state of the server or of its worker."""

    status: str

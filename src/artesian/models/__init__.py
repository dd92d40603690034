"""Model architectures, each about a hundred lines over `artesian.ops`."""

from artesian.models.base import Model, ModelConfig, RopeScaling
from artesian.models.registry import ARCHITECTURES, create_model

__all__ = ["ARCHITECTURES", "Model", "ModelConfig", "RopeScaling", "create_model"]

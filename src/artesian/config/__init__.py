"""Settings: one definition gives flags, environment variables, YAML keys and docs."""

from artesian.config.engine import EngineConfig

__all__ = ["EngineConfig"]

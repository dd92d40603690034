"""Settings: one definition gives flags, environment variables, YAML keys and docs."""

from artesian.config.engine import EngineConfig
from artesian.config.server import ServerConfig
from artesian.config.settings import Settings, SettingsError

__all__ = ["EngineConfig", "ServerConfig", "Settings", "SettingsError"]

"""Answers to conversations: from a model in this process, or from a server."""

from artesian.cli.answers.base import Answerer, AnswerError, Delta, Message
from artesian.config import EngineConfig, Settings


def create_answerer(settings: Settings, url: str | None, api_key: str | None) -> Answerer:
    """A server's answers when there is a `url`, else those of a model loaded here."""
    if url is not None:
        from artesian.cli.answers.fields import request_fields
        from artesian.cli.answers.remote import RemoteAnswerer

        fields = request_fields(settings)
        return RemoteAnswerer(url, api_key, settings.get("model"), fields)
    from artesian.cli.answers.local import LocalAnswerer

    return LocalAnswerer(settings.load(EngineConfig))


__all__ = ["AnswerError", "Answerer", "Delta", "Message", "create_answerer"]

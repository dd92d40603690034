"""Answers from a model in this process."""

from collections.abc import Iterator, Sequence

from artesian.cli.answers.base import AnswerError, Delta, Message
from artesian.config import EngineConfig
from artesian.engine.base import SamplingParams
from artesian.engine.factory import create_engine
from artesian.engine.llm import LLM
from artesian.loader import ChatTemplateError


class LocalAnswerer:
    """A model loaded here, for as long as this object lives."""

    def __init__(self, config: EngineConfig) -> None:
        """Loads the model. Raises `CheckpointError` or `MemoryPlanError`."""
        engine = create_engine(config)
        self.name = engine.info().model_name
        self._llm = LLM.from_engine(engine)

    def chat(self, messages: Sequence[Message], sampling: SamplingParams) -> Iterator[Delta]:
        """Answers a conversation. Raises `AnswerError`."""
        tokenizer = self._llm.tokenizer
        try:
            prompt = tokenizer.apply_chat_template(list(messages))
        except ChatTemplateError as error:
            raise AnswerError(
                str(error), "a base model only goes on with text: artesian run MODEL TEXT --raw"
            ) from error
        return self._stream(tokenizer.encode(prompt, add_special_tokens=False), sampling)

    def complete(self, prompt: str, sampling: SamplingParams) -> Iterator[Delta]:
        """Goes on with a text. Raises `AnswerError`."""
        return self._stream(self._llm.tokenizer.encode(prompt), sampling)

    def close(self) -> None:
        """Frees the model."""
        self._llm.close()

    def _stream(self, prompt_token_ids: list[int], sampling: SamplingParams) -> Iterator[Delta]:
        for output in self._llm.stream(prompt_token_ids, sampling):
            if output.error is not None:
                raise AnswerError(output.error)
            yield Delta(
                output.text,
                output.num_prompt_tokens,
                output.num_cached_tokens,
                output.num_output_tokens,
                output.finish_reason,
            )

"""Log probabilities in OpenAI's two shapes."""

from artesian.api.prompts import PromptEncoder
from artesian.api.protocol.chat import ChoiceLogprobs, TokenLogprob, TopLogprob
from artesian.api.protocol.completions import CompletionLogprobs
from artesian.engine.base import OutputLogprobs
from artesian.engine.base import TokenLogprob as EngineLogprob

# JSON has no minus infinity; OpenAI's lowest value stands for it.
MIN_LOGPROB = -9999.0


def chat_logprobs(encoder: PromptEncoder, logprobs: list[OutputLogprobs]) -> ChoiceLogprobs:
    """The shape of chat completions."""
    content = []
    for entry in logprobs:
        chosen = _top(encoder, entry.chosen)
        top = [_top(encoder, each) for each in entry.top]
        content.append(
            TokenLogprob(
                token=chosen.token, logprob=chosen.logprob, bytes=chosen.bytes, top_logprobs=top
            )
        )
    return ChoiceLogprobs(content=content)


def _top(encoder: PromptEncoder, entry: EngineLogprob) -> TopLogprob:
    raw = encoder.tokenizer.token_bytes(entry.token_id)
    return TopLogprob(
        token=raw.decode(errors="replace"),
        logprob=max(entry.logprob, MIN_LOGPROB),
        bytes=list(raw),
    )


class CompletionLogprobsBuilder:
    """The shape of plain completions: parallel lists, with offsets into the choice's text."""

    def __init__(self, encoder: PromptEncoder, with_top: bool) -> None:
        self._encoder = encoder
        self._with_top = with_top
        self._offset = 0

    def build(
        self, token_ids: list[int], logprobs: list[OutputLogprobs | None]
    ) -> CompletionLogprobs:
        """The next tokens; None stands for the first of a prompt, which nothing predicts."""
        result = CompletionLogprobs(
            tokens=[],
            token_logprobs=[],
            top_logprobs=[] if self._with_top else None,
            text_offset=[],
        )
        for token_id, entry in zip(token_ids, logprobs, strict=True):
            text = self._encoder.token_text(token_id)
            result.tokens.append(text)
            result.text_offset.append(self._offset)
            self._offset += len(text)
            result.token_logprobs.append(
                None if entry is None else max(entry.chosen.logprob, MIN_LOGPROB)
            )
            if result.top_logprobs is not None:
                result.top_logprobs.append(None if entry is None else self._top(entry))
        return result

    def _top(self, entry: OutputLogprobs) -> dict[str, float]:
        top: dict[str, float] = {}
        for each in entry.top:
            # Different tokens can look alike as text; the more likely one comes first and stays.
            text = self._encoder.token_text(each.token_id)
            top.setdefault(text, max(each.logprob, MIN_LOGPROB))
        return top

"""What one more token means for a sequence: its text, and whether it ends."""

from typing import NamedTuple

from artesian.engine.base import FinishReason
from artesian.engine.sequence import Sequence


class Progress(NamedTuple):
    """New text of a sequence (maybe none yet) and why it ended, if it did."""

    text: str
    finish_reason: FinishReason | None = None
    stop_reason: str | int | None = None


def advance(sequence: Sequence, token_id: int) -> Progress:
    """Appends a generated token and works out what follows from it. The text of a stop token is not
    shown."""
    sequence.append(token_id)
    sampling = sequence.sampling
    may_stop = sequence.num_output_tokens >= sampling.min_tokens
    if may_stop and token_id in sequence.stop_token_ids:
        reason = token_id if token_id in sampling.stop_token_ids else None
        return Progress(flush(sequence), "stop", reason)
    text, stop = sequence.stop_strings.feed(sequence.detokenizer.feed(token_id), may_stop)
    if stop is None and sequence.num_stream_tokens >= sequence.max_tokens:
        rest, stop = sequence.stop_strings.feed(sequence.detokenizer.flush(), may_stop)
        text += rest
        if stop is None:
            return Progress(text + sequence.stop_strings.flush(), "length")
    if stop is not None:
        return Progress(text, "stop", stop)
    return Progress(text)


def flush(sequence: Sequence) -> str:
    """The text that was held back, when the sequence ends without a stop string."""
    text, _ = sequence.stop_strings.feed(sequence.detokenizer.flush(), may_stop=False)
    return text + sequence.stop_strings.flush()

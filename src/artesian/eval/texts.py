"""Public text to measure on."""

import re
from collections.abc import Sequence

_SENTENCE = re.compile(r"[^.!?]+[.!?]+[\"'\u201d\u2019)]*")
_MIN_LETTERS = 20


def standard_text() -> str:
    """The reference of the Python language, which every Python has: 460,000 characters."""
    from pydoc_data.topics import topics

    return "\n\n".join(topics[name] for name in sorted(topics))


def sentences(text: str) -> list[str]:
    """The sentences of a text, each with a space before it, without its line breaks."""
    plain = " ".join(text.split())
    found = (match[0].strip() for match in _SENTENCE.finditer(plain))
    return [f" {sentence}" for sentence in found if len(sentence) >= _MIN_LETTERS]


def passages(
    tokens: Sequence[int], prefix: Sequence[int], num_tokens: int, count: int
) -> list[list[int]]:
    """So many passages, spread over a text; they overlap where it is short.

    Args:
        tokens: the text without what begins a text.
        prefix: what begins a text, and each passage.
        num_tokens: of a passage, the prefix included.
        count: passages.

    Raises:
        ValueError: the text is shorter than a passage.
    """
    length = num_tokens - len(prefix)
    room = len(tokens) - length
    if room < 0 or length < 1:
        raise ValueError(
            f"the text has {len(tokens)} tokens: too few for a passage of {length}; name a longer "
            "text, or ask for a shorter context"
        )
    starts = [room * number // max(1, count - 1) for number in range(count)]
    return [[*prefix, *tokens[start : start + length]] for start in starts]

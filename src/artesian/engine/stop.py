"""Stop strings in text that arrives in pieces."""

from collections.abc import Sequence


class StopStrings:
    """Lets text through up to a stop string; holds back what may be the beginning of one."""

    def __init__(self, stops: Sequence[str], include_in_output: bool) -> None:
        self._stops = tuple(stops)
        self._include = include_in_output
        self._held = ""

    def feed(self, text: str, may_stop: bool = True) -> tuple[str, str | None]:
        """Takes new text; returns (text to show, stop string that ended it or None).

        With `may_stop` false (too few tokens yet) nothing ends the text.
        """
        if not self._stops:
            return text, None
        if not text:
            return "", None
        held = self._held + text
        if may_stop:
            found = [(at, stop) for stop in self._stops if (at := held.find(stop)) >= 0]
            if found:
                at, stop = min(found, key=lambda hit: (hit[0], -len(hit[1])))
                self._held = ""
                return held[: at + len(stop) * self._include], stop
        keep = self._num_held(held)
        cut = len(held) - keep
        self._held = held[cut:]
        return held[:cut], None

    def flush(self) -> str:
        """The text that was held back, when nothing follows."""
        held, self._held = self._held, ""
        return held

    def _num_held(self, text: str) -> int:
        """Length of the longest end of `text` that a stop string begins with, short of all of
        it."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for length in range(longest, 0, -1):
            end = text[-length:]
            if any(len(stop) > length and stop.startswith(end) for stop in self._stops):
                return length
        return 0

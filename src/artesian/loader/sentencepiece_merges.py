"""Derives the merges of a SentencePiece BPE vocabulary from its scores.

SentencePiece joins whichever neighbours make the token of highest score, so every way to cut a
token in two could be a merge. But what happens among a token's own characters does not depend on
its neighbours, so only one of these cuts can ever be met: the one that merging the token's own text
arrives at. Keeping only that one halves the table.
"""

from collections.abc import Mapping


class _Rules:
    """Ranks (0 merges first) and the merge found for each token so far."""

    def __init__(self, ranks: Mapping[str, int]) -> None:
        self.ranks = ranks
        self.cuts: dict[str, int] = {}

    def spine(self, token: str, rightmost: bool) -> list[tuple[str, int]]:
        """The pieces that lie at one end of `token` while it is put together, whole token first.

        With each comes the rank of the merge that uses it up; the token itself lasts.
        """
        pieces = [(token, len(self.ranks))]
        while (cut := self.cuts.get(token)) is not None:
            rank = self.ranks[token]
            token = token[cut:] if rightmost else token[:cut]
            pieces.append((token, rank))
        return pieces

    def reachable(self, left: str, right: str) -> bool:
        """Whether `left` and `right` meet before anything merges across their border."""
        ranks = self.ranks
        ends, starts = self.spine(left, True), self.spine(right, False)
        for end, end_used in ends:
            for start, start_used in starts:
                if end is left and start is right:
                    continue
                rank = ranks.get(end + start)
                # Both pieces must be there at once; on equal ranks the leftmost merge is first.
                if (
                    rank is not None
                    and rank < start_used
                    and rank < end_used
                    and max(ranks.get(end, -1), ranks.get(start, -1)) < min(end_used, start_used)
                ):
                    return False
        return True


def derive_merges(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Merges in the order in which they apply.

    Args:
        scores: token -> score of the tokens that text may be merged into; higher merges first.
    """
    # Pieces of one character start as they are, whatever their score.
    ordered = sorted((token for token in scores if len(token) > 1), key=lambda t: -scores[t])
    rules = _Rules({token: rank for rank, token in enumerate(ordered)})
    # A token's pieces are shorter than itself: by length, their cuts are known when needed.
    for token in sorted(ordered, key=len):
        cuts = [i for i in range(1, len(token)) if token[:i] in scores and token[i:] in scores]
        if len(cuts) > 1:
            cuts = [i for i in cuts if rules.reachable(token[:i], token[i:])]
        if cuts:
            rules.cuts[token] = cuts[0]
    return [(t[: rules.cuts[t]], t[rules.cuts[t] :]) for t in ordered if t in rules.cuts]

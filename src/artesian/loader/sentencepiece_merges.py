"""Derives the merges of a SentencePiece BPE vocabulary from its scores.

SentencePiece joins whichever neighbours make the token of highest score, so every way to cut a
token in two could be a merge. But what happens among a token's own characters does not depend on
its neighbours, so only one of these cuts can ever be met: the one that merging the token's own text
arrives at. Keeping only that one halves the table.
"""

from collections.abc import Mapping
from itertools import pairwise

# Bounds the time that a damaged file can take; real tokens are far shorter.
_MAX_TOKEN_CHARACTERS = 256


def derive_merges(scores: Mapping[str, float]) -> list[tuple[str, str]]:
    """Merges in the order in which they apply.

    Args:
        scores: token -> score of the tokens that text may be merged into; higher merges first.
    """
    # Pieces of one character start as they are, whatever their score.
    tokens = [token for token in scores if 1 < len(token) <= _MAX_TOKEN_CHARACTERS]
    tokens.sort(key=lambda token: -scores[token])
    ranks = {token: rank for rank, token in enumerate(tokens)}
    pairs = (_last_pair(token, ranks) for token in tokens)
    return [pair for pair in pairs if pair and pair[0] in scores and pair[1] in scores]


def _last_pair(token: str, ranks: Mapping[str, int]) -> tuple[str, str] | None:
    """The two pieces that `token` is joined from at last; None when merging does not get there."""
    never = len(ranks)
    pieces = list(token)
    pairs = [ranks.get(left + right, never) for left, right in pairwise(pieces)]
    while len(pairs) > 1:
        best = min(pairs)
        if best == never:
            return None
        at = pairs.index(best)
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
        del pairs[at]
        if at > 0:
            pairs[at - 1] = ranks.get(pieces[at - 1] + pieces[at], never)
        if at < len(pairs):
            pairs[at] = ranks.get(pieces[at] + pieces[at + 1], never)
    return pieces[0], pieces[1]

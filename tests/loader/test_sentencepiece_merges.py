"""The derived merges cut text as SentencePiece does: best score first, leftmost of equals."""

import random
from itertools import pairwise

from tokenizers import Tokenizer, models

from artesian.loader.sentencepiece_merges import derive_merges


def by_definition(text: str, scores: dict[str, float]) -> list[str]:
    """Joins, again and again, the neighbours that make the token of highest score."""
    pieces = list(text)
    while True:
        joined = [(scores.get(a + b), i) for i, (a, b) in enumerate(pairwise(pieces))]
        found = [(-score, i) for score, i in joined if score is not None]
        if not found:
            return pieces
        _, i = min(found)
        pieces[i : i + 2] = [pieces[i] + pieces[i + 1]]


def test_same_pieces_as_the_definition() -> None:
    for seed in range(40):
        source = random.Random(seed)
        letters = "ab" if seed % 2 else "abcd"
        words = {"".join(source.choices(letters, k=source.randint(2, 6))) for _ in range(25)}
        names = [*letters, *sorted(words)]
        order = list(range(len(names)))
        source.shuffle(order)
        scores = {name: -float(rank) for name, rank in zip(names, order, strict=True)}
        vocabulary = {name: index for index, name in enumerate(names)}
        merges = derive_merges(scores)
        assert len({a + b for a, b in merges}) == len(merges)
        library = Tokenizer(models.BPE(vocabulary, merges))
        for _ in range(60):
            text = "".join(source.choices(letters, k=source.randint(1, 30)))
            assert library.encode(text).tokens == by_definition(text, scores), (seed, text)


def test_merges_come_best_first() -> None:
    scores = {"a": -3.0, "b": -4.0, "ab": -2.0, "aab": -1.0}
    assert derive_merges(scores) == [("a", "ab"), ("a", "b")]

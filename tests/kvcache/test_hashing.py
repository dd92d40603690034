"""Names of blocks: the published vectors, and that nothing that matters is left out."""

import re
import struct
import subprocess
import sys
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from artesian.attention import SparseAttention
from artesian.kvcache.hashing import (
    BlockHasher,
    KvIdentity,
    approximate_name,
    encode_field,
    window_name,
)
from artesian.kvcache.kind import EXACT, KvKind
from artesian.skip import SkipSet

TOKENS = np.arange(8, dtype=np.int32)
PLAIN = KvIdentity("model", "f16", 4)
SECOND = bytes.fromhex("ef3191888436c2090e93e117822042343342360a59da14229da6e4ca0f5a242d")
SKIPPED = SkipSet((12, 51), (1.0, 1.0625)).identity
PROGRESSIVE = SparseAttention(selector="progressive").identity
DOCS = Path(__file__).resolve().parents[2] / "docs" / "KV_BLOCKS.md"


def names(hasher: BlockHasher, tokens: np.ndarray = TOKENS) -> list[str]:
    hashes: list[bytes] = []
    hasher.extend(hashes, tokens)
    return [block_hash.hex() for block_hash in hashes]


def test_published_vectors() -> None:
    computed = [
        *names(BlockHasher(PLAIN)),
        *names(BlockHasher(PLAIN, "tenant")),
        *names(BlockHasher(KvIdentity("model", "f16", 4, namespace="blue"))),
        *names(
            BlockHasher(
                KvIdentity("model", "f16", 4, extra={"attention": "full", "adapter": "none"})
            )
        ),
        *names(BlockHasher(PLAIN), np.array([2**31 - 1, 0, 1, 65536], np.int32)),
        *(
            window_name(SECOND, window=8, sinks=1, step=4, start=start, cut=cut).hex()
            for start, cut in [(0, 1), (0, 2), (2, 2)]
        ),
        *(
            approximate_name(SECOND, skip=skip, attention=attention).hex()
            for skip, attention in [("", PROGRESSIVE), (SKIPPED, ""), (SKIPPED, PROGRESSIVE)]
        ),
    ]
    assert computed == re.findall(r"`([0-9a-f]{64})`", DOCS.read_text())


def test_the_documented_encoding_gives_the_first_vector() -> None:
    fields = (
        b"artesian.kv",
        struct.pack("<I", 1),
        b"",
        b"",
        b"model",
        b"f16",
        struct.pack("<I", 4),
        b"",
        struct.pack("<4I", 0, 1, 2, 3),
    )
    message = b"".join(struct.pack("<I", len(value)) + value for value in fields) + bytes(4)
    assert blake3(message).hexdigest() == names(BlockHasher(PLAIN))[0]


def test_the_documented_encoding_of_a_window_gives_its_vectors() -> None:
    places = {(8, 1, 4, 0, 1), (8, 1, 4, 0, 2), (8, 1, 4, 2, 2), (8, 0, 4, 0, 1), (8, 1, 3, 0, 1)}
    found = set()
    for window, sinks, step, start, cut in places:
        place = struct.pack("<5I", window, sinks, step, start, cut)
        fields = (b"artesian.kv.window", struct.pack("<I", 1), SECOND, place)
        message = b"".join(struct.pack("<I", len(value)) + value for value in fields)
        name = window_name(SECOND, window=window, sinks=sinks, step=step, start=start, cut=cut)
        assert name == blake3(message).digest()
        found.add(name)
    assert len(found) == len(places)


def test_the_documented_encoding_of_an_approximation_gives_its_vectors() -> None:
    skipped = blake2b(b"12:1 51:1.0625", digest_size=12).hexdigest()
    progressive = "progressive 0.95 0 0 1024"
    for skip, attention in [("", progressive), (skipped, ""), (skipped, progressive)]:
        fields = (
            b"artesian.kv.approximate",
            struct.pack("<I", 1),
            SECOND,
            skip.encode(),
            attention.encode(),
        )
        message = b"".join(struct.pack("<I", len(value)) + value for value in fields)
        name = approximate_name(SECOND, skip=skip, attention=attention)
        assert name == blake3(message).digest()


def test_kinds_of_kv_have_names_of_their_own() -> None:
    assert EXACT.dense_name(SECOND) == EXACT.sparse_name(SECOND) == SECOND
    sparse = KvKind(attention=PROGRESSIVE)
    assert sparse.dense_name(SECOND) == SECOND
    budget = SparseAttention(selector="progressive", budget_tokens=512).identity
    kinds = [sparse, KvKind(attention=budget), KvKind(skip=SKIPPED)]
    kinds += [KvKind(skip=SKIPPED, attention=PROGRESSIVE)]
    assert len({SECOND, *(kind.sparse_name(SECOND) for kind in kinds)}) == 5
    assert kinds[2].dense_name(SECOND) == kinds[3].dense_name(SECOND) != SECOND


def test_what_has_no_influence_is_in_no_identity() -> None:
    assert SparseAttention().identity == SkipSet().identity == ""
    some = [SparseAttention(selector="top-k", budget_tokens=64, epsilon=e) for e in (0.5, 0.9)]
    assert some[0].identity == some[1].identity


@pytest.mark.parametrize(
    ("identity", "salt"),
    [
        (KvIdentity("other", "f16", 4), ""),
        (KvIdentity("model", "f32", 4), ""),
        (KvIdentity("model", "f16", 4, namespace="n"), ""),
        (KvIdentity("model", "f16", 4, extra={"a": "b"}), ""),
        (KvIdentity("mode", "lf16", 4), ""),  # same text, other fields
        (PLAIN, "salt"),
    ],
)
def test_everything_that_changes_numbers_changes_names(identity: KvIdentity, salt: str) -> None:
    assert not set(names(BlockHasher(identity, salt))) & set(names(BlockHasher(PLAIN)))


def test_a_name_depends_on_all_tokens_before() -> None:
    changed = TOKENS.copy()
    changed[0] = 99
    plain, other = names(BlockHasher(PLAIN)), names(BlockHasher(PLAIN), changed)
    assert plain[0] != other[0]
    assert plain[1] != other[1]


def test_extending_in_steps_gives_the_same_names_and_skips_the_open_block() -> None:
    hasher = BlockHasher(PLAIN)
    hashes: list[bytes] = []
    for end in range(1, 8):
        hasher.extend(hashes, TOKENS[:end])
        assert len(hashes) == end // 4
    hasher.extend(hashes, TOKENS)
    assert [h.hex() for h in hashes] == names(hasher)


def test_a_block_of_the_wrong_size_is_refused() -> None:
    with pytest.raises(ValueError, match="a block holds 4 tokens, got 3"):
        BlockHasher(PLAIN).block_hash(b"", TOKENS[:3])


def test_names_are_the_same_in_another_process() -> None:
    code = (
        "import numpy as np; from artesian.kvcache import BlockHasher, KvIdentity;"
        "h=[]; BlockHasher(KvIdentity('model','f16',4)).extend(h, np.arange(8, dtype=np.int32));"
        "print(h[1].hex())"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert output.stdout.strip() == names(BlockHasher(PLAIN))[1]


@given(st.lists(st.binary(max_size=6), max_size=5), st.lists(st.binary(max_size=6), max_size=5))
def test_no_two_lists_of_fields_encode_alike(left: list[bytes], right: list[bytes]) -> None:
    same = b"".join(map(encode_field, left)) == b"".join(map(encode_field, right))
    assert same == (left == right)

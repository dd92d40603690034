"""Reference counts, names and eviction, by example and against a model of all invariants."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from artesian.kvcache import Arena, OutOfBlocksError, PrefixCache


def chain(text: str) -> list[bytes]:
    """Names of a sequence's blocks; each tells its ancestors."""
    return [text[: i + 1].encode() for i in range(len(text))]


def store(cache: PrefixCache, text: str) -> list[int]:
    """Computes and holds the blocks of `text`, one letter each."""
    hashes = chain(text)
    blocks = cache.lookup(hashes)
    cache.acquire(blocks)
    for block_hash in hashes[len(blocks) :]:
        blocks.append(cache.name(cache.allocate(), block_hash))
    return blocks


def test_released_blocks_are_found_again() -> None:
    cache = PrefixCache(Arena(8, 64))
    blocks = store(cache, "abcd")
    cache.release(blocks)
    assert cache.num_used_blocks == 0
    assert cache.lookup(chain("abcx")) == blocks[:3]
    assert cache.lookup(chain("xbcd")) == []


def test_leaves_are_evicted_first_and_the_longest_unused_before_others() -> None:
    cache = PrefixCache(Arena(6, 64))
    cache.release(store(cache, "abc"))
    cache.release(store(cache, "axy"))
    store(cache, "q")  # takes the last free block
    kept = store(cache, "r")
    assert len(cache.lookup(chain("abc"))) == 2
    assert len(cache.lookup(chain("axy"))) == 3
    store(cache, "s")
    assert len(cache.lookup(chain("abc"))) == 1
    cache.release(kept)
    assert cache.stats.num_evicted_blocks == 2


def test_held_blocks_are_never_evicted() -> None:
    cache = PrefixCache(Arena(3, 64))
    store(cache, "abc")
    with pytest.raises(OutOfBlocksError, match="all 3"):
        cache.allocate()


def test_equal_content_computed_twice_is_kept_once() -> None:
    cache = PrefixCache(Arena(4, 64))
    first, second = cache.allocate(), cache.allocate()
    assert cache.name(first, b"a") == first
    assert cache.name(second, b"a") == first
    assert cache.num_used_blocks == 1
    cache.release([first])
    cache.release([first])
    with pytest.raises(ValueError, match="not held"):
        cache.release([first])


def test_a_miss_is_explained() -> None:
    cache = PrefixCache(Arena(3, 64))
    cache.release(store(cache, "abc"))
    assert str(cache.explain_miss(chain("abc"))) == "all 3 blocks are cached"
    assert str(cache.explain_miss(chain("abx"))) == "block 2 of 3 was never stored"
    cache.release(store(cache, "z"))
    assert str(cache.explain_miss(chain("abc"))) == "block 2 of 3 was evicted"


def test_clear_drops_what_is_idle_only() -> None:
    cache = PrefixCache(Arena(8, 64))
    held = store(cache, "ab")
    cache.release(store(cache, "xyz"))
    assert cache.clear() == 3
    assert cache.lookup(chain("ab")) == held
    assert cache.lookup(chain("xyz")) == []


def test_releasing_without_keeping_forgets() -> None:
    cache = PrefixCache(Arena(8, 64))
    cache.release(store(cache, "ab"), keep_named=False)
    assert cache.num_cached_blocks == 0
    assert cache.allocator.num_free_blocks == 8


class CacheMachine(RuleBasedStateMachine):
    """Sequences that come, grow and go in any order; every block's content is tracked beside."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = PrefixCache(Arena(7, 64))
        self.sequences: list[tuple[str, list[int]]] = []
        self.content: dict[int, str] = {}

    @rule(text=st.text("ab", min_size=1, max_size=5))
    def start(self, text: str) -> None:
        hits = self.cache.lookup(chain(text))
        for index, block in enumerate(hits):
            assert self.content[block] == text[: index + 1], "a hit with other content"
        self.cache.acquire(hits)
        self.sequences.append((text, hits))

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def grow(self, data: st.DataObject) -> None:
        text, blocks = data.draw(st.sampled_from(self.sequences))
        if len(blocks) == len(text):
            return
        prefix = text[: len(blocks) + 1]
        try:
            block = self.cache.allocate()
        except OutOfBlocksError:
            assert self.cache.num_available_blocks == 0
            return
        self.content[block] = prefix
        blocks.append(self.cache.name(block, prefix.encode()))
        assert self.content[blocks[-1]] == prefix

    @precondition(lambda self: self.sequences)
    @rule(data=st.data(), keep=st.booleans())
    def stop(self, data: st.DataObject, keep: bool) -> None:
        index = data.draw(st.integers(0, len(self.sequences) - 1))
        _, blocks = self.sequences.pop(index)
        self.cache.release(blocks, keep)

    @invariant()
    def what_is_held_is_counted(self) -> None:
        held = {block for _, blocks in self.sequences for block in blocks}
        assert self.cache.num_used_blocks == len(held)
        for text, blocks in self.sequences:
            for index, block in enumerate(blocks):
                assert self.content[block] == text[: index + 1], "a held block was overwritten"


class KeepingMachine(CacheMachine):
    """As caching is normally on: nothing is forgotten, so no cached block lacks its parent."""

    @precondition(lambda self: self.sequences)
    @rule(data=st.data())
    def stop(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.sequences) - 1))
        _, blocks = self.sequences.pop(index)
        self.cache.release(blocks)

    @invariant()
    def parents_outlive_children(self) -> None:
        known = self.cache._block_of
        assert all(len(name) == 1 or name[:-1] in known for name in known)


TestCache = CacheMachine.TestCase
TestKeepingCache = KeepingMachine.TestCase
TestCache.settings = TestKeepingCache.settings = settings(max_examples=60, deadline=None)

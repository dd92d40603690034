"""The cache."""

import pytest

from artesian.pool import Cache, Pool, PoolUsageError
from tests.pool.conftest import Spawn, line


@pytest.fixture
def cache(pool: Pool) -> Cache:
    return pool.cache("cache", "1MiB")


def test_a_cache_keeps_its_limit(cache: Cache) -> None:
    for number in range(4000):
        cache.put(f"key{number}", bytes(1000))
    stats = cache.stats()
    assert stats.max_bytes == 1 << 20
    assert stats.num_puts == 4000
    assert stats.num_evictions > 2000
    assert stats.used_bytes <= 1 << 20
    assert 500 < stats.num_keys < 1100
    found = sum(cache.get(f"key{number}") is not None for number in range(4000))
    # Other clients may keep back what they know of their use; there are none.
    assert abs(found - stats.num_keys) < 50
    assert sum(expert.weight for expert in stats.experts) == pytest.approx(1)
    assert [expert.name for expert in stats.experts] == ["quick-demotion", "lru"]


def test_what_is_used_stays(pool: Pool) -> None:
    cache = pool.cache("few", max_keys=200, algorithms=["lru"])
    num_lost = 0
    for number in range(3000):
        cache.put(f"key{number}", b"v")
        if not cache.touch("key0"):
            num_lost += 1
            cache.put("key0", b"v")
    # A sample may happen to hold no other key; unused, it would be lost some fifteen times.
    assert num_lost <= 7
    assert cache.stats().num_keys <= 200
    assert cache.stats().hit_ratio > 0.9


def test_operations(cache: Cache) -> None:
    assert cache.get("k") is None
    assert cache.get("k", 7) == 7
    assert "k" not in cache
    cache.put("k", b"1")
    cache.put("k", b"2", ttl=60)
    assert cache.get("k") == b"2"
    assert cache.get_or_put("k", lambda: b"3") == b"2"
    assert cache.delete("k")
    assert not cache.delete("k")
    assert not cache.touch("k")
    assert cache.get_or_put("k", lambda: b"3") == b"3"
    assert cache.get("k") == b"3"
    assert repr(cache) == f"Cache('cache' of {cache.pool.address})"


def test_wrong_use(pool: Pool, cache: Cache) -> None:
    with pytest.raises(PoolUsageError, match="a cache needs a limit"):
        pool.cache("none")
    with pytest.raises(PoolUsageError, match="fortune"):
        pool.cache("none", "1MiB", algorithms=["fortune"])
    with pytest.raises(PoolUsageError, match="sample of 0"):
        pool.cache("none", "1MiB", sample=0)
    with pytest.raises(PoolUsageError, match=r"Cache|cache"):
        pool.store("cache")
    with pytest.raises(PoolUsageError, match="default"):
        pool.cache("default", "1MiB")
    with pytest.raises(TypeError):
        cache.put("k", 5)  # type: ignore[arg-type]


def test_processes_share_it(pool: Pool, cache: Cache, spawn: Spawn) -> None:
    cache.put("k", b"mine")
    child = spawn(
        """
        cache = Pool(name).cache("cache", "9MiB")
        print(cache.get("k"), cache.stats().max_bytes)
        cache.put("theirs", b"x" * 100)
        for number in range(3000):
            cache.put(f"key{number}", bytes(1000))
        print("done")
        """
    )
    # It stays as it was made.
    assert line(child) == f"b'mine' {1 << 20}"
    assert line(child) == "done"
    for number in range(1500):
        cache.put(f"other{number}", bytes(1000))
    assert cache.stats().used_bytes <= 1.2 * (1 << 20)


ALL = "quick-demotion lru mru fifo lfu lfuda gds gdsf size lru-2 lrfu lirs hyperbolic"


@pytest.mark.parametrize("algorithm", ALL.split())
def test_all_algorithms(pool: Pool, algorithm: str) -> None:
    cache = pool.cache(algorithm, max_keys=50, algorithms=[algorithm], adaptive=False)
    for number in range(300):
        cache.put(str(number), bytes(number))
        cache.get(str(number // 2))
    assert 0 < cache.stats().num_keys <= 50

"""The cache drops what was not used for the longest time, by size."""

from __future__ import annotations

from astrbot_api.runtime.lru_cache import LruCache


def test_the_value_that_was_not_used_for_the_longest_time_is_dropped() -> None:
    cache = LruCache[str, str](3)
    for key in "abc":
        assert cache.put(key, key.upper()) == key.upper()
    assert cache.get("a") == "A"
    cache.put("d", "D")
    assert [key for key in "abcd" if key in cache] == ["a", "c", "d"]
    assert cache.get("b") is None


def test_sizes_of_replaced_and_removed_values_do_not_count() -> None:
    cache = LruCache[str, str](10)
    cache.put("a", "long", 9)
    cache.put("a", "short", 4)
    cache.put("b", "other", 6)
    assert (cache.size, cache.pop("a"), cache.pop("a"), cache.size) == (10, "short", None, 6)
    cache.put("c", "too long", 11)
    assert cache.size == 0

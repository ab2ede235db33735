"""A bounded memory forgets what was used longest ago."""

from services.message.cache import Cache


def test_the_least_recently_used_goes_first() -> None:
    """Whether it was put, put again or only asked for: it was used."""
    cache: Cache[str, int] = Cache(3)
    for key in "abc":
        cache.put(key, ord(key))
    assert cache.get("a") == ord("a")
    cache.put("b", 1)
    cache.put("d", 2)
    assert [cache.get(key) for key in "abcd"] == [ord("a"), 1, None, 2]


def test_what_was_dropped_is_forgotten() -> None:
    """To drop what is not there does no harm."""
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    for _ in range(2):
        cache.drop("a")
    assert cache.get("a") is None

"""What may be measured at all: nobody holds messages back, on neither side."""

import pytest

from scripts.bench.conditions import HIGH_QUOTA, Unfit, in_words, require_no_limits

FREE = {f"{side}-pager": HIGH_QUOTA for side in ("connector", "provider")}


def test_without_limits_it_may_be_measured() -> None:
    """Every connector and every provider runs with the profile of benchmarks."""
    require_no_limits(FREE)


@pytest.mark.parametrize("profile", ["real", ""])
@pytest.mark.parametrize("job", FREE)
def test_a_limit_on_either_side_refuses(job: str, profile: str) -> None:
    """Whoever keeps the real limits, or does not say, is named, and nobody else."""
    with pytest.raises(Unfit, match=f"kept by: {job}\\.$"):
        require_no_limits({**FREE, job: profile})


def test_the_real_limits_are_told() -> None:
    """Of an account and of one recipient, with what may come at once."""
    quota = {
        "account_per_s": 80,
        "account_burst": 100,
        "recipient_interval_s": 6.0,
        "recipient_burst": 45,
    }
    assert in_words(quota) == "80/s per account, 0.167/s per recipient (bursts 100, 45)"
    assert in_words(None) == "not told by this release"

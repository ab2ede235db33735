"""Versions are read from what programs say and compared as numbers."""

import pytest

from scripts.tools.versions import Accepted, find_version


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Nomad v1.11.3\nBuildDate 2026-02-05", "1.11.3"),
        ("go version go1.26.8 linux/amd64", "1.26.8"),
        ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", "1.95.0"),
        ('openjdk version "17.0.15" 2025-04-15', "17.0.15"),
        ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)", "15.18"),
        ("db version v7.0.5", "7.0.5"),
        ("no number here", None),
    ],
)
def test_find_version(text: str, version: str | None) -> None:
    """The first dotted number that stands by itself is the version."""
    assert find_version(text) == version


@pytest.mark.parametrize(
    ("version", "accepted"),
    [("1.9.9", False), ("1.10", True), ("1.11.3", True), ("1.12.0", False), ("2.0", False)],
)
def test_accepted_range(version: str, accepted: bool) -> None:  # noqa: FBT001 - a column of the table
    """Too old and too new are both refused, and 1.9 is older than 1.10."""
    assert (version in Accepted("1.10", "1.12")) is accepted

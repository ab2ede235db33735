"""One typed configuration, with all problems at once."""

import pytest
from msgspec import Struct

from services.runtime.config import InvalidConfig, Secret, load


class Nested(Struct, forbid_unknown_fields=True):
    """A structured value."""

    token: Secret


class Example(Struct, kw_only=True):
    """A configuration."""

    name: str
    port: int
    ratio: float = 0.5
    accounts: dict[str, Nested] = {}


def test_the_environment_stands_over_consul_and_both_over_defaults() -> None:
    """A value is looked for in the environment, then in Consul, then in the code."""
    found = load(Example, {"NAME": "a", "PORT": "1"}, {"port": "2", "ratio": "0.9"})
    assert found == Example(name="a", port=1, ratio=0.9)


def test_all_problems_are_named_at_once() -> None:
    """Whoever starts a process learns everything that is wrong with one look, and no value."""
    with pytest.raises(InvalidConfig) as raised:
        load(Example, {"PORT": "x", "ACCOUNTS": '{"main": {"token": "short-secret"}}'}, {})
    names = [problem.split()[0] for problem in raised.value.problems]
    assert names == ["NAME", "PORT", "ACCOUNTS"]
    assert "short-secret" not in str(raised.value)


def test_structured_values_are_json() -> None:
    """A dictionary of structs is read from JSON and validated."""
    text = '{"main": {"token": "0123456789abcdef"}}'
    found = load(Example, {"NAME": "a", "PORT": "1", "ACCOUNTS": text}, {})
    assert found.accounts["main"].token == "0123456789abcdef"

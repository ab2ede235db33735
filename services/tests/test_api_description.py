"""The whole public API as it is described to strangers."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from openapi_spec_validator import validate

from services.api_gateway.description import INFO, OWN, TAGS, guarded
from services.contracts.problems import CATALOGUE
from services.message.channel_routes import ChannelRoutes
from services.message.conversation_routes import ConversationRoutes
from services.message.routes import MessageRoutes
from services.runtime.http.openapi import document, part_of
from services.runtime.http.routes import endpoints_of
from services.user.routes import ApiKeyRoutes, UserRoutes

NOTHING = cast("Any", SimpleNamespace())
MESSAGE = (
    MessageRoutes(NOTHING, NOTHING, NOTHING, NOTHING),
    ConversationRoutes(NOTHING, NOTHING, NOTHING, NOTHING),
    ChannelRoutes(NOTHING),
)
USER = (UserRoutes(NOTHING), ApiKeyRoutes(NOTHING))


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    """Return the description as the gateway puts it together."""
    parts = [part_of(*MESSAGE), part_of(*USER)]
    return document(INFO, TAGS, [*map(guarded, parts), OWN])


def operations(described: dict[str, Any]) -> list[dict[str, Any]]:
    """Return every operation."""
    return [one for methods in described["paths"].values() for one in methods.values()]


def test_it_is_valid(described: dict[str, Any]) -> None:
    """A validator of the standard takes it, and every operation has a name of its own."""
    validate(described)
    names = [operation["operationId"] for operation in operations(described)]
    assert len(set(names)) == len(names)


def test_it_is_complete(described: dict[str, Any]) -> None:
    """Every public endpoint is there, with words, a known tag and the scope that it takes."""
    for owner in (*MESSAGE, *USER):
        for _, route in endpoints_of(owner):
            operation = described["paths"][route.path][route.method.lower()]
            assert operation["security"][0]["api_key"]
            assert operation["summary"]
            assert operation["tags"][0] in TAGS


def test_it_tells_nothing_of_the_inside(described: dict[str, Any]) -> None:
    """No internal route and no internal header is in it."""
    text = str(described)
    for word in ("/internal/", "X-Suggested-Id", "X-Api-Key-Id", "X-Expect-Service"):
        assert word not in text


def test_every_error_is_in_the_table(described: dict[str, Any]) -> None:
    """A stranger finds each code with its status and its meaning."""
    for code, (status, title) in CATALOGUE.items():
        assert f"| {status} | `{code}` | {title} |" in described["info"]["description"]

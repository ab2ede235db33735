"""The whole public API as it is described to strangers."""

from types import SimpleNamespace
from typing import Any, cast

import pytest
from openapi_spec_validator import validate

from services.api_gateway.description import INFO, OWN, TAGS, guarded
from services.contracts.problems import CATALOGUE
from services.message.channel_routes import ChannelRoutes
from services.message.conversation_routes import ConversationRoutes
from services.message.letter_routes import LetterRoutes
from services.message.routes import MessageRoutes
from services.runtime.http.openapi import PROBLEM_TYPE, document, part_of
from services.runtime.http.routes import endpoints_of
from services.user.routes import ApiKeyRoutes, UserRoutes

NOTHING = cast("Any", SimpleNamespace())
MESSAGE = (
    MessageRoutes(NOTHING, NOTHING, NOTHING, NOTHING),
    ConversationRoutes(NOTHING, NOTHING, NOTHING, NOTHING),
    ChannelRoutes(NOTHING),
    LetterRoutes(NOTHING, NOTHING),
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


def test_every_error_is_in_the_table_with_an_example(described: dict[str, Any]) -> None:
    """A stranger finds each code with its status and its meaning, and a body that has it."""
    for code, (status, title) in CATALOGUE.items():
        assert f"| {status} | `{code}` | {title} |" in described["info"]["description"]
        example = described["components"]["examples"][code]["value"]
        assert (example["status"], example["code"], example["title"]) == (status, code, title)


def test_every_error_is_an_answer_of_some_operation(described: dict[str, Any]) -> None:
    """Its example stands where it is answered, but for what no operation is reached by."""
    shared = described["components"]["responses"]
    answers = [
        shared[answer["$ref"].rpartition("/")[2]] if "$ref" in answer else answer
        for operation in operations(described)
        for answer in operation["responses"].values()
    ]
    problems = [answer.get("content", {}).get(PROBLEM_TYPE, {}) for answer in answers]
    shown = {code for problem in problems for code in problem.get("examples", ())}
    assert shown == CATALOGUE.keys() - {"method_not_allowed", "misdirected"}

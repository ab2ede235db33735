"""The description that is made of endpoints: valid, complete, and of nothing that is not public."""

from typing import Annotated, Any
from uuid import UUID

import pytest
from msgspec import Meta, Struct, field
from openapi_spec_validator import validate

from services.contracts.problems import CATALOGUE
from services.runtime.http.openapi import Conflict, Part, PartRoutes, document, part_of
from services.runtime.http.pages import Cursor, Page
from services.runtime.http.routes import Channel, Label, Reply, endpoint, endpoints_of

INFO = {"title": "Things", "version": "1"}


class Thing(Struct, frozen=True, forbid_unknown_fields=True):
    """A thing."""

    name: Label
    channel: Channel = "CHANNEL"


class ThingPath(Struct, frozen=True):
    """Names a thing."""

    thing_id: UUID


class ThingsQuery(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which things are wanted."""

    owner_id: UUID
    cursor: Cursor | None = None


class ThingHeaders(Struct, frozen=True):
    """What a thing is known by."""

    known_by: Annotated[str, Meta(max_length=9)] | None = field(name="Known-By", default=None)


class Things:
    """Routes to describe."""

    @endpoint(
        "POST",
        "/api/v1/things",
        status=202,
        answer=Thing,
        codes=("identity_taken",),
        answer_headers={"Thing-Age": "How old it is."},
    )
    async def add(self, body: Thing, headers: ThingHeaders) -> Reply:
        """Add a thing.

        It may take a while.
        """
        return Reply((body, headers), 202)

    @endpoint("GET", "/api/v1/things")
    async def list_things(self, query: ThingsQuery) -> Page[Thing]:
        """List things."""
        return Page([], query.cursor)

    @endpoint("DELETE", "/api/v1/things/{thing_id}")
    async def remove(self, path: ThingPath) -> None:
        """Remove a thing."""

    @endpoint("POST", "/internal/things")
    async def secret(self, body: Thing) -> Thing:
        """Do what nobody outside knows."""
        return body


class Silent:
    """Routes that do not say what they answer."""

    @endpoint("GET", "/api/v1/silence")
    async def show(self) -> Reply:
        """Show something."""
        return Reply(None, 200)


@pytest.fixture
def described() -> dict[str, Any]:
    """Return the description of the things."""
    return document(INFO, ["things"], [part_of(Things())])


def codes_of(whole: dict[str, Any], operation: dict[str, Any], status: str) -> set[str]:
    """Return the codes that an operation is said to answer with a status."""
    found = operation["responses"][status]
    if "$ref" in found:
        found = whole["components"]["responses"][found["$ref"].rpartition("/")[2]]
    return set(found["content"]["application/problem+json"]["examples"])


def test_the_description_is_valid(described: dict[str, Any]) -> None:
    """A validator of the standard takes it."""
    validate(described)


def test_only_what_is_public_is_described(described: dict[str, Any]) -> None:
    """Internal routes are left out."""
    assert set(described["paths"]) == {"/api/v1/things", "/api/v1/things/{thing_id}"}
    assert "nobody" not in str(described)


def test_parameters_are_what_is_decoded(described: dict[str, Any]) -> None:
    """Query, path and headers are described from the types that decode them, never as null."""
    paths = described["paths"]
    owner, cursor, request_id = paths["/api/v1/things"]["get"]["parameters"]
    uuid = {"type": "string", "format": "uuid"}
    assert owner == {"name": "owner_id", "in": "query", "required": True, "schema": uuid}
    assert (cursor["name"], cursor["required"]) == ("cursor", False)
    assert cursor["schema"] == {"type": "string", "maxLength": 200}
    assert request_id == {"$ref": "#/components/parameters/RequestId"}
    (thing_id, _) = paths["/api/v1/things/{thing_id}"]["delete"]["parameters"]
    assert (thing_id["in"], thing_id["required"]) == ("path", True)
    (known_by, _) = paths["/api/v1/things"]["post"]["parameters"]
    assert (known_by["name"], known_by["in"]) == ("Known-By", "header")
    assert set(described["components"]["schemas"]) == {"Thing", "Page_Thing_", "ProblemBody"}


def test_answers_are_what_is_returned(described: dict[str, Any]) -> None:
    """Status, type and headers of an answer are those of the declaration."""
    paths = described["paths"]
    accepted = paths["/api/v1/things"]["post"]["responses"]["202"]
    assert accepted["content"]["application/json"]["schema"]["$ref"].endswith("/Thing")
    limits = {"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"}
    assert set(accepted["headers"]) == {"X-Request-Id", "Thing-Age", *limits}
    listed = paths["/api/v1/things"]["get"]["responses"]["200"]
    assert listed["content"]["application/json"]["schema"]["$ref"].endswith("/Page_Thing_")
    assert "content" not in paths["/api/v1/things/{thing_id}"]["delete"]["responses"]["204"]


def test_words_come_from_the_docstring(described: dict[str, Any]) -> None:
    """The first sentence names the operation, the rest explains it."""
    operation = described["paths"]["/api/v1/things"]["post"]
    assert (operation["summary"], operation["description"]) == (
        "Add a thing",
        "It may take a while.",
    )
    assert (operation["operationId"], operation["tags"]) == ("things_add", ["things"])


def test_problems_follow_from_what_is_taken(described: dict[str, Any]) -> None:
    """What a body, a query or a path can be refused with is described, and nothing else."""
    adds = described["paths"]["/api/v1/things"]["post"]
    lists = described["paths"]["/api/v1/things"]["get"]
    removes = described["paths"]["/api/v1/things/{thing_id}"]["delete"]
    everywhere = {"401", "403", "429", "500", "503"}
    assert set(adds["responses"]) - everywhere == {"202", "400", "408", "409", "413", "415", "422"}
    assert set(lists["responses"]) - everywhere == {"200", "400"}
    assert set(removes["responses"]) - everywhere == {"204", "404", "422"}
    assert codes_of(described, adds, "400") == {"invalid_json"}
    assert codes_of(described, adds, "409") == {"identity_taken"}
    assert codes_of(described, lists, "400") == {"invalid_query"}
    assert codes_of(described, removes, "422") == {"invalid_field"}


def test_every_problem_has_an_example(described: dict[str, Any]) -> None:
    """The catalogue is described as a whole, by code and by status."""
    components = described["components"]
    assert set(components["examples"]) == set(CATALOGUE)
    for code, (status, _) in CATALOGUE.items():
        assert components["examples"][code]["value"]["status"] == status
        answer = components["responses"][f"Problem{status}"]
        assert code in answer["content"]["application/problem+json"]["examples"]
    for status in (429, 503):
        assert "Retry-After" in components["responses"][f"Problem{status}"]["headers"]


def test_patterns_are_those_of_the_standard(described: dict[str, Any]) -> None:
    """What only Python's expressions know is written as every reader knows it."""
    fields = described["components"]["schemas"]["Thing"]["properties"]
    assert fields["name"]["pattern"] == r"^[^\x00]*$"
    assert fields["channel"]["pattern"] == "^[A-Z][A-Z0-9_]{0,31}$"


def test_an_answer_without_a_type_is_a_mistake() -> None:
    """Who returns a Reply has to say what is in it."""
    with pytest.raises(TypeError, match="declared with the type of its answer"):
        part_of(Silent())


def test_parts_must_agree() -> None:
    """One name with two meanings is found out."""
    part = part_of(Things())
    assert document(INFO, [], [part, part])["paths"] == part.paths
    other = Part({}, {**part.schemas, "Thing": {"type": "string"}})
    with pytest.raises(Conflict, match="Thing"):
        document(INFO, [], [part, other])


async def test_a_service_shows_its_part() -> None:
    """The gateway is answered with what the service serves, under an internal path."""
    routes = PartRoutes(Things())
    ((_, route),) = endpoints_of(routes)
    assert route.path == "/internal/openapi"
    assert set((await routes.part()).paths) == {"/api/v1/things", "/api/v1/things/{thing_id}"}

"""The user service's API over a real socket, on a real PostgreSQL."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from services.contracts.people import ContactQuery
from services.runtime.health import Health
from services.runtime.http.routes import routes_of
from services.runtime.http.server import create, internal_guard
from services.runtime.postgres import Postgres, migrate, open_pool
from services.user.routes import ApiKeyRoutes, InternalRoutes, UserRoutes
from services.user.store import Event, Store, Taken

pytestmark = pytest.mark.connected

TOKEN = "a-token-of-this-test"
Call = Any


@pytest.fixture
async def store(postgres_address: str, postgres_password: str) -> AsyncIterator[Store]:
    """Lend the store on the test instance's database."""
    pool = await open_pool(postgres_address, postgres_password)
    await migrate(pool, "users", Path(__file__).parents[1] / "migrations")
    yield Store(cast("Postgres", SimpleNamespace(pool=pool)))
    await pool.close()


@pytest.fixture
async def call(store: Store) -> AsyncIterator[Call]:
    """Lend a function that sends a request and returns status and body."""
    app = create("user", Health(), lambda: internal_guard(TOKEN))
    for routes in (UserRoutes(store), ApiKeyRoutes(store), InternalRoutes(store)):
        app.router.add_routes(routes_of(routes))
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Api-Key-Id": "the-key"}
    async with TestServer(app) as server, aiohttp.ClientSession(headers=headers) as session:

        async def send(method: str, path: str, body: object = None) -> tuple[int, Any]:
            async with session.request(method, server.make_url(path), json=body) as answer:
                text = await answer.read()
                return answer.status, await answer.json(content_type=None) if text else None

        yield send


def address() -> str:
    """Return a telephone number that no other test uses."""
    return str(uuid4().int)[:15]


async def audit(store: Store) -> list[Event]:
    """Return the whole audit log."""
    lines: list[Event] = []
    while page := await store.audit(lines[-1].audit_id if lines else None, 100):
        lines += page
    return lines


async def new_user(call: Call) -> str:
    """Create a customer; return the id."""
    status, user = await call("POST", "/api/v1/users", {"kind": "CUSTOMER", "name": "Ana 👋"})
    assert status == 201
    return str(user["user_id"])


def contact(where: str, **changes: Any) -> ContactQuery:
    """Return the question who is behind an address."""
    given = {"channel": "CHANNEL", "account": "main", "account_scoped": False, "address": where}
    return ContactQuery(**{**given, **changes})


async def test_a_user_is_created_shown_and_renamed(call: Call) -> None:
    """What was created is shown, and a new name replaces the old."""
    user_id = await new_user(call)
    _, shown = await call("GET", f"/api/v1/users/{user_id}")
    assert (shown["name"], shown["kind"]) == ("Ana 👋", "CUSTOMER")
    await call("PATCH", f"/api/v1/users/{user_id}", {"name": "Bia"})
    assert (await call("GET", f"/api/v1/users/{user_id}"))[1]["name"] == "Bia"


async def test_an_address_belongs_to_one_user(call: Call) -> None:
    """Nobody can take it again, its user as little as another, who can once it was given up."""
    first, second, where = await new_user(call), await new_user(call), address()
    body = {"user_id": first, "channel": "CHANNEL", "address": where}
    status, identity = await call("POST", "/api/v1/identities", body)
    assert status == 201
    for taker in (first, second):
        status, problem = await call("POST", "/api/v1/identities", {**body, "user_id": taker})
        assert (status, problem["code"], problem["field"]) == (409, "identity_taken", "address")
    assert (await call("DELETE", f"/api/v1/identities/{identity['identity_id']}"))[0] == 204
    assert (await call("POST", "/api/v1/identities", {**body, "user_id": second}))[0] == 201


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/api/v1/users", {"kind": "ROBOT", "name": "a"}, 422, "invalid_field"),
        ("POST", "/api/v1/users", {"kind": "AGENT", "name": ""}, 422, "invalid_field"),
        ("POST", "/api/v1/users", {"kind": "AGENT", "name": "a\0"}, 422, "invalid_field"),
        ("POST", "/api/v1/users", {"kind": "AGENT"}, 422, "missing_field"),
        ("GET", f"/api/v1/users/{uuid4()}", None, 404, "not_found"),
        ("GET", "/api/v1/users/x", None, 422, "invalid_field"),
        ("GET", "/api/v1/users?limit=0", None, 400, "invalid_query"),
        ("GET", "/api/v1/users?limit=101", None, 400, "invalid_query"),
        ("GET", "/api/v1/users?cursor=AAAA", None, 400, "invalid_query"),
        ("DELETE", f"/api/v1/identities/{uuid4()}", None, 404, "not_found"),
        ("DELETE", f"/api/v1/api-keys/{uuid4()}", None, 404, "not_found"),
        ("POST", "/api/v1/api-keys", {"name": "a", "scopes": ["all"]}, 422, "invalid_field"),
        ("POST", "/api/v1/api-keys", {"name": "a", "scopes": []}, 422, "invalid_field"),
        (
            "POST",
            "/api/v1/identities",
            {"user_id": str(uuid4()), "channel": "CHANNEL", "address": "nobody's"},
            422,
            "unknown_user",
        ),
    ],
)
async def test_mistakes_are_refused(
    call: Call, method: str, path: str, body: object, status: int, code: str
) -> None:
    """Each mistake has its status and its code."""
    answered, problem = await call(method, path, body)
    assert (answered, problem["code"]) == (status, code)


async def test_pages_hold_still_while_users_arrive(call: Call) -> None:
    """A walk over pages meets everybody once who was there when it began."""
    ids = [await new_user(call) for _ in range(7)]
    path, seen = "/api/v1/users?limit=100", []
    while path:
        _, page = await call("GET", path)
        seen += [item["user_id"] for item in page["items"]]
        await new_user(call)
        cursor = page["next_cursor"]
        path = f"/api/v1/users?limit=100&cursor={cursor}" if cursor else ""
    assert [user_id for user_id in seen if user_id in ids] == ids


async def test_a_key_is_shown_once_and_ends_with_its_revocation(call: Call) -> None:
    """The key verifies by its hash until it is revoked, and no list shows it."""
    body = {"name": "client", "scopes": ["messages:write"]}
    status, made = await call("POST", "/api/v1/api-keys", body)
    assert status == 201
    question = {"sha256": hashlib.sha256(made["key"].encode()).hexdigest()}
    status, grant = await call("POST", "/internal/api-keys/verify", question)
    assert (status, grant["scopes"]) == (200, ["messages:write"])
    _, page = await call("GET", "/api/v1/api-keys?limit=100")
    assert made["key"] not in str(page)
    assert (await call("DELETE", f"/api/v1/api-keys/{made['key_id']}"))[0] == 204
    assert (await call("POST", "/internal/api-keys/verify", question))[0] == 404


async def test_the_installations_first_key_is_stored_once(store: Store) -> None:
    """A start after the first changes nothing, also when the key was revoked meanwhile."""
    digest = hashlib.sha256(uuid4().bytes).hexdigest()
    key = await store.add_api_key("installation", "bootstrap", digest, ["admin"])
    await store.revoke_api_key("the-key", key.key_id)
    with pytest.raises(Taken):
        await store.add_api_key("installation", "bootstrap", digest, ["admin"])
    assert await store.grant(digest) is None
    lines = [line for line in await audit(store) if line.subject == key.key_id]
    assert [line.action for line in lines] == ["api_key.added", "api_key.revoked"]


async def test_a_strangers_messages_make_one_customer(store: Store) -> None:
    """However many first messages arrive at once, their sender becomes one user."""
    where = address()
    found = await asyncio.gather(
        *(store.contact(contact(where, name="Zé", account=f"a{n}")) for n in range(12))
    )
    assert len({person.user_id for person in found}) == 1
    assert found[0].name == "Zé"
    identities = await store.identities(found[0].user_id, None, 10)
    assert [identity.address for identity in identities] == [where]


@pytest.mark.parametrize(
    ("label", "written", "kept"),
    [
        ("a NUL inside", "Z\0é", "Zé"),
        ("nothing but NUL", "\0", None),
        ("longer than a name may be", "é" * 300, "é" * 200),
    ],
)
async def test_no_strangers_name_is_in_the_way(
    store: Store, label: str, written: str, kept: str | None
) -> None:
    """Whatever a customer is called at the provider, the message finds its sender."""
    where = address()
    found = await store.contact(contact(where, name=written))
    assert found.name == (kept or where), label
    (identity,) = await store.identities(found.user_id, None, 10)
    assert identity.name == kept, label


async def test_an_address_may_mean_somebody_within_one_account_only(store: Store) -> None:
    """Where addresses are an account's own, the same one is another person elsewhere."""
    where = address()
    first = await store.contact(contact(where, account_scoped=True, account="one"))
    second = await store.contact(contact(where, account_scoped=True, account="two"))
    again = await store.contact(contact(where, account_scoped=True, account="one"))
    assert first.user_id != second.user_id
    assert first.user_id == again.user_id


async def test_people_are_found_with_all_their_addresses(call: Call) -> None:
    """Those who exist are answered with their addresses; the others are left out."""
    user_id = await new_user(call)
    for channel in ("ONE", "TWO"):
        body = {"user_id": user_id, "channel": channel, "address": address()}
        await call("POST", "/api/v1/identities", body)
    _, people = await call("POST", "/internal/people", {"user_ids": [user_id, str(uuid4())]})
    assert [person["user_id"] for person in people["items"]] == [user_id]
    assert [a["channel"] for a in people["items"][0]["addresses"]] == ["ONE", "TWO"]


async def test_every_operation_is_audited(call: Call, store: Store) -> None:
    """The log says who did what to whom."""
    user_id = await new_user(call)
    mine = [line for line in await audit(store) if str(line.subject) == user_id]
    assert [(line.actor, line.action) for line in mine] == [("the-key", "user.added")]
